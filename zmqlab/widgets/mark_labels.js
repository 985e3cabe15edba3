// Which labels of marks a figure has room for, and their colours on a dark page. It knows no page, and is tested without one.

const LANE = 1.35;     // lines of text from one lane of labels to the next
const LIT = 0.45;      // the share of white that a mark's colour gets on a dark page: there the text would be too dark to read
const LABELLED = 0.6;  // the share of a figure's height that labels may hang down into

// A colour such as #CF222E for a dark page.
const lit = (colour) => `#${[1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16))
  .map((part) => Math.round(part + LIT * (255 - part)).toString(16).padStart(2, "0")).join("")}`;

// The labels of marks without those that would cover a newer one in the same lane, that would hang too far down into the
// curves, or that the figure's left edge would cut off. Marks come oldest first, and each label ends at its mark. `pxPerMs`,
// `heightPx`: of the figure; `linePx`: how high a line of text is; `widthOf(text)`: how wide; `from`: the time at the left edge.
function roomy(marks, pxPerMs, heightPx, linePx, widthOf, from = -Infinity) {
  const lanes = Math.max(1, Math.floor(LABELLED * heightPx / (LANE * linePx))), taken = {}, label = [...marks.label];
  for (let row = label.length - 1; row >= 0; row--) {
    const end = marks.t[row] * pxPerMs, start = end - widthOf(label[row]);
    if (!label[row]) continue;
    if (start < from * pxPerMs || -marks.y[row] >= lanes || end > (taken[marks.y[row]] ?? Infinity)) label[row] = "";
    else taken[marks.y[row]] = start - 4;
  }
  return { ...marks, label };
}

