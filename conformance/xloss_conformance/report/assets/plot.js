// Error against gap: how much of its budget a loss takes as the true class runs ahead of the others.

const OWN = 0; // colour of xloss's curves; the others take the next ones in turn
const SHAPES = [
  "M-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0z", "M-2.7-2.7h5.4v5.4h-5.4z", "M0-3.6 3.4 2.6h-6.8z",
  "M0-3.8 3.8 0 0 3.8-3.8 0z", "M-3.4-2.6h6.8L0 3.6z", "M-1-3.4h2v2.4h2.4v2H1v2.4h-2V1h-2.4v-2H-1z",
];
const FLOOR = 0.01; // of the budget; what is nearer to exact is drawn here

const plot = { points: [], gaps: [], series: [], hidden: new Set(), at: null, line: 0 };

function readPlot() {
  const first = cases.find((one) => one.gap !== null);
  if (!first) return;
  plot.family = first.family;
  plot.points = cases.map((one, i) => [one.gap, i])
    .filter(([gap, i]) => gap !== null && cases[i].family === first.family)
    .sort((a, b) => a[0] - b[0]);
  plot.gaps = plot.points.map(([gap]) => gap);
  plot.precisions = Object.keys(DTYPES).filter((dtype) => subjects.some((s) => s.dtype === dtype));
  if (!plot.precisions.includes(state.precision)) state.precision = "";
}

const precision = () => state.precision || plot.precisions[0];

function series() {
  const titles = [...new Set(subjects.filter((s) => s.kind !== "xloss").map(title))];
  let own = 0;
  return columns0().filter((j) => subjects[j].dtype === precision()).map((j) => {
    const subject = subjects[j];
    const mine = subject.kind === "xloss";
    const place = mine ? own++ : titles.indexOf(title(subject));
    const errors = plot.points.map(([, i]) =>
      cells.status(i, j) === "refused" ? NaN : share(i, j, state.curve));
    return {
      j, mine, errors, name: mine ? `xloss ${title(subject)}` : title(subject),
      colour: `var(--c${mine ? OWN : 1 + (place % 6)})`,
      shape: SHAPES[place % SHAPES.length],
    };
  }).filter((one) => one.errors.some((x) => !Number.isNaN(x)));
}

/** Every subject in the order of the matrix, whatever its filters. */
function columns0() {
  const kept = [state.kind, state.library, state.dtype];
  [state.kind, state.library, state.dtype] = [new Set(), new Set(), new Set()];
  const all = columns();
  [state.kind, state.library, state.dtype] = kept;
  return all;
}

const visible = () => plot.series.filter((one) => !plot.hidden.has(subjects[one.j].name));

function sample(one) {
  return svg("svg", { "aria-hidden": "true", viewBox: "0 0 26 12" },
    svg("path", { d: "M0 6h26", stroke: one.colour, "stroke-width": one.mine ? 1.25 : 2, fill: "none" }),
    one.mine ? null : svg("path", { d: one.shape, transform: "translate(13 6)", fill: one.colour }));
}

function drawLegend() {
  byId("legend").replaceChildren(...plot.series.map((one) => {
    const name = subjects[one.j].name;
    const button = h("button", {
      type: "button", "aria-pressed": String(!plot.hidden.has(name)),
      onclick: () => {
        if (!plot.hidden.delete(name)) plot.hidden.add(name);
        button.setAttribute("aria-pressed", String(!plot.hidden.has(name)));
        drawChart();
      },
    }, sample(one), one.name);
    return button;
  }));
}

function drawNumbers() {
  byId("numbers").replaceChildren(h("table", {},
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "gap"), plot.gaps.map((gap) => h("th", { scope: "col" }, String(gap))))),
    h("tbody", {}, plot.series.map((one) => h("tr", {},
      h("th", { scope: "row" }, one.name), one.errors.map((x) => h("td", {}, brief(x))))))));
}

function frame() {
  const wide = byId("chart").clientWidth;
  const tall = wide < 560 ? 280 : 320;
  const right = wide < 560 ? 74 : 132;
  const box = { left: 42, right: wide - right, top: 24, bottom: tall - 34, wide, tall };
  const worst = Math.max(10, ...visible().flatMap((one) => one.errors.filter(Number.isFinite)));
  const top = Math.ceil(Math.log10(worst));
  const [low, high] = [plot.gaps[0], plot.gaps.at(-1)];
  box.x = (gap) => box.left + ((gap - low) / (high - low || 1)) * (box.right - box.left);
  box.y = (off) => {
    const log = off === Infinity ? top : Math.min(top, Math.log10(Math.max(off, FLOOR)));
    return box.bottom - ((log + 2) / (top + 2)) * (box.bottom - box.top);
  };
  box.decades = top;
  return box;
}

