"use strict";
// What the page knows, and what every part of it uses. Text enters the document as text nodes only;
// the policy in the page's head forbids the other way.

const data = JSON.parse(document.getElementById("data").textContent);
const STATUS = { p: "pass", f: "fail", d: "declared", r: "refused" };
const training = JSON.parse(document.getElementById("training").textContent); // by rule
const KINDS = { candidate: "candidates", peer: "peers", xloss: "xloss" };
const DTYPES = { float32: "f32", float64: "f64", float16: "f16", bfloat16: "bf16" };
const DIGITS = { float32: 24, float64: 53, float16: 11, bfloat16: 8 };
const subjects = data.subjects;
const cases = data.cases;
const width = subjects.length;

const numbers = (text) => {
  const found = new Float64Array(cases.length * width).fill(NaN);
  if (!text) return found;
  text.split(",").forEach((part, i) => {
    if (part) found[i] = part === "inf" || part === "nan" ? Infinity : Number(part);
  });
  return found;
};
const cells = {
  ulp: { value: numbers(data.cells.value_ulp), grad: numbers(data.cells.grad_ulp) },
  share: { value: numbers(data.cells.value_share), grad: numbers(data.cells.grad_share) },
  note: data.cells.note.split(","),
  status: (i, j) => STATUS[data.cells.status[i * width + j]],
};

/** The error of a cell, in ulp or as a share of its own budget; NaN where there is none. */
function error(of, i, j, what) {
  const value = of.value[i * width + j];
  const grad = of.grad[i * width + j];
  if (what === "value") return value;
  if (what === "grad") return grad;
  return Number.isNaN(value) ? grad : Number.isNaN(grad) ? value : Math.max(value, grad);
}
const ulp = (i, j, what) => error(cells.ulp, i, j, what);
const share = (i, j, what) => error(cells.share, i, j, what);

function noted(i, j) {
  const at = cells.note[i * width + j];
  return at ? data.cells.notes[Number(at)] : "";
}

const power = (k) => (k === 0 ? "1" : k === 1 ? "10" : `10${[...String(k)].map((d) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[d]).join("")}`);

/** How many times the budget, in few characters: 1.4, 31, 10⁵. */
function brief(x) {
  if (Number.isNaN(x)) return "";
  if (x === Infinity) return "∞";
  if (x === 0) return "0";
  if (x < 0.05) return "0.0";
  if (x < 9.95) return x.toFixed(1);
  return x < 999.5 ? String(Math.round(x)) : power(Math.round(Math.log10(x)));
}

/** A share of a budget that is kept: 31%. */
const percent = (x) => (x > 0 && x < 0.005 ? "<1%" : `${Math.round(100 * x)}%`);

/** The same in words, whether it is kept or not. */
function ofBudget(x) {
  if (x === Infinity) return "beyond any budget";
  return x <= 1 ? `${percent(x)} of its budget` : `${brief(x)} times its budget`;
}

function spelled(x) {
  if (x === Infinity) return "not a number near it";
  if (x < 1000) return `${Number(x.toPrecision(3))} ulp`;
  const [digits, exponent] = x.toExponential(1).split("e+");
  return `${digits}·${power(Number(exponent))} ulp`;
}

/** Whether an error leaves hardly a digit right. */
const lost = (x, j) => Number.isNaN(x) || x >= 2 ** (DIGITS[subjects[j].dtype] ?? 24) / 16;
/** How strong the blue of a passing cell is, by the share of its own budget. */
const LEVELS = [0.1, 0.25, 0.5, 0.75];
const level = (x) => LEVELS.filter((most) => x > most).length;
const plural = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

/** What a subject is called without its dtype and its kind: "torch autograd". */
function title(subject) {
  const words = subject.name.split(" ").filter((word) => word !== subject.dtype);
  if (subject.kind === "xloss" && words.length > 1 && words[0] === "xloss") words.shift();
  return words.join(" ").replace(`${subject.library}.`, "") || subject.name;
}

function node(made, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return made;
}
const h = (tag, attributes = {}, ...children) =>
  node(document.createElement(tag), attributes, children);
const svg = (tag, attributes = {}, ...children) =>
  node(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
const byId = (id) => document.getElementById(id);

/** A word of the suite as a button that explains it. */
const word = (name) => h("button", { type: "button", class: "word", popovertarget: `word-${name.replaceAll(" ", "-")}` }, name);

/** A link where the address is one of the web's, text where it is anything else. */
const link = (address) =>
  /^https?:\/\//i.test(address)
    ? h("a", { href: address, rel: "noopener noreferrer", target: "_blank" }, address)
    : h("span", {}, address);

/** Text whose addresses are links. */
const linked = (text) =>
  text.split(/(https?:\/\/[^\s<>"')\]]+)/).map((part, i) => (i % 2 ? link(part) : part));

/** Buttons of which one is pressed (`one`), or any number. */
function chips(name, options, chosen, change, one = false) {
  const buttons = Object.entries(options).map(([value, label]) =>
    h("button", {
      type: "button", "data-value": value, "aria-pressed": String(chosen().has(value)),
      onclick: () => {
        const now = one ? new Set() : new Set(chosen());
        if (!now.delete(value)) now.add(value);
        change(now);
        for (const button of buttons) {
          button.setAttribute("aria-pressed", String(chosen().has(button.dataset.value)));
        }
      },
    }, label));
  return h("span", { class: "group", role: "group", "aria-label": name },
    h("span", { "aria-hidden": "true" }, name), h("span", { class: "chips" }, buttons));
}

/** The lines of the compressed part; each is parsed when its case is opened. */
let unpacking = null;
function details() {
  unpacking ??= (async () => {
    const packed = atob(byId("details").textContent);
    const bytes = Uint8Array.from(packed, (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return (await new Response(stream).text()).split("\n");
  })();
  return unpacking;
}

async function detail(i, j) {
  const { setup, texts, cells: packed } = JSON.parse((await details())[i]);
  const [findings, got, want, call] = packed[j].map((at) => texts[at]);
  return { setup, findings, got: Object.entries(got), want: Object.entries(want), call };
}
