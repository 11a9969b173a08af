// What is filtered and opened; it stands in the address, so that a view can be sent to somebody.

const SETS = ["kind", "library", "dtype", "verdict"];
const state = {
  kind: new Set(), library: new Set(), dtype: new Set(), verdict: new Set(),
  family: "", text: "", show: "worst", open: new Set(), cell: "",
  curve: "value", precision: "", theme: "",
};

/** The families that are open at first: the first in which something failed. */
function openAtFirst() {
  const failed = (i) => subjects.some((_, j) => cells.status(i, j) === "fail");
  const first = cases.findIndex((_, i) => failed(i));
  return new Set(cases.length ? [cases[Math.max(0, first)].family] : []);
}

function readAddress() {
  const given = new URLSearchParams(location.hash.slice(1));
  for (const key of SETS) state[key] = new Set((given.get(key) ?? "").split(",").filter(Boolean));
  const families = data.families.map((family) => family.name);
  const named = (key) => given.getAll(key).filter((name) => families.includes(name));
  state.family = named("family")[0] ?? "";
  state.open = given.has("open") ? new Set(named("open")) : openAtFirst();
  state.text = given.get("text") ?? "";
  state.show = ["value", "grad"].includes(given.get("show")) ? given.get("show") : "worst";
  state.curve = given.get("curve") === "grad" ? "grad" : "value";
  state.precision = given.get("precision") ?? "";
  state.cell = given.get("cell") ?? "";
  state.theme = ["light", "dark"].includes(given.get("theme")) ? given.get("theme") : "";
}

function writeAddress() {
  const to = new URLSearchParams();
  for (const key of SETS) if (state[key].size) to.set(key, [...state[key]].join(","));
  for (const key of ["family", "text", "cell", "theme", "precision"]) {
    if (state[key]) to.set(key, state[key]);
  }
  if (state.show !== "worst") to.set("show", state.show);
  if (state.curve !== "value") to.set("curve", state.curve);
  const atFirst = openAtFirst();
  if (state.open.size !== atFirst.size || [...state.open].some((name) => !atFirst.has(name))) {
    for (const name of state.open.size ? state.open : [""]) to.append("open", name);
  }
  const hash = to.toString();
  history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
}

/** The subjects shown, grouped for the head of the matrix: by kind, then by what runs. */
function columns() {
  const wanted = (subject, key) => !state[key].size || state[key].has(subject[key]);
  const order = (known, value) => {
    const at = Object.keys(known).indexOf(value);
    return at < 0 ? 99 : at;
  };
  const first = new Map();
  subjects.forEach((subject, j) => {
    const key = `${subject.kind} ${title(subject)}`;
    if (!first.has(key)) first.set(key, [subject.library, first.size, j]);
  });
  const seen = [...new Set(subjects.map((subject) => subject.library))];
  const rank = (j) => {
    const subject = subjects[j];
    const [library, place] = first.get(`${subject.kind} ${title(subject)}`);
    const near = subject.kind === "xloss" ? seen.indexOf(library) : 0;
    return [order(KINDS, subject.kind), near, place, order(DTYPES, subject.dtype), j];
  };
  const ranks = subjects.map((_, j) => rank(j));
  const compared = (a, b) => {
    const k = ranks[a].findIndex((value, at) => value !== ranks[b][at]);
    return k < 0 ? 0 : ranks[a][k] - ranks[b][k];
  };
  return subjects.map((_, j) => j)
    .filter((j) => ["kind", "library", "dtype"].every((key) => wanted(subjects[j], key)))
    .sort(compared);
}

/** The cases shown, by family. */
function rows(shown) {
  const words = state.text.toLowerCase().split(/\s+/).filter(Boolean);
  const found = new Map();
  cases.forEach((one, i) => {
    if (state.family && one.family !== state.family) return;
    if (state.verdict.size && !shown.some((j) => state.verdict.has(cells.status(i, j)))) return;
    if (words.length) {
      const text = `${one.name} ${one.loss} ${one.reason}`.toLowerCase();
      if (!words.every((word) => text.includes(word))) return;
    }
    if (!found.has(one.family)) found.set(one.family, []);
    found.get(one.family).push(i);
  });
  return found;
}