function axes(box) {
  const made = [];
  const every = Math.ceil(box.decades / 8);
  for (let k = 0; k <= box.decades; k += every) {
    const y = box.y(10 ** k);
    made.push(svg("path", { class: "grid", d: `M${box.left} ${y}H${box.right}` }),
      svg("text", { x: box.left - 8, y: y + 4, "text-anchor": "end" }, power(k)));
  }
  made.push(svg("path", { class: "grid", d: `M${box.left} ${box.bottom}H${box.right}` }),
    svg("text", { x: box.left - 8, y: box.bottom + 4, "text-anchor": "end" }, `≤${FLOOR}`));
  let free = -Infinity;
  for (const gap of plot.gaps) {
    const x = box.x(gap);
    if (x - free < 24) continue;
    free = x;
    made.push(svg("text", { x, y: box.bottom + 17, "text-anchor": "middle" }, String(gap)));
  }
  made.push(
    svg("text", { x: box.right, y: box.bottom + 31, "text-anchor": "end" }, "gap: how far the true class’s logit is ahead"),
    svg("text", { x: 0, y: 10 }, "error, in times of what is allowed"));
  const rule = (off, text, x, anchor) => {
    const y = box.y(off);
    made.push(svg("path", { class: "rule", d: `M${box.left} ${y}H${box.right}` }),
      svg("text", { x, y: y - 4, "text-anchor": anchor }, text));
  };
  rule(1, "allowed: above this line an answer is wrong", box.right - 6, "end");
  return made;
}

