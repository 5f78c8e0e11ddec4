"use strict";

for (const note of document.querySelectorAll(".without-script")) note.remove();

// Tables: a click, or Enter, on a heading sorts by its column.
for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("thead th:not([data-fixed])").forEach((heading) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => sortBy(table, heading));
  });
}

function sortBy(table, heading) {
  const column = heading.cellIndex;
  const first = heading.classList.contains("n") ? "descending" : "ascending";
  const second = first === "ascending" ? "descending" : "ascending";
  const order = heading.getAttribute("aria-sort") === first ? second : first;
  const sign = order === "ascending" ? 1 : -1;
  for (const other of table.querySelectorAll("thead th")) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", order);
  const body = table.tBodies[0];
  const keyed = [...body.rows].map((row) => [value(row.cells[column]), row]);
  keyed.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null); // what is missing stays last
    return sign * (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));
  });
  body.append(...keyed.map(([, row]) => row));
}

function value(cell) {
  const text = cell.dataset.value ?? cell.textContent.trim();
  if (!cell.classList.contains("n")) return text;
  const parsed = parseFloat(text.replace(/\u2212/g, "-").replace(/,/g, ""));
  return Number.isNaN(parsed) ? null : parsed;
}

// A matrix: the cell under the pointer tells its row and its column.
for (const table of document.querySelectorAll("table.deltas")) {
  table.addEventListener("pointerover", ({ target }) => {
    const cell = target.closest("td");
    if (cell) cell.title = `${cell.parentElement.cells[0].textContent} by ${table.tHead.rows[0].cells[cell.cellIndex].textContent}`;
  });
}

// A pair in detail: two selects, or a click on a cell or a point, fill the panel from the data in the page.
function choosePairs(data) {
  const student = document.getElementById("student");
  const teacher = document.getElementById("teacher");
  const [first, second] = data.chosen.split("-");
  student.value = first;
  teacher.value = second;
  student.form.hidden = false;

  function show(changed) {
    if (student.value === teacher.value) { // a model cannot teach itself: the other select steps aside
      const other = changed === teacher ? student : teacher;
      other.value = String((Number(other.value) + 1) % data.models.length);
    }
    const key = `${student.value}-${teacher.value}`;
    for (const cell of document.querySelectorAll("td.chosen")) cell.classList.remove("chosen");
    document.querySelector(`td[data-pair="${key}"]`)?.classList.add("chosen");
    const title = `${data.models[teacher.value]} teaches ${data.models[student.value]}`;
    document.getElementById("panel").replaceChildren(node("h3", title), ...describe(data, key));
    document.getElementById("told").textContent = changed ? `Shown: ${title}` : "";
  }
  student.form.addEventListener("submit", (event) => event.preventDefault());
  for (const select of [student, teacher]) select.addEventListener("change", () => show(select));
  for (const mark of document.querySelectorAll("[data-pair]")) {
    mark.addEventListener("click", () => {
      [student.value, teacher.value] = mark.dataset.pair.split("-");
      show(mark);
      document.getElementById("pair").scrollIntoView();
    });
  }
  show(null);
}

function node(tag, content, attributes = {}) {
  const made = document.createElement(tag);
  for (const [key, set] of Object.entries(attributes)) made.setAttribute(key, set);
  made.append(...[content ?? []].flat());
  return made;
}

const number = (x, digits = 2) =>
  typeof x === "number" ? x.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }).replace("-", "\u2212") : "\u2013";
const points = (x, digits = 2) => (typeof x === "number" && Number(x.toFixed(digits)) > 0 ? "+" : "") + number(x, digits).replace(/^\u2212(0\.?0*)$/, "$1");
const pValue = (p) => (typeof p !== "number" ? "\u2013" : p < 1e-4 ? "< 0.0001" : number(p, p < 0.1 ? 3 : 2));

