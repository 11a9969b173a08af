// The controls, and the first drawing.

function present(key) {
  const found = new Map();
  for (const subject of subjects) found.set(subject[key], true);
  return [...found.keys()];
}

function filterBy(key, name, options) {
  if (Object.keys(options).length < 2) return null;
  return chips(name, options, () => state[key], (now) => { state[key] = now; refresh(); });
}

function drawFilters() {
  const search = h("input", { type: "search", id: "search", placeholder: "gap, smoothing, NaN …", autocomplete: "off", "aria-label": "Text in a case’s name, loss or reason" });
  search.value = state.text;
  search.addEventListener("input", () => { state.text = search.value; refresh(); });
  const family = h("select", { id: "family", "aria-label": "Family" }, h("option", { value: "" }, `all ${data.families.length} families`),
    data.families.map((one) => h("option", { value: one.name }, `${one.name} (${one.cases})`)));
  family.value = state.family;
  family.addEventListener("change", () => { state.family = family.value; refresh(); });
  const kinds = Object.fromEntries(present("kind").map((kind) => [kind, KINDS[kind] ?? kind]));
  const libraries = Object.fromEntries(present("library").map((name) => [name, name]));
  const dtypes = Object.fromEntries(present("dtype").map((name) => [name, DTYPES[name] ?? name]));
  const verdicts = { pass: "pass", fail: "✕ fail", declared: "◇ declared", refused: "– not offered" };
  for (const status of Object.keys(verdicts)) if (!data.summary[status]) delete verdicts[status];
  const group = (className, ...children) => h("label", { class: `group ${className}` }, children);
  byId("filters").replaceChildren(...[
    group("search", h("span", {}, "Search"), search),
    group("", h("span", {}, "Family"), family),
    filterBy("verdict", "Verdict", verdicts), filterBy("kind", "Whose", kinds),
    filterBy("library", "Arrays", libraries), filterBy("dtype", "Precision", dtypes),
    h("button", { type: "button", id: "clear", class: "plain", onclick: clearFilters }, "Clear"),
  ].filter(Boolean));
}

function clearFilters() {
  for (const key of SETS) state[key] = new Set();
  state.family = state.text = "";
  drawFilters();
  refresh();
  byId("search").focus();
}

function refresh() {
  writeAddress();
  drawMatrix();
}

function drawControls() {
  const three = { worst: "worst", value: "value", grad: "gradient" };
  const openAll = (names) => { state.open = new Set(names); refresh(); };
  byId("matrix-controls").replaceChildren(
    chips("Error of", three, () => new Set([state.show]), (now) => { state.show = [...now][0] ?? state.show; refresh(); }, true),
    h("span", { class: "chips" },
      h("button", { type: "button", id: "open-all", onclick: () => openAll(data.families.map((one) => one.name)) }, "Open all"),
      h("button", { type: "button", id: "close-all", onclick: () => openAll([]) }, "Close all")));
  byId("key").replaceChildren(
    h("span", {}, "passes, with so much of its ", word("budget"), h("span", { class: "scale" }, [...LEVELS, 1].map((most, k) => h("span", { class: `swatch s${k}` }, `≤${percent(most)}`)))),
    h("span", {}, h("span", { class: "swatch s0" }, "✓"), "right, nothing to measure"),
    h("span", {}, h("span", { class: "swatch fail" }, "✕"), "fails, by so many times its budget (of a family: so many cases)"),
    h("span", {}, h("span", { class: "swatch fail lost" }, "✕"), "hardly a digit right, or none to measure (of a family: most fail)"),
    data.summary.declared ? h("span", {}, h("span", { class: "swatch declared" }, "◇"), word("declared")) : "",
    h("span", {}, h("span", { class: "swatch refused" }, "–"), word("not offered")));
  if (!plot.points.length) return;
  const redraw = () => { writeAddress(); drawPlot(); };
  byId("plot-controls").replaceChildren(...[
    chips("Of the", { value: "value", grad: "gradient" }, () => new Set([state.curve]),
      (now) => { state.curve = [...now][0] ?? state.curve; redraw(); }, true),
    plot.precisions.length > 1
      ? chips("In", Object.fromEntries(plot.precisions.map((name) => [name, name])), () => new Set([precision()]),
        (now) => { state.precision = [...now][0] ?? state.precision; redraw(); }, true)
      : null,
  ].filter(Boolean));
}

function drawTheme() {
  const root = document.documentElement;
  if (state.theme) root.dataset.theme = state.theme;
  else delete root.dataset.theme;
  byId("theme").textContent = `Theme: ${state.theme || "system"}`;
}

function openAddressed() {
  const [name, subject] = state.cell.split("|");
  const i = cases.findIndex((one) => one.name === name);
  const j = subjects.findIndex((one) => one.name === subject);
  if (i >= 0 && j >= 0) openPanel(i, j);
}

/** Put the meaning of a word beside the button that opens it; without this it stands in the middle. */
function placeMeanings() {
  let from = null;
  document.addEventListener("click", (event) => { from = event.target.closest("button.word") ?? from; }, true);
  document.addEventListener("toggle", (event) => {
    if (event.newState !== "open" || !from || from.getAttribute("popovertarget") !== event.target.id) return;
    const at = from.getBoundingClientRect();
    const box = event.target;
    box.style.margin = "0";
    box.style.left = `${Math.max(8, Math.min(at.left, window.innerWidth - box.offsetWidth - 8))}px`;
    const below = at.bottom + 6;
    box.style.top = `${below + box.offsetHeight < window.innerHeight ? below : Math.max(8, at.top - box.offsetHeight - 6)}px`;
  }, true);
}

function drawAll() {
  readAddress();
  readPlot();
  drawTheme();
  drawControls();
  drawFilters();
  drawPlot();
  drawMatrix();
  openAddressed();
}

function start() {
  const box = byId("box");
  box.addEventListener("keydown", moveInGrid);
  box.addEventListener("click", (event) => {
    const to = event.target.closest("td, tbody th");
    if (!to) return;
    focusCell(to);
    activate(to);
  });
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  const panel = byId("panel");
  panel.addEventListener("close", closed);
  panel.addEventListener("click", (event) => { if (event.target === panel) panel.close(); });
  byId("differs").addEventListener("click", (event) => {
    const see = event.target.closest("a.see");
    if (!see) return;
    event.preventDefault(); // as a new address it would take back the filters
    state.cell = new URLSearchParams(see.hash.slice(1)).get("cell");
    openAddressed();
  });
  placeMeanings();
  byId("theme").addEventListener("click", () => {
    const next = { "": "light", light: "dark", dark: "" };
    state.theme = next[state.theme];
    try { localStorage.setItem("theme", state.theme); } catch { /* a page of a file may keep nothing */ }
    writeAddress();
    drawTheme();
  });
  window.addEventListener("hashchange", () => {
    if (panel.open) panel.close();
    drawAll();
  });
  window.addEventListener("beforeprint", fillAll);
  let wide = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth === wide) return;
    wide = window.innerWidth;
    drawPlot();
    drawMatrix();
  });
  drawAll();
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
}

start();