/** A curve; of others' that coincide the later are a little thinner, and their marks stand at other gaps. */
function curve(one, box, others) {
  const above = others.length - 1 - others.indexOf(one);
  let d = "";
  const marks = [];
  let pen = "M";
  one.errors.forEach((off, k) => {
    if (Number.isNaN(off)) { pen = "M"; return; }
    const [x, y] = [box.x(plot.gaps[k]), box.y(off)];
    d += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
    pen = "L";
    if (!one.mine && k % others.length === others.indexOf(one)) marks.push(svg("path", { d: one.shape, transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`, fill: one.colour }));
  });
  return svg("g", {}, svg("path", { class: "curve", d, stroke: one.colour, "stroke-width": one.mine ? 1.25 : 1.5 + 0.5 * above }), marks);
}

/** Names at the curves' ends, pushed apart; xloss's many curves share one. */
function names(box) {
  const ends = [];
  for (const one of visible()) {
    const k = one.errors.findLastIndex((x) => !Number.isNaN(x));
    const y = box.y(one.errors[k]);
    const x = box.x(plot.gaps[k]);
    const own = one.mine && ends.find((end) => end.mine);
    if (own) { own.count += 1; own.from.push(y); continue; }
    ends.push({ mine: one.mine, text: one.mine ? "xloss" : one.name, colour: one.colour, x, from: [y], count: 1 });
  }
  for (const end of ends) end.at = end.from.reduce((a, b) => a + b, 0) / end.from.length;
  ends.sort((a, b) => a.at - b.at);
  ends.forEach((end, k) => { end.y = k ? Math.max(end.at, ends[k - 1].y + 14) : Math.max(end.at, box.top); });
  for (let k = ends.length - 1, low = box.bottom + 4; k >= 0; k -= 1) {
    ends[k].y = Math.min(ends[k].y, low);
    low = ends[k].y - 14;
  }
  const narrow = box.wide < 560;
  return ends.flatMap((end) => {
    const from = end.from.reduce((a, b) => (Math.abs(b - end.at) < Math.abs(a - end.at) ? b : a));
    const text = end.mine && end.count > 1 && !narrow ? `xloss, ${end.count} ways` : end.text;
    return [
      svg("path", { class: "leader", d: `M${end.x + 4} ${from}L${box.right + 10} ${end.y}h4` }),
      svg("text", { class: "name", x: box.right + 17, y: end.y + 4, style: null, "data-colour": end.colour }, text),
    ];
  });
}

function drawChart() {
  const box = frame();
  const [own, others] = [true, false].map((mine) => visible().filter((one) => one.mine === mine));
  const said = visible().map((one) => one.name).join(", ");
  const made = svg("svg", {
    viewBox: `0 0 ${box.wide} ${box.tall}`, width: box.wide, height: box.tall, tabindex: 0, role: "application",
    "aria-label": `Error of the ${state.curve === "grad" ? "gradient" : "value"}, as a multiple of what is allowed, against gap, ${precision()}, of ${said}. Left and right arrow: another gap; up and down: another curve; Enter: that cell.`,
  }, svg("g", { "aria-hidden": "true" }, axes(box), others.map((one) => curve(one, box, others)),
    own.map((one) => curve(one, box, own)), names(box)),
    svg("path", { class: "cross", id: "cross", d: "" }));
  for (const text of made.querySelectorAll("[data-colour]")) text.style.fill = text.dataset.colour;
  const near = (event) => {
    const at = event.clientX - made.getBoundingClientRect().left;
    const distances = plot.gaps.map((gap) => Math.abs(box.x(gap) - at));
    return distances.indexOf(Math.min(...distances));
  };
  made.addEventListener("pointermove", (event) => {
    const k = near(event);
    const y = event.clientY - made.getBoundingClientRect().top;
    const away = visible().map((one) => (Number.isNaN(one.errors[k]) ? Infinity : Math.abs(box.y(one.errors[k]) - y)));
    pointAt(k, Math.max(0, away.indexOf(Math.min(...away))), box);
  });
  made.addEventListener("pointerleave", () => { if (document.activeElement !== made) pointAt(null, 0, box); });
  made.addEventListener("blur", () => pointAt(null, plot.line, box));
  made.addEventListener("focus", () => { if (made.matches(":focus-visible")) pointAt(plot.at ?? 0, plot.line, box); });
  made.addEventListener("click", openPoint);
  made.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key === "Enter") openPoint();
    if (event.key === "Escape") pointAt(null, plot.line, box);
    if (!steps[event.key]) return;
    event.preventDefault();
    const [dk, dl] = steps[event.key];
    const count = visible().length;
    pointAt(Math.min(plot.gaps.length - 1, Math.max(0, (plot.at ?? 0) + dk)), (plot.line + dl + count) % count, box);
  });
  const tip = h("div", { class: "tip", id: "tip", role: "status", hidden: true });
  byId("chart").replaceChildren(made, tip);
}

function openPoint() {
  const one = visible()[plot.line];
  if (plot.at !== null && one) openPanel(plot.points[plot.at][1], one.j);
}

/** Show what every curve says at a gap; `line` is the one that Enter opens. */
function pointAt(k, line, box) {
  [plot.at, plot.line] = [k, line];
  const tip = byId("tip");
  tip.hidden = k === null;
  byId("cross").setAttribute("d", k === null ? "" : `M${box.x(plot.gaps[k])} ${box.top}V${box.bottom}`);
  if (k === null) return;
  const listed = visible().map((one, at) => [one, at]).filter(([one]) => !Number.isNaN(one.errors[k]))
    .sort((a, b) => b[0].errors[k] - a[0].errors[k]);
  tip.replaceChildren(h("b", {}, `gap ${plot.gaps[k]}`), h("table", {}, listed.map(([one, at]) =>
    h("tr", { class: at === line ? "here" : null }, h("td", {}, one.name), h("td", {}, `${ofBudget(one.errors[k])}, ${spelled(ulp(plot.points[k][1], one.j, state.curve))}`)))));
  const x = box.x(plot.gaps[k]);
  const left = x > box.wide / 2 ? x - tip.offsetWidth - 12 : x + 12;
  tip.style.left = `${Math.max(0, Math.min(left, box.wide - tip.offsetWidth))}px`;
}

function drawPlot() {
  if (!plot.points.length) return;
  byId("plot").hidden = false;
  plot.series = series();
  plot.line = Math.min(plot.line, Math.max(0, visible().length - 1));
  byId("plot-lead").textContent = `One row whose true class is ahead of the others by the gap, from the family “${plot.family}”: the further it is ahead, the surer is the model. ${cases[plot.points[0][1]].reason}.`;
  drawLegend();
  drawNumbers();
  drawChart();
}
