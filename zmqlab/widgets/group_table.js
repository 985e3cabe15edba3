// Raft groups: a row a group, a column a node, in the cell how far the node is behind there.

const WAITS_MS = 150; // a shorter wait is ordinary

export default panel(({ el }) => {
  const said = h("span", { className: "zl-faint" });
  const body = h("tbody"), head = h("tr");
  const table = h("div", { className: "zl-scroll" }, h("table", {}, h("thead", {}, head), body));
  const opened = h("details", {}, h("summary", {}, "lag of each group at each node"), table);
  el.append(h("div", { className: "zl-head" }, h("h4", { textContent: "Groups" }), said), opened);

  function cell(group, node) {
    const lag = group.lags[node.name];
    if (lag === undefined) return h("td", { className: "zl-num zl-faint", title: `${node.name} does not hold group ${group.number}` });
    const leads = group.leader === node.name;
    return h("td", { className: "zl-num", title: `${node.name} in group ${group.number}: ${number(lag)} entries to apply` },
      leads ? svgShape("crown", "var(--zl-ink)") : "", ` ${number(lag)}`);
  }

  return (state) => {
    el.hidden = state.groups.length === 0;
    said.textContent = state.ended ? "the cluster has stopped: this is how it ended" : state.said;
    if (!opened.open) return;
    head.replaceChildren(h("th", { textContent: "group" }), h("th", { textContent: "term", className: "zl-num" }),
      ...state.nodes.map((node) => h("th", { className: "zl-num" }, nodeMark(node), node.name)), h("th", { textContent: "clients" }));
    body.replaceChildren(...state.groups.map((group) => h("tr", { className: group.leader ? "" : "zl-down", data: { group: group.number } },
      h("td", { textContent: group.number }), h("td", { className: "zl-num", textContent: number(group.term) }),
      ...state.nodes.map((node) => cell(group, node)),
      h("td", { textContent: group.waits_ms >= WAITS_MS ? `wait for ${number(group.waits_ms)} ms` : group.leader ? "" : "no leader" }))));
  };
});
