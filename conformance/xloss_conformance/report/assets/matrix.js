// The matrix: a grid of cases and subjects; the cases of a family are drawn when it is opened.

const WIDE = 31; // pixels of a column, if its head needs no more ...
const WIDER = 38; // ... and of one in which something fails
let shown = []; // subjects, as columns
let active = null; // the cell that Tab comes to

// Cells drawn at once; families beyond them wait, as tall as they will be, until they come near.
const AT_ONCE = 3000;
let drawn = 0;
const waiting = new WeakMap();
const near = new IntersectionObserver((seen) => {
  for (const one of seen) if (one.isIntersecting) fill(one.target);
}, { root: byId("box"), rootMargin: "800px" });

/** Draw the cases of a family that waits. */
function fill(later) {
  const list = waiting.get(later);
  if (!list || !later.isConnected) return;
  near.unobserve(later);
  waiting.delete(later);
  later.replaceWith(...list.map(caseRow));
}

function fillAll() {
  for (const later of byId("box").querySelectorAll("tr.later")) fill(later);
}

/** The subjects that fail somewhere. */
const failing = new Set(subjects.map((_, j) => j).filter((j) => cases.some((_, i) => cells.status(i, j) === "fail")));

/** The cell of a case, or of several: how it looks and what it says. */
function face(list, j) {
  const counts = { pass: 0, fail: 0, declared: 0, refused: 0 };
  let worst = NaN;
  let lostOnes = 0;
  for (const i of list) {
    const status = cells.status(i, j);
    if (!status) continue;
    counts[status] += 1;
    const off = share(i, j, state.show);
    if (status === "fail" && lost(ulp(i, j, "worst"), j)) lostOnes += 1;
    if ((status === "pass" || list.length === 1) && !(off <= worst) && !Number.isNaN(off)) worst = off;
  }
  const wanted = !state.verdict.size || [...state.verdict].some((status) => counts[status]);
  const dim = wanted ? "" : " dim";
  const one = list.length === 1;
  if (counts.fail) {
    const size = !one ? counts.fail : worst > 1 ? brief(worst) : "";
    const most = one ? lostOnes : lostOnes && counts.fail > (list.length - counts.refused) / 2;
    return [`fail${most ? " lost" : ""}${dim}`, `✕${size}`, one ? `fails${worst > 1 ? `, ${ofBudget(worst)}` : ""}` : `${counts.fail} of ${list.length} fail`];
  }
  if (counts.declared) {
    return [`declared${dim}`, one ? "◇" : `◇${counts.declared}`, `${one ? "" : `${counts.declared} `}declared, not counted as failing`];
  }
  if (counts.pass) {
    const off = Number.isNaN(worst);
    return [`s${off ? 0 : level(worst)}${dim}`, off ? "✓" : percent(worst), off ? "passes" : `passes, ${ofBudget(worst)}`];
  }
  return [`refused${dim}`, counts.refused ? "–" : "", counts.refused ? "not offered" : "not run"];
}

function cell(list, j) {
  const [look, text, label] = face(list, j);
  const made = document.createElement("td");
  made.className = look;
  made.textContent = text;
  made.tabIndex = -1;
  made.setAttribute("role", "gridcell");
  made.setAttribute("aria-label", label);
  return made;
}

function row(head, list, className) {
  const made = h("tr", { role: "row", class: className }, head);
  let kind = null;
  let name = null;
  for (const j of shown) {
    const td = cell(list, j);
    const of = title(subjects[j]);
    if (kind !== subjects[j].kind || name !== of) td.classList.add("first");
    kind = subjects[j].kind;
    name = of;
    made.append(td);
  }
  return made;
}

function section(family, list) {
  const open = isOpen(family);
  const head = h("th", { role: "rowheader", scope: "row", tabindex: -1, title: family }, family, h("small", {}, String(list.length)));
  const sum = row(head, list, "sum");
  sum.setAttribute("aria-expanded", String(open));
  sum.dataset.family = family;
  const body = h("tbody", { role: "rowgroup" }, sum);
  if (!open) return body;
  drawn += list.length * shown.length;
  if (drawn <= AT_ONCE) body.append(...list.map(caseRow));
  else {
    const later = h("tr", { role: "row", class: "later" }, h("td", { role: "gridcell", tabindex: -1, colspan: shown.length + 1 }));
    later.firstChild.style.height = `calc(var(--row) * ${list.length})`;
    waiting.set(later, list);
    near.observe(later);
    body.append(later);
  }
  return body;
}

