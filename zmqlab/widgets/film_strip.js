// The seconds around a fault in slow motion: answers in every 10 ms, and under them the phases, drawn to scale.

const PHASES = [
  ["noticed_ms", "noticed", "no node had noticed: none campaigned"],
  ["elected_ms", "elected", "nodes campaigned, and none led"],
  ["answered_ms", "first answer", "a node led, and no answer had come yet"],
  ["done_ms", "backlog done", "answers came, and orders that had waited were worked off"],
];
const HUES = ["#8E1620", "#CF222E", "#E3747B", "#F2B8BC"];   // one hue in steps: what the fault cost, from dark to light

const ANSWERS_MS = 10;             // an answer came at the time that is told, or up to so much later

// The height of the picture, the top of its bars and their floor, in pixels. A low place has no line of text above the bars.
const FULL = [110, 16, 74], LOW = [56, 2, 24];
const PLAIN_PX = 12.6;             // the size of the text around a strip of these heights; larger text makes it larger
const EDGE = 16;                   // half of what the longest time below the axis is wide

const svgPart = (tag, attributes, ...children) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
};

const spoken = (ms) => ms >= 10000 ? `${number(ms / 1000, 1)} s` : ms < 10 ? `${number(ms, 1)} ms` : `${number(ms)} ms`;

// The phases that are known: from when to when, in milliseconds after the fault. The last one may go on. A first answer that
// seems to come just before the election came right after it. Where answers came after the election, and only then stopped
// for a while, there is no first answer to wait for.
function phasesOf(film) {
  const known = [];
  let from = 0;
  for (const [key, name, meaning] of PHASES) {
    if (film[key] === null) continue;
    const isLoose = ["answered_ms", "done_ms"].includes(key) && film[key] > from - ANSWERS_MS;
    const to = isLoose ? Math.max(film[key], from) : film[key];
    const place = PHASES.findIndex((each) => each[0] === key), again = key === "answered_ms" && film.silent_ms > from;
    if (again) known.push({ name: "answers again", meaning: "answers had come, and stopped for a while", from: film.silent_ms, to, place });
    else if (to >= from) known.push({ name, meaning, from, to, place });
    from = Math.max(from, to);
  }
  return known;
}

