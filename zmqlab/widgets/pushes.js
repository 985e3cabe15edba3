// The page's end of live_figure.Pushes and of courier.Courier. `state` has `seq`, the number of the last push that was
// taken (NaN: none); `waiting`, whether a key frame is awaited; and `saidAt`, when the kernel was told last that a push
// was painted.

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

// The parts of one box in a message of the courier, each with its buffers.
function partsOf(box, { parts = [] }, buffers) {
  let from = 0;
  return parts.map(([to, count, message]) => ({ to, message, buffers: buffers.slice(from, from += count) }))
    .filter(({ to }) => to === box);
}

// Hear the pushes of a widget for one view: those that come alone, and its parts of what its courier brings.
// `take(message, buffers)` is called with each. `begun` is done when nothing is missed any more: whether the widget is
// still on the page then.
function hearPushes(model, view, take) {
  const box = model.get("_box");
  let courier = null, over = false;
  const open = (content, buffers) => { for (const part of partsOf(box, content, buffers)) take(part.message, part.buffers); };
  const begin = async () => {
    const name = box ? model.get("_courier").replace("IPY_MODEL_", "") : "";
    const missing = (error) => { console.warn("zmqlab: what several figures push at once does not reach this page", error); };
    const found = name ? await model.widget_manager.get_model(name).catch(missing) : null;
    if (over) return false;
    courier = found ?? null;
    courier?.on("msg:custom", open);
    return true;
  };
  model.on("msg:custom", take);
  return {
    begun: begin(),
    // The kernel is told twice a second what was painted: by this widget, or by all that share the courier.
    painted: (state, say) => {
      if (Number.isNaN(state.seq)) return;    // the first key frame is on its way
      const told = courier ? courier.zmqlabPainted ??= { saidAt: 0, boxes: new Map() } : state;
      courier && told.boxes.set(view, [box, view, state.seq]);
      if (performance.now() - told.saidAt < PAINTED_MS) return;
      told.saidAt = performance.now();
      if (!courier) { say("painted"); return; }
      try { courier.send({ painted: [...told.boxes.values()] }); } catch { /* The kernel is gone. */ }
      told.boxes.clear();
    },
    close: () => {
      over = true;
      model.off("msg:custom", take);
      courier?.off("msg:custom", open);
      courier?.zmqlabPainted?.boxes.delete(view);    // told later, it would bring back a view that has gone
    },
  };
}