function caseRow(i) {
  const reason = cases[i].reason;
  const made = row(h("th", { role: "rowheader", scope: "row", tabindex: -1, title: reason }, cases[i].label), [i]);
  made.dataset.case = i;
  return made;
}

const isOpen = (family) => state.open.has(family) || state.family === family;

function head(needs) {
  const spans = (key) => {
    const found = [];
    for (const j of shown) {
      const now = key(subjects[j]);
      const last = found.at(-1);
      if (last && last[0] === now) last[1] += 1;
      else found.push([now, 1, subjects[j]]);
    }
    return found;
  };
  const kinds = spans((subject) => subject.kind);
  const names = spans((subject) => `${subject.kind} ${title(subject)}`);
  for (const [, span, subject] of names) {
    const least = Math.ceil((title(subject).length * 5.9 + 10) / span);
    for (let k = 0; k < span; k += 1) needs.push(Math.max(failing.has(shown[needs.length]) ? WIDER : WIDE, least));
  }
  const th = (text, attributes) => h("th", { role: "columnheader", ...attributes, title: text }, text);
  let last = "";
  return h("thead", { role: "rowgroup" },
    h("tr", { role: "row" }, h("th", { class: "corner", rowspan: 3, role: "columnheader" }, "family, case"),
      kinds.map(([kind, span]) => h("th", { role: "columnheader", colspan: span, class: "kind first" }, h("span", {}, KINDS[kind] ?? kind)))),
    h("tr", { role: "row" }, names.map(([, span, subject]) =>
      th(title(subject), { colspan: span, class: "of first" }))),
    h("tr", { role: "row" }, shown.map((j) => {
      const subject = subjects[j];
      const key = `${subject.kind} ${title(subject)}`;
      const first = key !== last;
      last = key;
      return h("th", { scope: "col", role: "columnheader", class: first ? "first" : null, title: `${subject.name}, ${subject.version}` }, DTYPES[subject.dtype] ?? subject.dtype);
    })));
}

function drawMatrix() {
  shown = columns();
  drawn = 0;
  near.disconnect();
  const found = rows(shown);
  const total = [...found.values()].reduce((sum, list) => sum + list.length, 0);
  const few = !shown.length || !total;
  byId("count").textContent = few ? "Nothing matches."
    : `${plural(total, "case")} in ${plural(found.size, "family", "families")}, ${plural(shown.length, "subject")}`;
  const box = byId("box");
  if (few) {
    box.replaceChildren(h("p", { class: "empty" }, "No case and subject match these filters. ",
      h("button", { type: "button", onclick: clearFilters }, "Clear the filters")));
    active = null;
    return;
  }
  const needs = [];
  const thead = head(needs);
  const label = window.innerWidth <= 640 ? 124 : 200;
  const natural = label + needs.reduce((a, b) => a + b, 0);
  const roomy = Math.max(1, Math.min(2.2, (box.clientWidth - label) / (natural - label)));
  const table = h("table", { class: "matrix", role: "grid", "aria-label": "Cases and subjects", "aria-readonly": "true" },
    h("colgroup", {}, h("col"), needs.map(() => h("col"))), thead);
  [...table.firstChild.children].forEach((col, k) => {
    col.style.width = k ? `${Math.floor(needs[k - 1] * roomy)}px` : `${label}px`;
  });
  table.style.setProperty("--label", `${label}px`);
  table.style.width = `${label + needs.reduce((a, b) => a + Math.floor(b * roomy), 0)}px`;
  const all = row(h("th", { role: "rowheader", scope: "row", tabindex: -1 }, "all", h("small", {}, String(total))), [...found.values()].flat(), "sum all");
  table.append(h("tbody", { role: "rowgroup" }, all));
  for (const [family, list] of found) table.append(section(family, list));
  const [x, y] = [box.scrollLeft, box.scrollTop];
  box.replaceChildren(table);
  box.style.setProperty("--head", `${thead.offsetHeight}px`);
  box.scrollTo(x, y);
  makeActive(table.tBodies[1].rows[0].cells[0]);
}

