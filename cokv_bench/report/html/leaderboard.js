"use strict";
(() => {
  const { load, themes } = page;
  const controls = document.getElementById("controls");
  const articles = [...document.querySelectorAll(".board")];
  // How a comparison ended; 0 is within noise.
  const [DIFFERS, UNEQUAL, BLIND] = [1, 2, 3];
  const FEW = "So few examples that no difference of any size could be significant.";

  // Which rows are shown

  function offer(name, values) {
    const select = controls.elements.namedItem(name);
    select.append(new Option("all", ""), ...[...new Set(values)].map((value) => new Option(value, value)));
    select.closest("label").hidden = select.options.length < 3;
  }

  function filter() {
    const value = (name) => controls.elements.namedItem(name).value;
    const query = value("search").trim().toLowerCase();
    const section = value("section");
    let shown = 0;
    for (const article of articles) {
      const fits = ["model", "benchmark", "measured"].every((name) => !value(name) || article.dataset[name] === value(name));
      let here = 0;
      for (const body of article.querySelectorAll("tbody")) {
        let rows = 0;
        for (const row of body.querySelectorAll("tr[data-name]")) {
          row.hidden = !(row.dataset.entry === undefined || row.dataset.name.toLowerCase().includes(query));
          if (!row.hidden && row.dataset.entry !== undefined) rows += 1;
        }
        // The full cache has no budget, and stays.
        const full = body.dataset.section === "";
        body.hidden = full ? false : rows === 0 || (section !== "" && body.dataset.section !== section);
        if (!full && !body.hidden) here += rows;
      }
      for (const set of article.querySelectorAll(".set")) {
        set.hidden = ![...set.querySelectorAll("tbody")].some((body) => body.dataset.section !== "" && !body.hidden);
      }
      article.hidden = !fits || here === 0;
      shown += article.hidden ? 0 : here;
    }
    const boards = articles.filter((article) => !article.hidden).length;
    document.getElementById("count").textContent =
      `${shown.toLocaleString("en")} rows in ${boards} ${boards === 1 ? "group" : "groups"} of tables`;
  }

  // What rows are compared with

  function signed(value, decimals) {
    const told = value.toFixed(decimals);
    if (Number(told) === 0) return told.replace("-", "");
    return value > 0 ? `+${told}` : told.replace("-", "−");
  }

  /** The texts of the last four cells of a row. */
  function against(data, section, entry, reference) {
    if (entry === reference) return ["reference", "", "", ""];
    const found = data.found.get(`${section} ${entry} ${reference}`);
    if (found === undefined) return ["none in common", "", "", ""];
    const [difference, low, high, p, n, state] = found;
    if (state === UNEQUAL) return ["unequal totals", "", "", String(n)];
    const mark = state === DIFFERS ? "†" : state === BLIND ? "§" : "";
    const ends = low === null || high === null ? "" : `${signed(low, data.decimals)} to ${signed(high, data.decimals)}`;
    return [signed(difference, data.decimals) + mark, ends, p < 0.001 ? "<0.001" : p.toFixed(3), String(n)];
  }

  function compare(article, data, originals) {
    const select = article.querySelector("select[name=reference]");
    const chosen = select.value;
    for (const heading of article.querySelectorAll(".against")) {
      heading.textContent = `difference from ${chosen === "" ? "the best row" : data.entries[chosen]}`;
    }
    for (const row of article.querySelectorAll("tr[data-entry]")) {
      const section = row.closest("tbody").dataset.section;
      const texts = chosen === "" ? originals.get(row) : against(data, section, Number(row.dataset.entry), Number(chosen));
      [...row.cells].slice(-4).forEach((cell, place) => { cell.textContent = texts[place]; });
      const difference = [...row.cells].at(-4);
      const blind = texts[0].endsWith("§");
      difference.classList.toggle("blind", blind);
      if (blind) difference.title = FEW; else difference.removeAttribute("title");
      row.classList.toggle("reference", texts[0] === "reference");
    }
  }

  function comparing(article, data) {
    data.found = new Map();
    const turned = (value) => (value === null ? null : -value);
    for (const [section, pairs] of Object.entries(data.pairs)) {
      for (const [one, other, difference, low, high, p, n, state] of pairs) {
        data.found.set(`${section} ${one} ${other}`, [difference, low, high, p, n, state]);
        data.found.set(`${section} ${other} ${one}`, [turned(difference), turned(high), turned(low), p, n, state]);
      }
    }
    const originals = new Map([...article.querySelectorAll("tr[data-entry]")].map(
      (row) => [row, [...row.cells].slice(-4).map((cell) => cell.textContent)]));
    const select = article.querySelector("select[name=reference]");
    select.addEventListener("change", () => compare(article, data, originals));
    select.closest("label").hidden = false;
    compare(article, data, originals);
  }

  // The order of rows

  function sorting(heading) {
    heading.tabIndex = 0;
    heading.title = "Sort by this column";
    const order = () => {
      const table = heading.closest("table");
      const descending = heading.getAttribute("aria-sort") !== "descending" && heading.dataset.sort === "number"
        || heading.getAttribute("aria-sort") === "ascending";
      for (const each of table.querySelectorAll("[aria-sort]")) each.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      const number = (told) => parseFloat(told.replace("−", "-").replace("<", ""));
      const key = (row) => {
        const told = row.cells[heading.cellIndex].textContent;
        return heading.dataset.sort === "text" ? told : told === "reference" ? 0 : number(told);
      };
      const compared = (a, b) => {
        if (heading.dataset.sort === "text") return a.localeCompare(b, "en");
        // What has no number comes last.
        return Number.isNaN(a) - Number.isNaN(b) || (a - b) * (descending ? -1 : 1);
      };
      for (const body of table.tBodies) {
        const rows = [...body.querySelectorAll("tr[data-name]")].map((row) => [key(row), row]);
        rows.sort(([a], [b]) => (heading.dataset.sort === "text" && descending ? compared(b, a) : compared(a, b)));
        body.append(...rows.map(([, row]) => row));
      }
    };
    heading.addEventListener("click", order);
    heading.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      order();
    });
  }

  themes(() => {});
  for (const name of ["model", "benchmark", "measured"]) offer(name, articles.map((article) => article.dataset[name]));
  const sections = [...document.querySelectorAll("tbody[data-section]")].map((body) => body.dataset.section);
  // The mean, then tokens, then shares of the prompt.
  const rank = (section) => (section === "mean" ? -1 : parseFloat(section) + (section.endsWith("%") ? 1e12 : 0));
  offer("section", sections.filter((section) => section !== "").sort((a, b) => rank(a) - rank(b)));
  controls.hidden = false;
  controls.addEventListener("submit", (event) => event.preventDefault());
  controls.addEventListener("input", filter);
  filter();
  for (const heading of document.querySelectorAll("th[data-sort]")) sorting(heading);
  load("boards-data").then((boards) => {
    for (const article of articles) comparing(article, boards[Number(article.dataset.board)]);
  }).catch((error) => { document.getElementById("count").textContent = error.message; });
})();
