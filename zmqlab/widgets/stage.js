// The stage: the places of its parts, the tabs below them, and where on the page it stands. stage.py says what is on it.

const PLACES = ["status", "figures", "picture", "chart", "cards", "actions"];
const BESIDE_PX = 860;             // a notebook narrower than this has its stage above the text
const TEXT_PX = 600;               // so much is left for the text, if there is room: lines of code with 64 characters
const STAGE_PX = 460;              // a stage beside the text is no narrower
const SHARE = { right: 0.54, top: 0.56 };      // at most, beside the text
const SHARES = [0.25, 0.8];        // as far as its edge can be dragged
const LOOK_MS = 50, LOOKS = 40;    // for two seconds it is waited for that the cell is on the page
const KEPT_AS = "zmqlab.stage.";   // where a browser keeps what a person has chosen

function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}
const kept = (key) => {
  try {
    return localStorage.getItem(KEPT_AS + key);
  } catch {
    return null;                   // a page that may keep nothing
  }
};
const keep = (key, value) => {
  try {
    localStorage.setItem(KEPT_AS + key, value);
  } catch {
    // as above
  }
};

// Icons of 16 pixels, as paths, because not every machine has a font with such signs.
const ICONS = {
  cell: ["M2 3 H14 V13 H2 Z", "M9 3 V13", "M6.5 8 H3.5 M5 6.3 L3.3 8 L5 9.7"],
  beside: ["M2 3 H14 V13 H2 Z", "M9 3 V13", "M3.5 8 H6.5 M5 6.3 L6.7 8 L5 9.7"],
  wide: ["M2 6 V2 H6 M10 2 H14 V6 M14 10 V14 H10 M6 14 H2 V10"],
};
function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  for (const d of ICONS[name]) {
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", d);
    svg.append(path);
  }
  return svg;
}

// The dock: the stage beside the text of its notebook, or above it. `sizes` is called when its size may have changed.
function makeDock(stage, panel, notebook) {
  const edge = make("div", { className: "zl-edge", title: "drag to resize", tabIndex: 0, ariaLabel: "size of the stage" });
  edge.setAttribute("role", "separator");
  let side = "", chosen = 0;       // the share that a person has chosen; 0: none
  const usual = (width) => side === "top" ? SHARE.top : Math.min(SHARE.right, Math.max(width - TEXT_PX, STAGE_PX) / width);
  const fit = () => {
    const { offsetLeft: left, offsetTop: top, offsetWidth: width, offsetHeight: height } = notebook;
    if (!width || !height) return;             // another tab of JupyterLab is in front
    const now = width >= BESIDE_PX ? "right" : "top";
    if (now !== side) {
      side = now;
      chosen = parseFloat(kept(side)) || 0;
    }
    const share = chosen || usual(width);
    const taken = Math.round(share * (side === "right" ? width : height));
    stage.classList.toggle("zl-right", side === "right");
    stage.classList.toggle("zl-top", side === "top");
    const place = side === "right" ? { left: left + width - taken, top, width: taken, height } : { left, top, width, height: taken };
    for (const [name, value] of Object.entries(place)) stage.style[name] = `${value}px`;
    notebook.classList.toggle("zl-beside", side === "right");
    notebook.style.boxSizing = "border-box";
    notebook.style.paddingRight = side === "right" ? `${taken}px` : "";
    notebook.style.paddingTop = side === "top" ? `${taken}px` : "";
  };
  const setShare = (value) => {
    chosen = Math.min(Math.max(value, SHARES[0]), SHARES[1]);
    keep(side, chosen);
    fit();
  };
  edge.onpointerdown = (event) => {
    edge.setPointerCapture(event.pointerId);
    edge.onpointermove = (move) => {
      const box = notebook.getBoundingClientRect();
      setShare(side === "right" ? (box.right - move.clientX) / box.width : (move.clientY - box.top) / box.height);
    };
  };
  edge.onpointerup = () => { edge.onpointermove = null; };
  edge.onkeydown = (event) => {
    const step = { ArrowLeft: 0.02, ArrowDown: 0.02, ArrowRight: -0.02, ArrowUp: -0.02 }[event.key];
    if (step) setShare((chosen || usual(notebook.offsetWidth)) + (side === "right" || event.key.match(/Up|Down/) ? step : 0));
  };
  panel.zlStage?.leave();          // of a cell that ran before: one stage a notebook
  panel.append(stage);
  stage.append(edge);
  stage.classList.add("zl-docked");
  const watcher = new ResizeObserver(fit);
  watcher.observe(notebook);
  fit();
  const dock = { leave: () => {
    watcher.disconnect();
    edge.remove();
    stage.classList.remove("zl-docked", "zl-right", "zl-top");
    for (const name of ["left", "top", "width", "height"]) stage.style[name] = "";
    for (const name of ["boxSizing", "paddingRight", "paddingTop"]) notebook.style[name] = "";
    notebook.classList.remove("zl-beside");
    if (panel.zlStage === dock) panel.zlStage = null;
    dock.left?.();
  } };
  panel.zlStage = dock;
  return dock;
}

