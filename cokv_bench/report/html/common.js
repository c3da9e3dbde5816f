"use strict";
/** What the scripts of all pages share. */
const page = (() => {
  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);

  /** Data of the page: JSON, or gzip of JSON in base64. Throws where the browser cannot unpack it. */
  async function load(id) {
    const element = byId(id);
    if (element.dataset.encoding !== "gzip") return JSON.parse(element.textContent);
    if (typeof DecompressionStream === "undefined") throw new Error("This browser is too old to unpack the data.");
    const binary = atob(element.textContent);
    const bytes = new Uint8Array(binary.length);
    for (let place = 0; place < binary.length; place++) bytes[place] = binary.charCodeAt(place);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return JSON.parse(await new Response(stream).text());
  }

  function make(tag, className, text) {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  }

  /** The button that changes the theme; `redraw` is called for what does not change with the style. */
  function themes(redraw) {
    const button = byId("theme");
    const system = matchMedia("(prefers-color-scheme: dark)");
    button.hidden = false;
    button.addEventListener("click", () => {
      const dark = (root.dataset.theme || (system.matches ? "dark" : "light")) === "dark";
      root.dataset.theme = dark ? "light" : "dark";
      redraw();
    });
    system.addEventListener("change", redraw);
  }

  return { load, make, themes };
})();
