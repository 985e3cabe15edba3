// The grid of directed links.

export default panel(({ model, el, button, send, forget }) => {
  const grid = h("div", { className: "zl-scroll zl-matrix" });
  const note = h("div", { className: "zl-note zl-faint",
    textContent: "Click a link to cut it, again to heal it. A row speaks, a column hears. Click a name to cut that node off." });
  const delay = h("input", { type: "range", min: 0, step: 5, value: 0 });
  const delayText = h("span", { className: "zl-value" });
  const loss = h("input", { type: "range", min: 0, max: 100, step: 1, value: 0 });
  const lossText = h("span", { className: "zl-value" });
  const chosen = h("span", { className: "zl-value" });
  const form = h("div", { className: "zl-form", hidden: true }, chosen,
    h("label", {}, "delay", delay, delayText), h("label", {}, "loss", loss, lossText));
  el.append(
    h("div", { className: "zl-head" }, h("h4", { textContent: "Links" }), h("span", { className: "zl-space" }),
      button("cut the leader off", "isolate_leader", { do: "isolate_leader" }, { className: "zl-button zl-danger" }),
      button("heal all links", "heal", { do: "heal" })),
    note, grid, form);
  let selected = null, state = model.get("_state");

  const faultOf = (source, target) => state.links.find((each) => each.source === source && each.target === target);
  const words = (fault) => !fault ? "" : fault.cut ? "cut" :
    [fault.delay_ms ? `${number(fault.delay_ms)} ms` : "", fault.loss ? `${number(100 * fault.loss)} %` : ""].filter(Boolean).join(" ");

  const showValues = () => {
    delayText.textContent = `${delay.value} ms`;
    lossText.textContent = `${loss.value} %`;
  };
  const apply = () => {
    const [source, target] = selected;
    send({ do: "set", source, target, delay_ms: Number(delay.value), loss: Number(loss.value) / 100 }, `link:${source}:${target}`);
  };
  for (const slider of [delay, loss]) {
    slider.oninput = showValues;
    slider.onchange = apply;
  }
  const choose = (source, target) => {
    selected = [source, target];
    const fault = faultOf(source, target);
    delay.value = fault?.delay_ms ?? 0;
    loss.value = 100 * (fault?.loss ?? 0);
    chosen.textContent = `${source} → ${target}`;
    form.hidden = false;
    showValues();
  };

  function cell(source, target) {
    if (source === target) return h("td", { className: "zl-self", textContent: "·" });
    const fault = faultOf(source, target);
    const key = `link:${source}:${target}`;
    const made = button(words(fault), key, { do: "toggle", source, target }, {
      className: `zl-cell${fault?.cut ? " zl-cut" : fault ? " zl-ill" : ""}`,
      title: `${target} ${fault?.cut ? "does not hear" : "hears"} ${source}`, disabled: !state.alive });
    const click = made.onclick;
    made.onclick = () => { choose(source, target); click(); };
    if (selected?.[0] === source && selected?.[1] === target) made.classList.add("zl-selected");
    made.dataset.link = `${source} ${target}`;
    return h("td", {}, made);
  }
  const name = (node) => [h("span", { className: "zl-swatch", style: { background: node.colour } }),
    node.name + (node.name === state.leader ? " ★" : "")];

  return (next) => {
    state = next;
    delay.max = state.delay_ms_max;
    forget(grid);
    const head = h("tr", {}, h("th", { className: "zl-from", textContent: "from \\ to" }),
      ...state.nodes.map((node) => h("th", {}, ...name(node))));
    const rows = state.nodes.map((node) => h("tr", {},
      h("th", { className: "zl-from" }, (() => {
        const made = button("", `isolate:${node.name}`, { do: "isolate", node: node.name },
          { title: `cut ${node.name} off from all others`, disabled: state.nodes.length < 2 });
        made.replaceChildren(...name(node));
        return made;
      })()),
      ...state.nodes.map((other) => cell(node.name, other.name))));
    grid.replaceChildren(h("table", {}, h("tbody", {}, head, ...rows)));
  };
});