async function render({ model, el }) {
  const views = new Map();         // part -> its view on the page
  let closed = false;
  async function show(name, place) {
    const child = await model.widget_manager.get_model(model.get("_parts")[name].replace("IPY_MODEL_", ""));
    const view = await model.widget_manager.create_view(child);
    if (closed || !place.isConnected && !stage.contains(place)) return view.remove();
    views.set(name, view);
    if (place.classList.contains("zl-place")) view.el.classList.add("zl-fill");   // it has the height of its place
    place.append(view.el);
    view.trigger("displayed");     // JupyterLab's layouts do so; only then ipywidgets applies classes and sizes
  }
  function hide(name) {
    views.get(name)?.remove();
    views.delete(name);
  }

  const grid = make("div", { className: "zl-stage-grid" });
  const head = make("div", { className: "zl-stage-head" }, make("h2", { textContent: model.get("_title") }));
  const tabs = make("div", { className: "zl-tabs" });
  tabs.setAttribute("role", "group");
  tabs.setAttribute("aria-label", "more of the panel");
  const more = make("div", { className: "zl-tab zl-lab", hidden: true });
  const stage = make("div", { className: "zl-stage" }, head, grid, tabs, more);
  stage.style.setProperty("--zl-base", `${model.get("_base_px")}px`);
  stage.dataset.lmSuppressShortcuts = "true";    // keys that are pressed here are none of the notebook's
  const places = PLACES.filter((name) => name in model.get("_parts"));
  grid.classList.toggle("zl-with-picture", places.includes("picture"));
  for (const name of places) {
    const place = make("div", { className: `zl-place zl-place-${name}` });
    (name === "status" ? head : grid).append(place);
    show(name, place);
  }

  // The tabs. What is behind one is on the page only while it is open.
  let open = null;
  function choose(tab) {
    const before = open;
    open = tab === open ? null : tab;
    for (const name of before?.parts ?? []) hide(name);
    more.replaceChildren();
    more.hidden = !open;
    for (const [index, made] of [...tabs.children].entries()) made.ariaExpanded = String(model.get("_tabs")[index] === open);
    for (const name of open?.parts ?? []) {
      const place = make("div");
      more.append(place);
      show(name, place);
    }
    if (open) more.scrollIntoView({ block: "nearest" });
  }
  tabs.append(...model.get("_tabs").map((tab) => make("button", { type: "button", className: "zl-button",
    textContent: tab.label, ariaExpanded: "false", onclick: () => choose(tab) })));

  // Where it stands.
  const away = make("div", { className: "zl-stage-away" }, make("span", { textContent: "The stage stands beside the text." }));
  const bring = make("button", { type: "button", className: "zl-button", textContent: "bring it here", onclick: () => move(false) });
  away.append(bring);
  const dockButton = make("button", { type: "button", className: "zl-button zl-icon", hidden: true, onclick: () => move(!dock) });
  const wide = make("button", { type: "button", className: "zl-button zl-icon", title: "full screen",
    ariaLabel: "full screen", hidden: !document.fullscreenEnabled,
    onclick: () => document.fullscreenElement ? document.exitFullscreen() : stage.requestFullscreen() });
  wide.append(icon("wide"));
  head.append(dockButton, wide);
  let dock = null, waiting = 0;
  function move(docked, panel = el.closest(".jp-NotebookPanel")) {
    const notebook = panel?.querySelector(":scope > .jp-Notebook");
    dock?.leave();
    dockButton.hidden = !notebook;
    if (docked && notebook) {
      dock = makeDock(stage, panel, notebook);
      dock.left = () => {
        dock = null;
        el.replaceChildren(stage);
        label();
      };
      el.replaceChildren(away);
    } else el.replaceChildren(stage);
    label();
  }
  const label = () => {
    dockButton.replaceChildren(icon(dock ? "cell" : "beside"));
    dockButton.title = dockButton.ariaLabel = dock ? "back into the cell" : "beside the text";
  };
  el.replaceChildren(stage);
  if (document.body.dataset.voila) {
    stage.classList.add("zl-page");
    if (model.get("_title")) document.title = model.get("_title");
  } else {
    // A cell that Run All has scrolled out of sight is not laid out, so nothing tells of its size; it may not even be on
    // the page. Then the one notebook that is in front is meant.
    let looks = 0;
    waiting = setInterval(() => {
      const fronts = [...document.querySelectorAll(".jp-NotebookPanel")].filter((each) => each.offsetParent);
      const late = ++looks > LOOKS && fronts.length === 1;
      if (!el.isConnected && !late) return;
      clearInterval(waiting);
      move(true, el.isConnected ? undefined : fronts[0]);
    }, LOOK_MS);
  }
  const restart = () => { tabs.inert = true; };    // the new kernel knows none of the parts
  model.on("comm_live_update", restart);
  return () => {
    closed = true;
    model.off("comm_live_update", restart);
    clearInterval(waiting);
    dock?.leave();
    for (const view of views.values()) view.remove();
    stage.remove();
  };
}

export default { render };
