// The consistency strip: a row a node, a cell a checkpoint of the log.

const CELLS = {
  same: "the same hash", differs: "ANOTHER HASH", behind: "not applied there yet", unknown: "not known: it has told nothing",
};

export default panel(({ el }) => {
  const said = h("span", { className: "zl-said" });
  const rows = h("div", { className: "zl-agreement" });
  el.append(h("div", { className: "zl-head" }, h("h4", { textContent: "Do the nodes agree?" }), said), rows);
  return (state) => {
    const sort = state.agrees === null ? "zl-faint" : state.agrees ? "zl-agree" : "zl-differ";
    said.className = `zl-said ${sort}`;
    said.textContent = `${state.agrees === null ? "?" : state.agrees ? "✓" : "✗"} ${state.said}`;
    const columns = state.columns;
    const axis = columns.length === 0 ? null : h("div", { className: "zl-agreement-row zl-faint" },
      h("span", { textContent: "log index" }), h("span", {}), h("span", { className: "zl-axis",
        style: { "max-width": `${Math.max(26 * columns.length, 120)}px` } },
        h("span", { textContent: number(columns[0]) }),
        h("span", { textContent: columns.length > 1 ? number(columns[columns.length - 1]) : "" })));
    rows.replaceChildren(...state.nodes.map((node) => h("div", { className: "zl-agreement-row" },
      h("span", {}, h("span", { className: "zl-swatch", style: { background: node.colour } }), node.name),
      h("span", { className: "zl-num", title: "applied index", textContent: number(node.applied) }),
      h("span", { className: "zl-checkpoints", role: "img",
        ariaLabel: node.cells.length ? `${node.name}: ${CELLS[node.cells[node.cells.length - 1]]}` : "no checkpoint yet" },
        ...node.cells.map((cell, place) => h("span", { className: `zl-checkpoint zl-${cell}`,
          title: `${node.name} at index ${number(columns[place])}: ${CELLS[cell]}`, textContent: cell === "differs" ? "✗" : "" })),
        node.cells.length ? null : h("span", { className: "zl-faint", textContent: "no checkpoint yet: one every 256 entries" })),
    )), ...(axis ? [axis] : []));
  };
});
