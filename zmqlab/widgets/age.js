// Whether what a widget shows is old: its kernel restarts, has ended, or has said nothing for a while. JupyterLab tells
// the status of the kernel; elsewhere a page knows only its silence. panel.py and live_figure.py put this in front of
// their own scripts. What is old can't be clicked: a click would act on something else than the person sees.

const SILENT_MS = 7000;   // Python speaks every two seconds at least (BEAT_S), and a busy machine may be late
const GONE = {
  restarting: "the kernel restarts, and its cluster has ended with it",
  autorestarting: "the kernel has died, and its cluster with it",
  dead: "the kernel has died, and its cluster with it",
  terminating: "the kernel has ended, and its cluster with it",
};
const HOW = () => document.querySelector(".jp-NotebookPanel") ? "run the cells again" : "load the page again";

// `expects()`: whether the kernel is to speak at all now. `teller.tell({ what, how })` shows what is wrong, or null that
// nothing is; without it a note above the widget does. Call `hear()` at each word of the kernel.
function watchAge(model, el, expects, teller = {}) {
  const note = document.createElement("div");
  let heardAt = performance.now(), gone = "", watched = null;
  const show = () => {
    watchKernel();
    const silent = performance.now() - heardAt;
    const what = gone || (expects() && silent > SILENT_MS ?
      `no news from the kernel for ${Math.round(silent / 1000)} s: it is gone, or it hangs` : "");
    el.classList.toggle("zl-old", Boolean(what));
    el.inert = Boolean(what) && !teller.tell;
    note.hidden = !what || Boolean(teller.tell);
    const how = gone ? HOW() : `wait; or restart it, and ${HOW()}`;
    note.textContent = what ? `NO KERNEL: ${what}. What stands here is old. To go on, ${how}.` : "";
    teller.tell?.(what ? { what, how } : null);
  };
  const hear = () => {
    heardAt = performance.now();
    gone = "";
    if (el.classList.contains("zl-old")) show();
  };
  const lose = (status) => {
    if (!(status in GONE)) return;
    gone = GONE[status];
    show();
  };
  const restart = () => lose("restarting");
  const status = (kernel, now) => lose(now);
  // A model of this page knows the manager of all of them, and JupyterLab's manager knows the kernel; null: there is none.
  const watchKernel = () => {
    const manager = model.get("layout")?.widget_manager;
    const kernel = manager?.kernel;
    if (kernel === null && watched) gone ||= GONE.terminating;
    if (!kernel || kernel === watched) return;
    watched?.statusChanged?.disconnect(status);
    watched = kernel;
    kernel.statusChanged?.connect(status);
    if (kernel.status in GONE) gone = GONE[kernel.status];
  };
  note.className = "zl-problem zl-age";
  note.hidden = true;
  el.prepend(note);
  const timer = setInterval(show, 1000);
  model.on("comm_live_update", restart);
  return { hear, close: () => {
    clearInterval(timer);
    watched?.statusChanged?.disconnect(status);
    model.off("comm_live_update", restart);
  } };
}

