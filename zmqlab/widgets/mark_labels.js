// Which labels of marks a figure has room for. It knows no page, and is tested without one.

const LANE = 1.35;     // lines of text from one lane of labels to the next
const LABELLED = 0.6;  // the share of a figure's height that labels may hang down into

// The labels of marks without those that would cover a newer one in the same lane, or that would hang too far down into the
// curves. Marks come oldest first, and each label ends at its mark. `pxPerMs`, `heightPx`: of the figure; `linePx`: how high a
// line of text is; `widthOf(text)`: how wide.
function roomy(marks, pxPerMs, heightPx, linePx, widthOf) {
  const lanes = Math.max(1, Math.floor(LABELLED * heightPx / (LANE * linePx))), taken = {}, label = [...marks.label];
  for (let row = label.length - 1; row >= 0; row--) {
    const end = marks.t[row] * pxPerMs, start = end - widthOf(label[row]);
    if (!label[row]) continue;
    if (-marks.y[row] >= lanes || end > (taken[marks.y[row]] ?? Infinity)) label[row] = "";
    else taken[marks.y[row]] = start - 4;
  }
  return { ...marks, label };
}

