// Three large figures, to be read from the back of a room.

export default panel(({ el }) => {
  el.classList.add("zl-large");
  const figure = (label) => {
    const value = h("b"), note = h("span", { className: "zl-faint" });
    el.append(h("div", {}, value, h("span", { textContent: label }), note));
    return (text, said, tone = "", title = "") => {
      value.parentElement.title = title;
      value.textContent = text;
      value.className = tone;
      note.textContent = said;
    };
  };
  const orders = figure("orders a second"), slow = figure("p99"), lost = figure("orders lost");
  const time = (ms) => ms >= 1000 ? `${number(ms / 1000, 1)} s` : ms >= 10 ? `${number(ms)} ms` : `${number(ms, 1)} ms`;

  return (state) => {
    const behind = state.runs && state.offered > 1.1 * state.acknowledged;
    orders(state.runs ? number(Math.round(state.acknowledged)) : "–",
      !state.runs ? (state.silent ? "the load is silent" : "no load runs") : behind ? `of ${number(Math.round(state.offered))} offered` : "acknowledged");
    slow(state.p99_ms === null ? "–" : time(state.p99_ms), state.p99_ms === null ? "no answers" : "last second");
    const counted = state.so_far;
    if (counted) return lost(number(counted.lost), counted.age_s >= 2 ? `so far, until ${counted.age_s} s ago` :
      `so far, of ${number(counted.looked_up)}`, counted.lost ? "zl-differ" : "zl-agree", counted.how);
    lost(state.lost || "–", state.lost ? "says the verdict" : "judged at the end",
      state.lost === "0" ? "zl-agree" : state.lost && state.lost !== "not judged" ? "zl-differ" : "");
  };
});
