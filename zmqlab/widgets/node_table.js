// The table of nodes.

const ROLES = {
  leader: ["crown", "var(--zl-ink)"], follower: ["dot", "var(--zl-change)"], candidate: ["triangle", "var(--zl-warning)"],
  "pre-candidate": ["triangle", "var(--zl-warning)"], learner: ["ring", "var(--zl-ink)"], paused: ["bars", "var(--zl-warning)"],
  stopped: ["cross", "var(--zl-fault)"], silent: ["ring", "var(--zl-fault)"], running: ["ring", "var(--zl-change)"],
};
const HEAD = [["node"], ["role"], ["term", "zl-num"], ["applied", "zl-num", "log index that the node has applied"],
  ["lag", "zl-num", "entries that the node knows of and has not applied"],
  ["state hash", "", "chain hash at the newest checkpoint that all running nodes have told"],
  ["orders/s", "zl-num", "orders that clients sent to this node"], ["CPU", "zl-num", "of one core"], ["memory", "zl-num"], [""]];

export default panel(({ model, el, button, faultButton, undoButton, send, forget }) => {
  const title = h("h4", { textContent: "Nodes" });
  const summary = h("span", { className: "zl-faint" });
  const stepper = h("span", { className: "zl-stepper", title: "members of the cluster" });
  const body = h("tbody");
  const head = h("tr", {}, ...HEAD.map(([text, className, title]) =>
    h("th", { textContent: text, className: className ?? "", title: title ?? "" })));
  const ofLeader = h("span", { className: "zl-buttons" });
  const form = h("div", { className: "zl-form", hidden: true });
  const outside = h("div", { className: "zl-faint zl-note", hidden: true });   // why buttons are disabled
  const heal = button("heal all", "heal", { do: "heal" },
    { title: "all links whole, paused nodes resumed, stopped nodes restarted" });
  el.append(
    h("div", { className: "zl-head" }, title, summary, h("span", { className: "zl-space" }),
      h("span", {}, h("span", { className: "zl-faint", textContent: "scale to " }), stepper), ofLeader, heal),
    h("div", { className: "zl-scroll zl-nodes" }, h("table", {}, h("thead", {}, head), body)), outside, form);
  const controls = (target) => model.get("_controls").filter((each) => each.target === target);

  // The buttons for a node: those that its state allows.
  const allowed = (node, isRare) => controls("node").filter((each) => each.is_rare === isRare).flatMap((each) => [
    ...(each.states.includes(node.state) ? [faultButton(each, [node.name], {}, form)] : []),
    ...(each.undo?.states.includes(node.state) && (!isRare || node.suffers) ? [undoButton(each, [node.name])] : []),
  ]);
  // Those in its row, and one that shows the others below the table.
  function actions(node, disabled) {
    const made = h("button", { type: "button", className: "zl-button", textContent: "more", data: { more: node.name }, disabled,
      title: "its disk, its clock, its clients", onclick: () => showMore(node.name) });
    return [...allowed(node, false), ...(controls("node").some((each) => each.is_rare) ? [made] : [])];
  }
  function showMore(name) {
    const node = nodes.find((each) => each.name === name);
    if (!node) return;
    const close = () => { forget(form); form.replaceChildren(); form.hidden = true; };
    forget(form);
    form.replaceChildren(h("span", { className: "zl-value", textContent: name,
      data: { more: name, key: keyOf(node) } }), ...allowed(node, true),
      h("button", { type: "button", className: "zl-close", textContent: "×", title: "leave it", onclick: close }));
    form.hidden = false;
  }
  const keyOf = (node) => `${node?.state} ${node?.suffers}`;
  // What is open below the table follows its node; sliders that stand there in its place are left alone.
  function followMore() {
    const open = form.firstElementChild?.dataset ?? {};
    if (open.more && open.key !== keyOf(nodes.find((each) => each.name === open.more))) showMore(open.more);
  }
  function drawOfLeader() {
    forget(ofLeader);
    ofLeader.replaceChildren(...controls("leader").map((each) => faultButton(each, [], {}, form)));
  }

  // Rows are made anew only when a node or its state changes. In between only texts are set, so that no click is lost.
  function makeRows(state) {
    forget(body);
    body.replaceChildren(...state.nodes.map((node) => {
      const row = h("tr", { data: { node: node.name } }, ...HEAD.map(([, className]) => h("td", { className: className ?? "" })));
      row.cells[0].append(nodeMark(node), node.name, h("div", { className: "zl-suffers" }));
      row.lastChild.className = "zl-do";
      const [opener, menu] = popover("⋯", `break or mend ${node.name}`);
      opener.textContent = "⋯";
      opener.ariaLabel = opener.title;
      opener.disabled = !state.alive;
      menu.append(...actions(node, !state.alive));
      row.lastChild.append(opener, menu);
      return row;
    }));
  }

  function fillRow(row, node, state) {
    row.className = node.leads ? "zl-leads" : node.state === "running" ? "" : "zl-down";
    const [shape, colour] = ROLES[node.looks ?? node.role] ?? ROLES.running;
    row.cells[0].title = node.pid ? `process ${node.pid}` : "";
    row.cells[0].lastChild.textContent = node.suffers;
    row.cells[1].replaceChildren(h("span", { className: "zl-role" }, svgShape(shape, colour), node.role));
    row.cells[2].textContent = number(node.term);
    row.cells[3].textContent = number(node.applied);
    row.cells[4].textContent = number(node.lag);
    const mark = node.agrees ? ["zl-agree", " ✓"] : ["zl-differ", " ≠"];
    row.cells[5].replaceChildren(h("span", { className: "zl-hash", textContent: node.hash || "–" }),
      node.hash ? h("span", { className: mark[0], textContent: mark[1] }) : "");
    row.cells[6].textContent = number(node.orders);
    row.cells[7].textContent = node.cpu === null ? "–" : `${node.cpu} %`;
    row.cells[8].textContent = node.memory_mib === null ? "–" : `${node.memory_mib} MiB`;
  }

  // Who leads; if no node does for want of a majority, what to do.
  function whoLeads(state) {
    if (state.ended) return "the cluster has stopped";
    if (!state.alive) return "the figures have stopped";
    if (state.of_groups) return state.of_groups;
    if (state.leader) return `${state.leader} leads`;
    const counted = (what) => state.nodes.filter((node) => node.state === what).length;
    const running = counted("running"), paused = counted("paused");
    if (state.outside && 2 * running <= state.nodes.length)
      return `no node leads: ${running} of ${state.nodes.length} are heard, and a majority must run`;
    if (!running && paused) return `no node leads: ${paused === state.nodes.length ? "all nodes are paused" :
      `${paused} are paused, the others stopped`}, and heal all brings them back`;
    if (!running) return "no node runs: heal all starts them";
    if (2 * running > state.nodes.length) return "no node leads";
    return `no node leads: ${running} of ${state.nodes.length} run, and a majority must`;
  }

  function drawStepper(state) {
    const now = state.nodes.length;
    const counts = Array.from({ length: state.scale_max }, (_, index) => index + 1);
    const target = state.scaling_to;
    forget(stepper);
    stepper.replaceChildren(...counts.map((count) => {
      const made = h("button", { type: "button", className: "zl-button", textContent: count, data: { count },
        title: state.outside || (count === now ? "as it is" : `scale to ${count}`) });
      made.classList.toggle("zl-now", count === now);
      made.classList.toggle("zl-busy", count === target);
      made.disabled = Boolean(target || state.outside) || count === now || !state.alive;
      made.onclick = () => { made.classList.add("zl-busy"); send({ do: "scale", count }); };
      return made;
    }));
  }

  let nodes = [], drawnFor = "", stepperFor = "", leaderFor = "";
  return (state) => {
    nodes = state.nodes;
    outside.hidden = !state.outside;
    outside.textContent = state.outside && `${state.outside[0].toUpperCase()}${state.outside.slice(1)}.`;
    followMore();
    const known = JSON.stringify(model.get("_controls"));
    if (known !== leaderFor) { drawOfLeader(); leaderFor = known; }
    const key = known + state.alive + JSON.stringify(state.nodes.map((node) => [node.name, node.state, node.colour]));
    if (key !== drawnFor) { makeRows(state); drawnFor = key; }
    state.nodes.forEach((node, index) => fillRow(body.rows[index], node, state));
    const stepperKey = `${state.nodes.length} ${state.scaling_to} ${state.alive}`;
    if (stepperKey !== stepperFor) { drawStepper(state); stepperFor = stepperKey; }
    const agree = state.parted.length ? h("span", { className: "zl-differ", textContent: `states part at index ${number(state.parted[0])}` })
      : state.hash_index ? h("span", {}, h("span", { className: "zl-agree", textContent: "✓ " }), `all agree at index ${number(state.hash_index)}`) : "";
    summary.replaceChildren(whoLeads(state), agree ? " · " : "", agree, state.links_cut ? ` · ${state.links_cut} link${state.links_cut === 1 ? "" : "s"} not whole` : "");
  };
});
