// The page's end of live_figure.Pushes. `state` has `seq`, the number of the last push that was taken (NaN: none);
// `waiting`, whether a key frame is awaited; and `saidAt`, when the kernel was told last that a push was painted.

const PAINTED_MS = 450;   // so often the kernel is told at most

// Whether a push is to be taken: it follows the last one, or is a key frame. After a gap the kernel is asked for one, once.
function inSequence(message, state, say) {
  if (!message.key && message.seq !== state.seq + 1) {
    if (!state.waiting) say("gap");
    state.waiting = true;
    return false;
  }
  state.waiting = false;
  state.seq = message.seq;
  return true;
}

// The columns of a stream, by name, from its buffer: one after the other, all of one length.
function columnsOf(names, view) {
  const all = new Float64Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength)), rows = all.length / names.length;
  return Object.fromEntries(names.map((name, place) => [name, all.subarray(place * rows, (place + 1) * rows)]));
}

function sayPainted(state, say) {
  if (performance.now() - state.saidAt < PAINTED_MS) return;
  state.saidAt = performance.now();
  say("painted");
}

