// The log of events.

const SORTS = { fault: ["cross", "var(--zl-fault)"], election: ["crown", "var(--zl-well)"],
  change: ["dot", "var(--zl-change)"], "": ["dot", "var(--zl-grid)"] };

export default panel(({ el }) => {
  const body = h("tbody");
  const head = h("tr", {}, ...["time", "node", "what", "term", ""].map((text) => h("th", { textContent: text })));
  const note = h("div", { className: "zl-note zl-faint", textContent: "Nothing has happened yet." });
  el.append(h("div", { className: "zl-head" }, h("h4", { textContent: "Events" })), note,
    h("div", { className: "zl-log" }, h("table", {}, h("thead", {}, head), body)));
  return (state) => {
    note.hidden = state.events.length > 0;
    body.replaceChildren(...state.events.map((event) => h("tr", {},
      h("td", { textContent: event.at }), h("td", { textContent: event.node }),
      h("td", {}, h("span", { className: "zl-role" }, svgShape(...SORTS[event.sort]), event.what)),
      h("td", { textContent: event.term ?? "" }), h("td", { textContent: event.text }))));
  };
});
