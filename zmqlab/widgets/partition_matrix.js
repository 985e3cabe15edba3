// The grid of directed links.

export default panel(({ model, el, button, faultButton, undoButton, sliders, forget, send }) => {
  const grid = h("div", { className: "zl-scroll zl-matrix" });
  const note = h("div", { className: "zl-note zl-faint",
    textContent: "Click a link to cut it, again to heal it. A row speaks, a column hears." });
  const ofLeader = h("span", { className: "zl-buttons" });
  const form = h("div", { className: "zl-form", hidden: true });
  el.append(
    h("div", { className: "zl-head" }, h("h4", { textContent: "Links" }), h("span", { className: "zl-space" }),
      ofLeader, button("heal all links", "heal", { do: "heal" })),
    note, grid, form);
  let selected = null, state = model.get("_state");

  const controls = (target) => model.get("_controls").filter((each) => each.target === target);
  // What a click on a cell does: the first fault of a link that needs no sizes. The others stand in the form.
  const cut = () => controls("link").find((each) => each.parameters.length === 0);
  const faultOf = (source, target) => state.links.find((each) => each.source === source && each.target === target);
  const isIll = (node) => state.links.some((each) => each.source === node.name || each.target === node.name);
  // What stands in a cell; its title says it in full.
  const words = (fault) => !fault ? "" : fault.cut ? "cut" :
    [fault.delay_ms ? `${number(fault.delay_ms)} ms` : "", fault.loss ? `${number(100 * fault.loss)} %` : "",
      fault.bytes_per_s ? `${number(fault.bytes_per_s / 1000)} kB/s` : "",
      fault.duplication ? "twice" : "", fault.reordering && fault.reordering_ms ? "shuffled" : ""].filter(Boolean)
      .map((part, index, all) => index === 2 ? `+${all.length - 2}` : index > 2 ? "" : part).join(" ");

  function ofSelected(control) {
    const strike = (sizes) => send({ do: "strike", button: control.button, target: selected, sizes },
      [control.button, ...selected].join(":"));
    return control.parameters.length ? sliders(control, faultOf(...selected), strike) : [faultButton(control, selected)];
  }
  function choose(source, target) {
    selected = [source, target];
    forget(form);
    form.replaceChildren(h("span", { className: "zl-value", textContent: selected.join(" → ") }),
      ...controls("link").filter((each) => each !== cut()).flatMap(ofSelected));
    form.hidden = false;
  }

  function cell(source, target) {
    if (source === target) return h("td", { className: "zl-self", textContent: "·" });
    const fault = faultOf(source, target), control = cut(), pair = [source, target];
    const properties = {
      className: `zl-cell${fault?.cut ? " zl-cut" : fault ? " zl-ill" : ""}`,
      title: `${source} → ${target}: ${fault ? fault.text : "whole"}`, disabled: !state.alive };
    const made = fault?.cut ? undoButton(control, pair, properties) : faultButton(control, pair, properties);
    made.textContent = words(fault);
    const click = made.onclick;
    made.onclick = () => { choose(source, target); click(); };
    if (selected?.[0] === source && selected?.[1] === target) made.classList.add("zl-selected");
    made.dataset.link = `${source} ${target}`;
    return h("td", {}, made);
  }
  const name = (node) => [h("span", { className: "zl-swatch", style: { background: node.colour } }),
    node.name + (node.name === state.leader ? " ★" : "")];
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
    if (known !== drawnFor) {
      forget(ofLeader);
      ofLeader.replaceChildren(...controls("leader").map((each) => faultButton(each, [], {}, form)));
      drawnFor = known;
    }
    forget(grid);
    const head = h("tr", {}, h("th", { className: "zl-from", textContent: "from \\ to" }),
      ...state.nodes.map((node) => h("th", {}, ...name(node))), h("th"));
    const rows = state.nodes.map((node) => h("tr", {}, h("th", { className: "zl-from" }, ...name(node)),
      ...state.nodes.map((other) => cell(node.name, other.name)), ofNode(node)));
    grid.replaceChildren(h("table", {}, h("tbody", {}, head, ...rows)));
  };
});
