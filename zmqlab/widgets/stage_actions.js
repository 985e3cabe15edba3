// One row of actions: the leader's faults, a menu for single nodes, healing, and the size of the cluster.

export default panel(({ model, el, button, faultButton, undoButton, send, forget }) => {
  const ofLeader = h("span", { className: "zl-buttons" });
  const form = h("div", { className: "zl-form", hidden: true });
  const heal = button("heal all", "heal", { do: "heal" },
    { title: "all links whole, paused nodes resumed, stopped nodes restarted" });
  const [menuButton, menu] = popover("a node", "break or mend one node");
  const fewer = h("button", { type: "button", className: "zl-button", textContent: "−", title: "one node fewer" });
  const counted = h("span", { className: "zl-button zl-now" });
  const moreNodes = h("button", { type: "button", className: "zl-button", textContent: "+", title: "one node more" });
  const stepper = h("span", { className: "zl-stepper" }, fewer, counted, moreNodes);
  el.append(h("div", { className: "zl-actions" }, ofLeader, menuButton, menu, heal,
    h("span", { className: "zl-space" }), h("span", { className: "zl-count" },
      h("span", { className: "zl-faint", textContent: "nodes" }), stepper)), form);
  const controls = (target) => model.get("_controls").filter((each) => each.target === target);

  function drawLeader() {
    forget(ofLeader);
    ofLeader.replaceChildren(...controls("leader").map((each) => faultButton(each, [], {}, form)));
  }
  const isIll = (state, node) => (state.links_of ?? []).includes(node.name);
  function drawMenu(state) {
    forget(menu);
    menu.replaceChildren(...state.nodes.map((node) => h("div", { className: `zl-pop-row${node.leads ? " zl-leads" : ""}`, data: { node: node.name } },
      h("span", { className: "zl-pop-name" }, nodeMark(node), node.name + (node.leads ? " ★" : "")),
      ...controls("node").flatMap((each) => [
        ...(each.states.includes(node.state) ? [faultButton(each, [node.name], {}, form)] : []),
        ...(each.undo && (each.undo.states.length ? each.undo.states.includes(node.state) : isIll(state, node))
          ? [undoButton(each, [node.name])] : []),
      ]))));
  }

  let leaderFor = "", menuFor = "";
  return (state) => {
    const known = JSON.stringify(model.get("_controls")), now = state.nodes.length;
    if (known !== leaderFor) { drawLeader(); leaderFor = known; }
    const key = known + JSON.stringify([state.nodes.map((node) => [node.name, node.state, node.colour, node.leads]), state.links_of]);
    if (key !== menuFor) { drawMenu(state); menuFor = key; }
    counted.textContent = state.scaling_to ? `${now} → ${state.scaling_to}` : now;
    counted.classList.toggle("zl-busy", Boolean(state.scaling_to));
    const step = (by) => () => send({ do: "scale", count: now + by });
    [fewer.onclick, moreNodes.onclick] = [step(-1), step(1)];
    const still = Boolean(state.scaling_to || state.outside) || !state.alive;
    fewer.title = state.outside || "one node fewer";
    moreNodes.title = state.outside || "one node more";
    fewer.disabled = still || now <= 1;
    moreNodes.disabled = still || now >= state.scale_max;
    menuButton.disabled = !state.alive;
  };
});