function tableOf(caption, heads, rows, style = "") {
  const cell = (tag, content, kind, scope) => node(tag, content, { ...(kind ? { class: kind } : {}), ...(scope ? { scope } : {}) });
  const head = node("tr", heads.map(([name, kind]) => cell("th", name, kind, "col")));
  const body = rows.map((row) => node("tr", row.map((content, i) => cell(i ? "td" : "th", content, heads[i][1], i ? "" : "row"))));
  const table = node("table", [node("caption", caption), node("thead", head), node("tbody", body)], { class: style });
  return node("div", table, { class: "scroll", tabindex: "0", role: "region", "aria-label": caption });
}

function describe(data, key) {
  const pair = data.pairs[key];
  if (!pair) return [node("p", ["This pair is one of those with the fewest flips; its numbers stand in ", node("code", "tables/pairs.csv"), "."], { class: "note" })];
  const [s, t] = key.split("-").map((i) => data.models[i]);
  const name = (id) => (typeof id === "number" ? data.classes[id] : String(id ?? "\u2013"));
  const counted = (n) => (typeof n === "number" ? `${number(n, 0)} samples, ` : "");
  const parts = [
    node("p", `${t} is right and ${s} wrong on ${counted(pair.counts?.[0])}${number(pair.rates[0])} % of the test split; the reverse holds for ${counted(pair.counts?.[1])}${number(pair.rates[1])} %.`),
    sideBySide([node("dl", facts(pair).map(([term, told]) => node("div", [node("dt", term), node("dd", told)])), { class: "facts" })], partition(pair.partition)),
    sideBySide(histogram(data, pair, s, t, name), disagreements(pair, s, t, name)),
    ...areas(pair, t, name),
    ...pictures(data, key, s, t),
  ];
  return parts;
}

function sideBySide(...columns) {
  return node("div", columns.filter((column) => column.length).map((column) => node("div", column)), { class: "two" });
}

function facts(pair) {
  const [entropy, uniform] = pair.entropy ?? [];
  const top = pair.ceilings ?? {};
  return [
    ["Targets above the student", typeof pair.gain === "number" ? `${points(pair.gain)} points on held-out data` : "not known"],
    ["Accuracy, teacher \u2212 student", `${points(pair.difference)} points`],
    ["Both together", `mean probability ${number(top.mean_probability)} %, more confident ${number(top.most_confident)} %, either right ${number(top.oracle)} %`],
    ["Spread over classes", `entropy ${number(entropy)} of ${number(uniform)} nats` + (uniform ? `, ${number((100 * entropy) / uniform, 1)} % of an even spread` : "")],
    ...(typeof pair.differ === "number" ? [["Different answers", `${number(pair.differ)} % of the samples`]] : []),
  ];
}

function partition(found) {
  const names = { supervised: "by the labels", unsupervised: "by confidence", calibrated: "by calibrated confidence" };
  const rows = Object.entries(names)
    .filter(([key]) => found?.[key])
    .map(([key, name]) => [name, number(found[key].teacher_share, 1), number(found[key].wrong_choice, 1), number(found[key].target_accuracy, 2)]);
  if (!rows.length) return [];
  const heads = [["Teacher chosen"], ["Teacher\u2019s share, %", "n"], ["Wrong choice, %", "n"], ["Targets right, %", "n"]];
  const note = "Wrong choice: where exactly one of the two is right, how often the other would teach; 50 % is guessing.";
  return [
    node("h4", "The partition, before any training"),
    tableOf("Who would teach, on the transfer set", heads, rows),
    node("p", note, { class: "quiet" }),
  ];
}

