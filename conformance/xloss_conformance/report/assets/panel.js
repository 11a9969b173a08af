// One cell: what was asked, what should have come and what came, and how to see it again.

let current = null; // [case, subject]
let fromMatrix = false; // where focus returns to

/** Results, the entries that differ from the other side marked. */
function result(text, other) {
  const parts = text.split(/([\[\],\s]+)/);
  const against = other === undefined ? parts : other.split(/([\[\],\s]+)/);
  const alike = parts.length === against.length;
  return h("pre", { tabindex: 0 }, parts.map((part, k) => {
    if (k % 2) return part.replace(/\], /g, "],\n ");
    return alike && part === against[k] ? part : h("mark", {}, part);
  }));
}

function compared(want, got) {
  const keys = [...new Set([...want, ...got].map(([key]) => key))];
  const [right, given] = [new Map(want), new Map(got)];
  return keys.flatMap((key) => [
    h("h3", {}, key === "value" ? "Value" : key === "gradient" ? "Gradient" : key === "error" ? "Error" : key),
    h("dl", { class: "pair" },
      h("dt", {}, "expected"),
      h("dd", {}, right.has(key) ? h("pre", { tabindex: 0 }, right.get(key).replace(/\], /g, "],\n ")) : "nothing"),
      h("dt", {}, "got"),
      h("dd", {}, given.has(key) ? result(given.get(key), key === "error" ? undefined : right.get(key)) : "nothing")),
  ]);
}

function findings(found) {
  const number = (x) => (x === null || x === undefined ? "none" : String(x));
  return h("ul", { class: "findings" }, found.map((one) => h("li", {},
    h("b", {}, one.rule), `: ${one.detail}`,
    h("p", {}, "The rule: ", data.rules[one.rule] ?? "", ". In training: ", training[one.rule] ?? ""),
    one.got === null && one.want === null ? null : h("p", {},
      one.at && one.at.length ? ["at ", h("code", {}, `[${one.at.join(", ")}]`), ": "] : "",
      "got ", h("code", {}, number(one.got)), ", expected ", h("code", {}, number(one.want))))));
}

/** Put text on the clipboard, also where the page is a file and the browser forbids the new way. */
async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = h("textarea", { class: "hidden", readonly: true });
    area.value = text;
    byId("panel").append(area);
    const before = document.activeElement;
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    before?.focus();
    return done;
  }
}

function snippet(text) {
  const code = h("pre", { tabindex: 0 }, h("code", { id: "snippet" }, text));
  const button = h("button", {
    type: "button", id: "copy", "aria-live": "polite",
    onclick: async () => {
      const done = await copied(text);
      if (!done) getSelection().selectAllChildren(code);
      button.textContent = done ? "Copied" : "Selected: press Ctrl+C";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    },
  }, "Copy");
  return [h("div", { class: "bar" }, h("h3", {}, "The input, and how to see it again"), button), code];
}

/** Everybody's answer to the same case. */
function everybody(i, j) {
  return h("table", { class: "list" }, h("tbody", {}, columns().map((k) => {
    const status = cells.status(i, k);
    const off = (what) => {
      const x = share(i, k, what);
      return Number.isNaN(x) ? "" : x <= 1 ? percent(x) : `${brief(x)} times`;
    };
    const said = { pass: "pass", fail: "✕ fail", declared: "◇ declared", refused: "– not offered" };
    return h("tr", { "aria-current": k === j ? "true" : null },
      h("td", {}, h("button", { type: "button", onclick: () => openPanel(i, k) }, subjects[k].name)),
      h("td", { class: status }, said[status] ?? "not run"),
      h("td", {}, status === "refused" ? "" : off("value")),
      h("td", {}, status === "refused" ? "" : off("grad")));
  })));
}

/** The case above or below, of the same subject, among those that the filters leave. */
function beside(i, step) {
  const list = [...rows(columns()).values()].flat();
  const at = list.indexOf(i);
  return at < 0 ? undefined : list[at + step];
}

async function openPanel(i, j) {
  const panel = byId("panel");
  current = [i, j];
  state.cell = `${cases[i].name}|${subjects[j].name}`;
  writeAddress();
  const one = cases[i];
  const status = cells.status(i, j);
  const step = (to, label, text) => {
    const next = beside(i, to);
    return h("button", { type: "button", "aria-label": label, title: label, disabled: next === undefined,
      onclick: () => openPanel(next, j) }, text);
  };
  const errors = [["value", "value"], ["grad", "gradient"]]
    .filter(([key]) => !Number.isNaN(ulp(i, j, key)) && status !== "refused")
    .map(([key, name]) => h("span", {}, `${name}: `, h("b", {}, ofBudget(share(i, j, key))), `, ${spelled(ulp(i, j, key))}`));
  const sign = { pass: "pass", fail: "✕ fail", declared: "◇ declared", refused: "– not offered" };
  const body = h("div", { id: "panel-body" }, h("p", { class: "empty" }, "Unpacking …"));
  const top = h("div", { class: "top" },
    h("h2", { id: "panel-title", tabindex: -1 }, one.name, h("small", {}, `${subjects[j].name}, version ${subjects[j].version}`)),
    h("nav", { "aria-label": "Cells" }, step(-1, "Previous case", "↑"), step(1, "Next case", "↓"),
      h("button", { type: "button", id: "close", "aria-label": "Close", onclick: () => panel.close() }, "✕")));
  panel.replaceChildren(top,
    h("p", { class: "said" }, h("span", { class: `badge ${status ?? ""}` }, sign[status] ?? "not run"), errors),
    h("p", { class: "why" }, `${one.loss}: `, one.reason, "."),
    h("ul", { class: "links" }, one.see.map((address) => h("li", {}, link(address)))),
    noted(i, j) ? h("p", { class: "why", id: "note" }, h("b", {}, status === "refused" ? "Not offered: " : "Note: "), linked(noted(i, j))) : "",
    body);
  if (!panel.open) {
    fromMatrix = byId("box").contains(document.activeElement);
    panel.showModal();
  }
  panel.scrollTop = 0;
  byId("panel-title").focus();
  let found;
  try {
    found = await detail(i, j);
  } catch (error) {
    body.replaceChildren(h("p", { class: "wrong" }, `This browser cannot unpack the details (${error.message}). Chrome 80, Firefox 113 and Safari 16.4 or newer can.`));
    return;
  }
  if (current?.[0] !== i || current[1] !== j) return; // closed meanwhile, or another cell asked for
  const again = `${found.setup}\n${found.call}`;
  body.replaceChildren(
    found.findings.length ? h("h3", {}, "What is wrong") : "",
    found.findings.length ? findings(found.findings) : "",
    found.findings.length ? h("p", { class: "why" }, "1 ulp is a wrong last binary digit; what is allowed follows from the arithmetic.") : "",
    ...compared(found.want, found.got),
    ...(found.call ? snippet(again) : [h("h3", {}, "Input"), h("pre", { tabindex: 0, id: "inputs" }, found.setup)]),
    h("h3", {}, "Everybody on this case: error of value and of gradient, as a share of its budget"), everybody(i, j));
}

function closed() {
  const [i, j] = current ?? [];
  current = null;
  state.cell = "";
  writeAddress();
  // Focus goes to the cell that was looked at last, where it stands in the matrix.
  const at = shown.indexOf(j);
  const tr = byId("box").querySelector(`tr[data-case="${i}"]`);
  if (tr && fromMatrix) focusCell(tr.cells[Math.max(0, at + 1)]);
}
