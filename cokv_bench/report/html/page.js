"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const root = document.documentElement;

  const { load, make, themes } = page;

  // Figures

  const drawn = new Map(); // element -> plot
  // Pixels: width below which lines are not named at their ends, and height of their plot and of a row of the legend.
  const NARROW = 620;
  const NARROW_HEIGHT = 340;
  const LEGEND_ROW = 19;

  function theme() {
    const style = getComputedStyle(root);
    return (name) => style.getPropertyValue(name).trim();
  }

  /** A copy in which colours that are properties of the page's style, such as "--ink", are those of the theme. */
  function coloured(value, colour) {
    if (Array.isArray(value)) return value.map((item) => coloured(item, colour));
    if (value === null || typeof value !== "object") return value;
    const named = (key, item) => key.endsWith("color") && typeof item === "string" && item.startsWith("--");
    return Object.fromEntries(Object.entries(value).map(
      ([key, item]) => [key, named(key, item) ? colour(item) : coloured(item, colour)]));
  }

  /** The name of a line behind the sign of its markers, which has the line's colour. */
  const signed = ({ sign, text, ...place }) =>
    ({ ...place, text: `${sign} <span style="color: ${theme()("--ink")}">${text}</span>` });

  function draw(element, plot) {
    drawn.set(element, plot);
    const colour = theme();
    const map = plot.data.length > 0 && plot.data[0].type === "heatmap";
    const narrow = element.clientWidth < NARROW;
    // Lines are named at their ends where there is room, else in a legend above them.
    const named = !narrow && plot.named ? plot.named : null;
    const entries = named || map ? [] : plot.data.filter((trace) => trace.name !== undefined);
    const across = Math.max(1, Math.floor(element.clientWidth / (40 + 7 * Math.max(0, ...entries.map((e) => e.name.length)))));
    const legend = entries.length > 1 ? LEGEND_ROW * Math.ceil(entries.length / across) : 0;
    const axis = {
      gridcolor: colour("--line"), zerolinecolor: colour("--line"), linecolor: colour("--line"), automargin: true,
      showgrid: !map, fixedrange: narrow || map || named !== null,
    };
    const { xaxis, yaxis, margin } = coloured(plot.layout, colour);
    const layout = {
      height: (narrow && plot.named ? NARROW_HEIGHT : plot.height) + legend,
      font: { color: colour("--ink"), size: narrow ? 11 : 12, family: "system-ui, sans-serif" },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      margin: { l: 50, r: named ? Math.min(named.right, element.clientWidth / 3) : 12, t: 12, b: 45, ...margin },
      legend: { orientation: "h", traceorder: "normal", y: 1.02, yanchor: "bottom", x: 0 },
      showlegend: legend > 0, xaxis: { ...axis, ...xaxis }, yaxis: { ...axis, ...yaxis }, hoverlabel: { align: "left" },
      annotations: named ? coloured(named.annotations, colour).map(signed) : [],
      shapes: named ? coloured(named.shapes, colour) : [],
    };
    // Places of names hold for fixed margins alone.
    if (named) { layout.xaxis.automargin = false; layout.yaxis.automargin = "left"; }
    Plotly.react(element, coloured(plot.data, colour), layout, {
      responsive: true, displaylogo: false, displayModeBar: false,
    });
  }

  function show(holder, plots) {
    const maps = holder.classList.contains("maps");
    if (maps) holder.classList.toggle("broad", plots[0].data[0].x.length > 15);
    for (const plot of plots) {
      const cell = make("div");
      if (maps) cell.append(make("h3", "", plot.title));
      const target = make("div");
      cell.append(target);
      holder.append(cell);
      draw(target, plot);
    }
  }

  async function figures() {
    const all = await load("figures");
    const seen = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        seen.unobserve(entry.target);
        show(entry.target, all[Number(entry.target.dataset.figure)]);
      }
    }, { rootMargin: "400px" });
    for (const holder of document.querySelectorAll("[data-figure]")) {
      holder.style.minHeight = "120px";
      seen.observe(holder);
    }
    for (const select of document.querySelectorAll("select[data-group]")) {
      const group = byId(select.dataset.group).querySelectorAll(".figure");
      const choose = () => group.forEach((figure, index) => { figure.hidden = index !== select.selectedIndex; });
      select.addEventListener("change", choose);
      select.closest("label").hidden = false;
      choose();
    }
  }

  /** Four digits that count, as in the other tables. */
  function spoken(value) {
    return value === null ? "" : String(Number.isInteger(value) ? value : Number(value.toPrecision(4)));
  }

  /** Of two maps: the base-2 logarithm of the ratio, or the difference; null where either has no number. */
  function difference(kind, one, other) {
    const pair = (a, b) => (a === null || b === null ? null : kind.ratio ? Math.log2(a / b) : a - b);
    return one.rows.map((row, y) => row.map((value, x) => pair(value, other.rows[y][x])));
  }

  /** The figure whose two maps the reader picks: any map, and any other of the same kind. */
  async function pairs(figure) {
    const kinds = await load(figure.dataset.pairs);
    const [one, other] = figure.querySelectorAll("select");
    const all = kinds.flatMap((kind) => kind.maps.map((map) => ({ kind, map })));
    for (const kind of kinds) {
      const group = make("optgroup");
      group.label = kind.name;
      all.forEach((each, place) => {
        if (each.kind === kind) group.append(new Option(`${each.map.name}, ${kind.name}`, place));
      });
      one.append(group);
    }

    /** Offers what the first map can be compared with, the choice kept where it is still there. */
    function offer() {
      const { kind, map } = all[one.value];
      const kept = other.value;
      other.replaceChildren();
      all.forEach((each, place) => {
        if (each.kind === kind && each.map !== map) other.append(new Option(each.map.name, place));
      });
      if ([...other.options].some((option) => option.value === kept)) other.value = kept;
    }

    function compare() {
      const [{ kind, map: first }, { map: second }] = [all[one.value], all[other.value]];
      const rows = difference(kind, first, second);
      const largest = Math.max(...rows.flat().map((value) => Math.abs(value)));
      // So that ratios of little more or less than one look like it.
      const end = kind.ratio ? Math.max(1, largest) : largest || 1;
      const plot = structuredClone(kind.plot);
      const data = plot.data[0];
      const told = (value, y, x) => `${spoken(value)} (${spoken(first.rows[y][x])} and ${spoken(second.rows[y][x])})`;
      plot.title = `${first.name} against ${second.name}`;
      data.z = rows.map((row) => row.map((value) => (value === null ? null : (1 + value / end) / 2)));
      data.text = rows.map((row) => row.map((value) => spoken(value)));
      data.customdata = rows.map((row, y) => row.map((value, x) => told(value, y, x)));
      data.hovertemplate = data.hovertemplate.replace("%{text}", "%{customdata}");
      const holder = figure.querySelector(".maps");
      for (const element of holder.querySelectorAll(".js-plotly-plot")) { drawn.delete(element); Plotly.purge(element); }
      holder.replaceChildren();
      holder.setAttribute("aria-label", `${plot.title}; its numbers are in the table below`);
      show(holder, [plot]);
      figure.querySelector("[role=status]").textContent = `${plot.title}. ${kind.about}`;
      figure.querySelector(".scale > span").textContent = kind.unit;
      figure.querySelectorAll(".ticks > span").forEach((tick, place) => {
        tick.textContent = spoken(Number((end * (place / 2 - 1)).toPrecision(3)));
      });
      tabulate(kind, [[first.name, first.rows], [second.name, second.rows], [kind.unit, rows]]);
    }

    function tabulate(kind, blocks) {
      const table = figure.querySelector("table");
      const line = (tag, cells) => {
        const row = make("tr");
        row.append(...cells.map((cell) => make(tag, "", cell)));
        return row;
      };
      table.tHead.replaceChildren(line("th", kind.header));
      for (const cell of table.tHead.rows[0].cells) cell.scope = "col";
      table.tBodies[0].replaceChildren(...blocks.flatMap(([name, rows]) =>
        rows.map((row, y) => line("td", [name, kind.plot.data[0].y[y], ...row.map(spoken)]))));
    }

    one.addEventListener("change", () => { offer(); compare(); });
    other.addEventListener("change", compare);
    one.value = 1;
    offer();
    figure.hidden = false;
    compare();
  }

  // Predictions

  const RIGHT = 0.5;
  const PAGE = 50;

  async function predictions() {
    if (!byId("answers")) return;
    const data = await load("answers");
    const count = data.example.length;
    const full = data.variants.findIndex(([method]) => method === "full");
    const fullOf = new Int32Array(data.examples.length).fill(-1); // example -> record of FullKV
    for (let record = 0; record < count; record++) {
      if (data.variant[record] === full) fullOf[data.example[record]] = record;
    }
    const form = byId("filters");
    const field = (name) => form.elements.namedItem(name);
    const offer = (name, values) => {
      const select = field(name);
      for (const [value, label] of [["", "all"], ...values]) select.append(new Option(label, value));
      select.closest("label").hidden = values.length < 2;
    };
    const unique = (values) => [...new Set(values)];
    offer("run", data.runs.map((name, index) => [String(index), name]));
    offer("task", data.tasks.map((name, index) => [String(index), name]));
    offer("method", unique(data.variants.map(([method]) => method)).map((name) => [name, name]));
    const budgets = unique(data.variants.map(([, budget]) => budget).filter((budget) => budget !== null));
    // Numbers of tokens first, then shares of the prompt such as "25%".
    const order = (a, b) => (typeof a === "string") - (typeof b === "string") || parseFloat(a) - parseFloat(b);
    offer("budget", budgets.sort(order).map((budget) => [String(budget), String(budget)]));
    field("outcome").closest("label").hidden = full < 0;

    // Where contexts have several questions each of them is told, and counted, by itself.
    const noun = data.examples.some((example) => example[5]) ? "question" : "example";

    let found = [];
    let page = 0;
    let query = "";

    function filter() {
      query = field("search").value.trim().toLowerCase();
      const [run, task, method, budget, outcome] =
        ["run", "task", "method", "budget", "outcome"].map((name) => field(name).value);
      // Each text is searched once, however often it was answered.
      const strings = query ? data.strings.map((text) => text.toLowerCase().includes(query)) : null;
      const examples = data.examples.map(([ofRun, ofTask, id, question, answers]) => {
        if ((run && ofRun !== Number(run)) || (task && ofTask !== Number(task))) return 0;
        const here = !query || strings[question] || answers.some((answer) => strings[answer])
          || id.toLowerCase().includes(query);
        return here ? 2 : 1; // 1: only records whose own text matches
      });
      const variants = data.variants.map(([name, size]) =>
        (!method || name === method) && (!budget || String(size) === budget));
      found = [];
      for (let record = 0; record < count; record++) {
        const example = data.example[record];
        if (!examples[example] || !variants[data.variant[record]]) continue;
        if (examples[example] === 1 && !strings[data.text[record]]) continue;
        if (outcome) {
          if (fullOf[example] < 0) continue;
          const fullRight = data.score[fullOf[example]] >= RIGHT;
          const right = data.score[record] >= RIGHT;
          if (fullRight === right || fullRight !== (outcome === "lost")) continue;
        }
        found.push(record);
      }
      page = 0;
      render();
    }

    /** Text with what was searched for marked; never markup. */
    function said(index) {
      const text = data.strings[index];
      const element = make("div", "said");
      if (!text.trim()) { element.append(make("span", "empty", "(no text)")); return element; }
      element.tabIndex = 0;
      const lower = text.toLowerCase();
      let from = 0;
      // Where lower case has another length, places in it are not places in the text.
      for (let at = lower.indexOf(query); query && lower.length === text.length && at >= 0;
        at = lower.indexOf(query, from)) {
        element.append(text.slice(from, at), make("mark", "", text.slice(at, at + query.length)));
        from = at + query.length;
      }
      element.append(text.slice(from));
      return element;
    }

    function answer(record) {
      const [method, budget] = data.variants[data.variant[record]];
      const row = make("div", "answer");
      row.append(make("div", "", budget === null ? method : `${method} ${budget}`));
      row.append(make("div", "score", `${(100 * data.score[record]).toFixed(1)}%`));
      row.append(said(data.text[record]));
      return row;
    }

    function card(example) {
      const [run, task, id, question, answers, place] = data.examples[example];
      const element = make("article", "example");
      const head = make("div", "head");
      head.append(make("strong", "", data.tasks[task]), ` ${id}`);
      if (place) head.append(` · ${place}`);
      if (data.runs.length > 1) head.append(` · ${data.runs[run]}`);
      const list = make("dl");
      const tell = (term, texts) => {
        if (!texts.length) return;
        const description = make("dd");
        description.append(...texts.map(said));
        list.append(make("dt", "", term), description);
      };
      tell("Question", question < 0 ? [] : [question]);
      tell(answers.length > 1 ? "References" : "Reference", answers);
      if (list.childElementCount) head.append(list);
      element.append(head);
      return element;
    }

    function render() {
      const list = byId("answers-list");
      list.replaceChildren();
      const pages = Math.max(1, Math.ceil(found.length / PAGE));
      const shown = found.slice(page * PAGE, (page + 1) * PAGE);
      let current = -1;
      let element = null;
      for (const record of shown) {
        if (data.example[record] !== current) {
          current = data.example[record];
          element = card(current);
          list.append(element);
          const whole = fullOf[current];
          // To compare with, where the filters leave it out.
          if (whole >= 0 && !shown.includes(whole)) element.append(answer(whole));
        }
        element.append(answer(record));
      }
      const examples = new Set(found.map((record) => data.example[record])).size;
      const [some, all, of] = [found.length, count, examples].map((number) => number.toLocaleString("en"));
      byId("count").textContent = `${some} of ${all} answers, ${of} ${noun}${examples === 1 ? "" : "s"}`;
      byId("where").textContent = `Page ${page + 1} of ${pages}`;
      byId("previous").disabled = page === 0;
      byId("next").disabled = page + 1 >= pages;
      byId("previous").closest("p").hidden = pages < 2;
    }

    const turn = (step) => { page += step; render(); byId("predictions").scrollIntoView(); };
    byId("previous").addEventListener("click", () => turn(-1));
    byId("next").addEventListener("click", () => turn(1));
    let waiting = 0;
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("change", filter);
    form.addEventListener("input", (event) => {
      if (event.target.type !== "search") return;
      clearTimeout(waiting);
      waiting = setTimeout(filter, 150);
    });
    form.hidden = false;
    filter();
  }

  const redraw = () => drawn.forEach((plot, element) => draw(element, plot));
  themes(redraw);
  matchMedia(`(max-width: ${NARROW}px)`).addEventListener("change", redraw);
  figures().catch((error) => { byId("overview").append(make("p", "", `Figures: ${error.message}`)); });
  for (const figure of document.querySelectorAll("[data-pairs]")) {
    pairs(figure).catch((error) => { figure.hidden = false; figure.append(make("p", "", error.message)); });
  }
  predictions().catch((error) => { byId("count").textContent = error.message; });
})();