function histogram(data, pair, s, t, name) {
  const title = node("h4", "Flips by class");
  if (!data.counted) return [title, node("p", ["This folder has no ", node("code", "classes.parquet"), ", so flips by class are not known."], { class: "note" })];
  if (!pair.classes?.length) return [title, node("p", "There are none.")];
  const widest = Math.max(...pair.classes.map(([, a, b]) => Math.max(a, b)), 1);
  const bar = (n, kind) => node("span", "", { class: `bar ${kind}`, style: `--share:${((100 * n) / widest).toFixed(1)}%`, "aria-hidden": "true" });
  const rows = pair.classes.map(([id, a, b]) => [name(id), String(a), String(b), [bar(b, "second"), bar(a, "first")]]);
  const heads = [["Class"], ["Only teacher right", "n"], ["Only student right", "n"], [node("span", "Both as bars", { class: "unseen" }), "wide pair"]];
  const made = tableOf(`Samples that only ${t}, or only ${s}, has right`, heads, rows, "bars");
  const more = pair.more ? [node("p", [`And ${number(pair.more, 0)} more classes in `, node("code", "tables/flips_by_class.csv"), "."], { class: "quiet" })] : [];
  return [title, made, ...more];
}

function areas(pair, t, name) {
  if (!pair.areas?.length) return [];
  const alike = [4, 5].map((i) => pair.areas.some((area) => typeof area[i]?.[0] === "number"));
  const heads = [["Share of the flips"], ["Held, %", "n"], ["Classes", "n"], ["Which, most flips first", "long"]];
  if (alike[0]) heads.push(["Alike in name", "n"]);
  if (alike[1]) heads.push(["Alike in WordNet", "n"]);
  const times = ([relative, p]) => (typeof relative === "number" ? `${number(relative)} \u00d7, p ${pValue(p)}` : "\u2013");
  let last = [];
  const rows = pair.areas.map(([share, held, count, first, ...measured]) => {
    const ids = first || last;
    last = ids;
    const more = count > ids.length ? ` and ${number(count - ids.length, 0)} more` : "";
    const row = [`${share}\u00a0%`, number(held, 1), number(count, 0), ids.map(name).join(", ") + more];
    measured.forEach((found, i) => alike[i] && row.push(times(found || [])));
    return row;
  });
  const note = alike.some(Boolean) ? [node("p", "\u201cAlike\u201d is how similar the classes of the area are to each other, against all classes: above 1 they belong together. p is the chance of that among random sets of classes.", { class: "quiet" })] : [];
  return [node("h4", `Where ${t} is the expert`), tableOf("The fewest classes that hold a share of the flips", heads, rows, "bars"), ...note];
}

function disagreements(pair, s, t, name) {
  if (!pair.says?.length) return [];
  const heads = [[`${s} says`], [`${t} says`], ["Samples", "n"], ["Student right", "n"], ["Teacher right", "n"]];
  const rows = pair.says.map(([a, b, ...counts]) => [name(a), name(b), ...counts.map((n) => number(n, 0))]);
  return [node("h4", "Most frequent disagreements"), tableOf("Answers that differ, most frequent first", heads, rows)];
}

function pictures(data, key, s, t) {
  const samples = data.samples[key];
  const title = node("h4", `Samples that only ${t} has right`);
  if (!samples) {
    const some = Object.keys(data.images).length > 0 || data.leftOut > 0;
    return some ? [title, node("p", ["No pictures of this pair are in the page; see ", node("code", "pictures/"), "."], { class: "quiet" })] : [];
  }
  const items = samples.map(([file, label, sSays, sConf, tSays, tConf, sample]) => {
    const line = (who, says, conf) => node("span", [node("span", `${who} `, { class: "was" }), says, " ", node("small", typeof conf === "number" ? `${number(100 * conf, 0)} %` : "")]);
    const caption = node("figcaption", [node("b", label), line("student", sSays, sConf), line("teacher", tSays, tConf)]);
    return node("li", node("figure", [node("img", "", { src: data.images[file], alt: `Test sample ${sample}, a ${label}` }), caption]));
  });
  return [title, node("ul", items, { class: "pictures" })];
}

const source = document.getElementById("data");
if (source) choosePairs(JSON.parse(source.textContent));
