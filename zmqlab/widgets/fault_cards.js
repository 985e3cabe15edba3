// The cards: what each fault cost.

const ms = (value) => value === null ? "–" : value < 10 ? `${number(value, 1)} ms` : `${number(value)} ms`;

export default panel(({ el }) => {
  const newest = h("div", { className: "zl-strip" });
  const note = h("span", { className: "zl-faint",
    textContent: "Nothing has been broken yet: kill the leader, and this row tells what it cost." });
  const count = h("summary");
  const earlier = h("details", { hidden: true }, count);
  const older = h("div", { className: "zl-scroll" });
  const film = filmStrip();
  earlier.append(older);
  el.append(h("div", { className: "zl-head" }, h("h4", { textContent: "What the last fault cost" })), newest, film.el, earlier);

  // Lost or twice: the verdict's word, else what was counted so far.
  const judged = (card, said, count, soFar) => said ||
    (soFar && card.silence_ms !== null && count !== null && count !== undefined ? `${number(count)} so far` :
      card.silence_ms === null && !card.young ? "no load" : "judged at the end");

  // The figures of one fault: [figure, label, explanation].
  function figures(card, soFar) {
    const later = card.young ? "…" : "–";
    const never = card.led || (card.links && card.young) ? later : "no election";
    const during = card.unserved ? "clients wait" : card.p99_during_ms === null ? "" : ms(card.p99_during_ms);
    return [
      [card.detected_ms === null ? never : ms(card.detected_ms), "detected after", "another node began to campaign, or won"],
      [card.elected_ms === null ? never : ms(card.elected_ms), card.new_leader ? `elected after: ${card.new_leader}` : "elected after", ""],
      [card.silence_ms === null ? "no load" : ms(card.silence_ms) + (card.unserved ? " so far" : "") +
        (card.waited.length ? `, group${card.waited.length > 1 ? "s" : ""} ${card.waited.join(", ")}` : ""), "no acknowledgement for",
        "the longest time in which answers were owed and none came"],
      [during ? `${ms(card.p99_before_ms)} → ${during}` : "–", "p99 before → during",
        "response time in the 5 s before the fault, and from it to 3 s after the election or the silence"],
      [judged(card, card.lost, soFar && soFar.lost + soFar.misplaced, soFar), "orders lost", soFar ? `${soFar.text}. ${soFar.how}` :
        "acknowledged orders that are not in the log; the verdict tells, when the load is stopped"],
      [judged(card, card.duplicated, soFar?.twice, soFar), "orders duplicated", soFar ? `${soFar.text}. ${soFar.how}` :
        "orders that were applied twice; the verdict tells, when the load is stopped"],
    ];
  }
  const title = (card) => card.title + (card.led ? " (it led)" : "");

  function draw(card, soFar) {
    const tone = (value) => value === "0" || value === "0 so far" ? " zl-good" : value.endsWith("so far") && !value.includes("ms") ? " zl-bad" : value.includes("judged") || value.includes("no ") ? " zl-open" : "";
    return [
      h("div", { className: "zl-card-title" }, h("b", { textContent: title(card) }), h("span", { className: "zl-faint", textContent: card.at })),
      ...figures(card, soFar).map(([value, label, explained]) => h("div", { className: `zl-figure${tone(value)}`, title: explained },
        h("b", { textContent: value }), h("span", { className: "zl-faint", textContent: label }))),
    ];
  }

  const row = (card) => h("tr", {}, h("td", { textContent: card.at }), h("td", { textContent: title(card) }),
    ...figures(card).map(([value]) => h("td", { textContent: value })));

  return (state) => {
    const [first, ...rest] = state.cards;
    newest.classList.toggle("zl-none", !first);
    newest.replaceChildren(...(first ? draw(first, state.so_far) : [note]));
    film.show(first ? state.film : null, first?.new_leader, state.so_far);
    earlier.hidden = rest.length === 0;
    count.textContent = `${rest.length} earlier`;
    if (rest.length) older.replaceChildren(h("table", {}, h("thead", {}, h("tr", {},
      ...["at", "fault", "detected", "elected", "no acknowledgement", "p99", "lost", "duplicated"].map((text) => h("th", { textContent: text })))),
      h("tbody", {}, ...rest.map(row))));
  };
});
