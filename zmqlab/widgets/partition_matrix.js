// The grid of directed links. Above it stands what a click does: each fault of a link is a choice there, with its sizes.

const MANY = 6;   // from so many nodes on, cells and heads are narrow

export default panel(({ model, el, button, faultButton, undoButton, sliders, forget, send }) => {
  const grid = h("div", { className: "zl-matrix zl-scroll" });
  const note = h("div", { className: "zl-note zl-faint", textContent: "A row speaks, a column hears." });
  const ofLeader = h("span", { className: "zl-buttons" });
  const brushes = h("div", { className: "zl-brushes" });
  const form = h("div", { className: "zl-form", hidden: true });
  el.append(
    h("div", { className: "zl-head" }, h("h4", { textContent: "Links" }), note, h("span", { className: "zl-space" }),
      ofLeader, button("heal all links", "heal", { do: "heal" })),
    brushes, grid, form);
  let state = model.get("_state"), chosen = "";
  const sizesOf = new Map();   // what a click on a link does: its button -> sizes

  const controls = (target) => model.get("_controls").filter((each) => each.target === target);
  const brush = () => controls("link").find((each) => each.button === chosen) ?? controls("link")[0];
  const faultOf = (source, target) => state.links.find((each) => each.source === source && each.target === target);
  const isIll = (node) => state.links.some((each) => each.source === node.name || each.target === node.name);
  // What stands in a cell; its title says it in full.
  const words = (fault) => !fault ? "" : fault.cut ? "cut" :
    [fault.delay_ms ? `${number(fault.delay_ms)} ms` : "", fault.loss ? `−${number(100 * fault.loss)} %` : "",
      fault.bytes_per_s ? `${number(fault.bytes_per_s / 1000)} kB/s` : "",
      fault.duplication ? "twice" : "", fault.reordering && fault.reordering_ms ? "shuffled" : ""].filter(Boolean)
      .map((part, index, all) => index === 1 && all.length > 2 ? `+${all.length - 1}` : index > 1 ? "" : part)
      .filter(Boolean).join("\n") || "bad";

  // A fault of a link that has sizes begins with a delay that one sees: a fifth of what the first size may be.
  function sizesFor(control) {
    if (!sizesOf.has(control.button)) sizesOf.set(control.button, Object.fromEntries(control.parameters.map((each, index) =>
      [each.name, index ? each.low : Math.round(each.low + (each.high - each.low) / 5)])));
    return sizesOf.get(control.button);
  }
  function drawBrushes() {
    const each = brush();
    if (!each) return brushes.replaceChildren();
    const choice = h("span", { className: "zl-choice" }, ...controls("link").map((control) => h("button", {
      type: "button", className: "zl-button", textContent: control.button, title: control.hint, disabled: !state.alive,
      ariaPressed: String(control === each),
      onclick: () => { chosen = control.button; drawBrushes(); drawGrid(); } })));
    brushes.replaceChildren(h("span", { className: "zl-faint", textContent: "a click on a link will" }), choice,
      ...sliders(each, sizesFor(each), (sizes) => sizesOf.set(each.button, { ...sizes })),
      h("span", { className: "zl-faint", textContent: "and on a bad link heal it" }));
  }

  function cell(source, target) {
    if (source === target) return h("td", { className: "zl-self", textContent: "·" });
    const [from, to] = [source.name, target.name], fault = faultOf(from, to), control = brush();
    const down = [source, target].find((each) => each.state !== "running");
    const said = fault ? fault.text : "whole";
    const properties = {
      className: `zl-cell${fault?.cut ? " zl-cut" : fault ? " zl-ill" : ""}${down ? " zl-idle" : ""}`,
      title: `${from} → ${to}: ${said}${down ? `, but ${down.name} is ${down.state}` : ""}`, disabled: !state.alive };
    const healing = fault && controls("link").find((each) => each.undo);
    const made = healing ? undoButton(healing, [from, to], properties) : faultButton(control, [from, to], properties);
    made.textContent = fault ? words(fault) : down ? "–" : "";
    made.title = properties.title;
    made.setAttribute("aria-label", properties.title);
    if (!healing && control.parameters.length) made.onclick = () => send(
      { do: "strike", button: control.button, target: [from, to], sizes: sizesFor(control) }, [control.button, from, to].join(":"));
    made.dataset.link = `${from} ${to}`;
    return h("td", {}, made);
  }
  const name = (node, short) => {
    const digits = node.name.match(/\d+$/)?.[0];
    return [nodeMark(node), (short && digits ? digits : node.name) + (node.name === state.leader ? " ★" : "")];
  };
  // At a row's end: the faults of all links of its node, and what undoes them while one of them is bad.
  function ofNode(node) {
    const lonely = { disabled: state.nodes.length < 2 || !state.alive };
    const made = controls("node").flatMap((each) => [faultButton(each, [node.name], lonely, form),
      ...(each.undo && isIll(node) ? [undoButton(each, [node.name])] : [])]);
    return h("td", { className: "zl-do" }, ...made);
  }

  let drawnFor = "";
  return (next) => {
    state = next;
    const known = JSON.stringify(model.get("_controls"));
    if (known + state.alive !== drawnFor) {
      forget(ofLeader);
      ofLeader.replaceChildren(...controls("leader").map((each) => faultButton(each, [], {}, form)));
      drawBrushes();
      drawnFor = known + state.alive;
    }
    drawGrid();
  };

  function drawGrid() {
    const many = state.nodes.length >= MANY;
    grid.classList.toggle("zl-many", many);
    forget(grid);
    const head = h("tr", {}, h("th", { className: "zl-from", textContent: "from \\ to" }),
      ...state.nodes.map((node) => h("th", { title: node.name }, ...name(node, many))), h("th"));
    const rows = state.nodes.map((node) => h("tr", {}, h("th", { className: "zl-from", title: node.name }, ...name(node)),
      ...state.nodes.map((other) => cell(node, other)), ofNode(node)));
    grid.replaceChildren(h("table", {}, h("tbody", {}, head, ...rows)));
  }
});
