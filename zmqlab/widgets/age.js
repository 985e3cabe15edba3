// Whether what a widget shows is old: its kernel restarts, or has said nothing for a while. A page can't know more than
// that. panel.py and live_figure.py put this in front of their own scripts.

const SILENT_MS = 7000;   // Python speaks every two seconds at least (BEAT_S), and a busy machine may be late

// `expects()`: whether the kernel is to speak at all now. Call `hear()` at each word of it.
function watchAge(model, el, expects) {
  const note = document.createElement("div");
  let heardAt = performance.now(), restarts = false;
  const show = () => {
    const silent = performance.now() - heardAt;
    const old = restarts || (expects() && silent > SILENT_MS);
    note.hidden = !old;
    note.textContent = restarts ? "The kernel restarts, so that what stands here is old: run the cell again." :
      `No news from the kernel for ${Math.round(silent / 1000)} s: what stands here is old.`;
    el.classList.toggle("zl-old", old);
    el.inert = restarts;   // the new kernel knows none of these buttons
  };
  const hear = () => {
    heardAt = performance.now();
    restarts = false;
    if (!note.hidden) show();
  };
  const restart = () => {
    restarts = true;
    show();
  };
  note.className = "zl-problem zl-age";
  note.hidden = true;
  el.prepend(note);
  const timer = setInterval(show, 1000);
  model.on("comm_live_update", restart);
  return { hear, close: () => {
    clearInterval(timer);
    model.off("comm_live_update", restart);
  } };
}