function makeActive(to) {
  if (active) active.tabIndex = -1;
  active = to;
  active.tabIndex = 0;
}

/** Focus a cell and bring it out from under the sticky head and column. */
function focusCell(to) {
  makeActive(to);
  to.focus({ preventScroll: true });
  const box = byId("box");
  const pinned = to.parentElement.classList.contains("sum");
  const outer = box.getBoundingClientRect();
  const inner = to.getBoundingClientRect();
  const firstCell = to.parentElement.cells[0];
  const top = outer.top + box.querySelector("thead").offsetHeight + (pinned ? 0 : 26);
  const left = outer.left + firstCell.offsetWidth;
  const bottom = outer.top + box.clientHeight;
  const right = outer.left + box.clientWidth;
  if (pinned) {
    const body = to.closest("tbody").getBoundingClientRect();
    if (body.top < top) box.scrollTop -= top - body.top;
    else if (body.top + 26 > bottom) box.scrollTop += body.top + 26 - bottom;
  } else if (inner.top < top) box.scrollTop -= top - inner.top;
  else if (inner.bottom > bottom) box.scrollTop += inner.bottom - bottom;
  if (to !== firstCell) {
    if (inner.left < left) box.scrollLeft -= left - inner.left;
    else if (inner.right > right) box.scrollLeft += inner.right - right;
  }
  to.scrollIntoView({ block: "nearest", inline: "nearest" });
}

function toggle(family) {
  if (state.family === family) return;
  const at = active ? active.cellIndex : 0;
  if (!state.open.delete(family)) state.open.add(family);
  writeAddress();
  const old = [...byId("box").querySelectorAll("tr.sum")].find((tr) => tr.dataset.family === family);
  drawn = 0;
  const fresh = section(family, rows(shown).get(family));
  old.parentElement.replaceWith(fresh);
  focusCell(fresh.rows[0].cells[at]);
}

function activate(to) {
  const tr = to.parentElement;
  if (tr.dataset.family !== undefined) toggle(tr.dataset.family);
  else if (tr.dataset.case !== undefined) {
    openPanel(Number(tr.dataset.case), shown[Math.max(0, to.cellIndex - 1)]);
  }
}

function moveInGrid(event) {
  const from = event.target.closest("td, tbody th");
  if (!from || event.altKey || event.metaKey) return;
  const table = from.closest("table");
  const listed = () => [...table.tBodies].flatMap((body) => [...body.rows]);
  const all = listed();
  const at = all.indexOf(from.parentElement);
  const far = event.ctrlKey;
  const last = all.length - 1;
  const page = Math.max(1, Math.floor(byId("box").clientHeight / from.offsetHeight) - 4);
  let [r, c] = [at, from.cellIndex];
  const end = from.parentElement.cells.length - 1;
  switch (event.key) {
    case "ArrowUp": r = far ? 0 : r - 1; break;
    case "ArrowDown": r = far ? last : r + 1; break;
    case "ArrowLeft": c = far ? 0 : c - 1; break;
    case "ArrowRight": c = far ? end : c + 1; break;
    case "Home": c = 0; if (far) r = 0; break;
    case "End": c = end; if (far) r = last; break;
    case "PageUp": r -= page; break;
    case "PageDown": r += page; break;
    case "Enter": case " ": event.preventDefault(); makeActive(from); activate(from); return;
    default: return;
  }
  event.preventDefault();
  let to = all[Math.min(last, Math.max(0, r))];
  if (waiting.has(to)) {
    const list = waiting.get(to);
    fill(to);
    const onto = r > at && !far ? list[0] : list.at(-1);
    to = listed().find((tr) => tr.dataset.case === String(onto));
  }
  focusCell(to.cells[Math.min(end, Math.max(0, c))]);
}