function filmStrip() {
  const strip = svgPart("svg", { class: "zl-film-picture", role: "img" });
  const legend = h("div", { className: "zl-film-legend" });
  const el = h("div", { className: "zl-film", hidden: true }, strip, legend);
  let shown = null, drawn = "";

  // `waits`: the Raft groups that still give no answer, where others do.
  function draw(film, leader, waits) {
    // A wall has larger text. A strip that is on no page has no size.
    const style = getComputedStyle(el), scale = Math.max(1, parseFloat(style.fontSize) / PLAIN_PX || 1);
    const width = Math.max(el.clientWidth || 0, 300) / scale, left = 4, right = 4;
    const [height, top, floor] = style.getPropertyValue("--zl-film-low").trim() ? LOW : FULL;
    const x = (ms) => left + (width - left - right) * (ms - film.from_ms) / (film.until_ms - film.from_ms);
    const perBin = film.offered * film.bin_ms / 1000;
    const most = Math.max(perBin * 2.2, 1);
    const y = (orders) => floor - (floor - top) * Math.min(orders / most, 1);
    const parts = [];
    const text = (at, place, said, anchor = "middle", more = {}) =>
      parts.push(svgPart("text", { x: at, y: place, "text-anchor": anchor, ...more }, said));

    // The gap, the answers, what was offered.
    if (film.silent_ms !== null) {
      const to = film.answered_ms ?? film.from_ms + film.bins.length * film.bin_ms;
      parts.push(svgPart("rect", { x: x(film.silent_ms), y: top, width: Math.max(x(to) - x(film.silent_ms), 1), height: floor - top, class: "zl-film-gap" }));
    }
    let path = "", clipped = null;
    film.bins.forEach((orders, place) => {
      const at = film.from_ms + place * film.bin_ms;
      if (orders) path += `M${x(at).toFixed(1)} ${floor}V${y(orders).toFixed(1)}H${Math.max(x(at + film.bin_ms) - 0.4, x(at) + 0.6).toFixed(1)}V${floor}Z`;
      if (orders > most && (clipped === null || orders > clipped.orders)) clipped = { at, orders };
    });
    parts.push(svgPart("path", { d: path, class: "zl-film-answers" }));
    if (perBin) {
      parts.push(svgPart("line", { x1: left, x2: width - right, y1: y(perBin), y2: y(perBin), class: "zl-film-offered" }));
      const offered = `dashed: ${number(Math.round(film.offered))} orders/s offered`;
      if (top > 10) text(left, 10, width < 460 ? offered : `answers in every ${number(film.bin_ms)} ms, ${offered}`, "start");
    } else if (top > 10) text(left, 10, "no load ran", "start");
    if (clipped && top > 10) {
      text(width - right, 10, `▲ cut off: ${number(Math.round(film.burst))}/s`, "end", { class: "zl-film-note" });
    }
    if (film.silent_ms !== null) {
      const to = film.answered_ms ?? film.from_ms + film.bins.length * film.bin_ms;
      const said = film.silent_ms <= film.from_ms ? "no answers since before this fault" :
        `${spoken(to - film.silent_ms)} without an answer${film.answered_ms === null ? " so far" : ""}`;
      const middle = (x(film.silent_ms) + x(to)) / 2, room = said.length * 3.2;
      text(Math.min(Math.max(middle, room), width - room), (top + floor) / 2 + (top > 10 ? 0 : 4), said, "middle", { class: "zl-film-said" });
    }

    // The fault, and the phases to scale.
    const known = phasesOf(film);
    for (const each of known) {
      const bar = svgPart("rect", { x: x(each.from), y: floor + 4, width: Math.max(x(each.to) - x(each.from), 1.5), height: 12, fill: HUES[each.place] });
      bar.append(svgPart("title", {}, `${each.meaning}: ${spoken(each.to - each.from)}`));
      parts.push(bar);
    }
    parts.push(svgPart("line", { x1: x(0), x2: x(0), y1: top, y2: floor + 16, class: "zl-film-fault" }));
    parts.push(svgPart("line", { x1: left, x2: width - right, y1: floor, y2: floor, class: "zl-film-axis" }));
    const span = (film.until_ms - film.from_ms) / 1000, step = span > 30 ? 10 : span > 12 ? 5 : span > 6 ? 2 : 1;
    for (let s = Math.ceil(film.from_ms / 1000 / step) * step; s * 1000 <= film.until_ms; s += step)
      text(x(s * 1000), height - 6, s === 0 ? "fault" : `${s > 0 ? "+" : "−"}${Math.abs(s)} s`, x(s * 1000) < left + EDGE ? "start" : x(s * 1000) > width - right - EDGE ? "end" : "middle");
    strip.setAttribute("viewBox", `0 0 ${width} ${height}`);
    strip.setAttribute("height", Math.round(height * scale));
    strip.setAttribute("aria-label", known.map((each) => `${each.name} after ${spoken(each.to)}`).join(", ") || "no election and no gap");
    strip.replaceChildren(...parts);

    // The same in words, because a phase of 4 ms is a pixel wide.
    const chips = known.map((each) => h("span", { className: "zl-film-chip", title: each.meaning },
      h("i", { style: { background: HUES[each.place] } }), each.name,
      each.name === "elected" && leader ? h("span", { className: "zl-film-who", textContent: `: ${leader}` }) : "", " ",
      h("b", { textContent: `+${spoken(each.to - each.from)}` }), h("span", { className: "zl-faint", textContent: ` at ${spoken(each.to)}` })));
    const open = film.silent_ms !== null && film.done_ms === null && !film.complete;
    if (film.silent_ms !== null && film.done_ms === null && film.complete) chips.push(h("span", { className: "zl-faint",
      textContent: film.answered_ms === null ? "no answer came as far as is known" : "orders still waited, as far as is known" }));
    if (waits.length) chips.unshift(h("b", { textContent: `group${waits.length > 1 ? "s" : ""} ${waits.join(", ")} still wait${waits.length > 1 ? "" : "s"} …` }));
    else if (open) chips.push(h("span", { className: "zl-faint", textContent: film.answered_ms === null ? "no answer yet …" : "orders still wait …" }));
    if (chips.length && film.offered && film.silent_ms === null && film.complete)
      chips.push(h("span", { className: "zl-faint", textContent: `no gap of ${spoken(film.least_ms)} or more in the answers after it` }));
    if (!chips.length) chips.push(h("span", { className: "zl-faint",
      textContent: film.offered ? `No election, and no gap of ${spoken(film.least_ms)} or more in the answers after it.` : "No load ran, so no client could notice." }));
    legend.replaceChildren(...chips);
  }

  const again = () => { if (shown) draw(...shown); };
  new ResizeObserver(again).observe(el);
  return { el, show: (film, leader, waits) => {
    el.hidden = !film;
    shown = film ? [film, leader, waits] : null;
    const key = JSON.stringify([film, leader, waits]);
    if (!film || key === drawn) return;
    drawn = key;
    again();
  } };
}

