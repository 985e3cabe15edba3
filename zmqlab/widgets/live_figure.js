// A live bokeh figure. live_figure.py describes what travels. Nothing here knows what the figures mean.

const libraries = (globalThis.__zmqlab_bokeh ??= {});

// At every paint bokeh writes each part's position into a style sheet, mostly the same as before, and then asks for a
// computed style. The browser therefore works out the styles of the whole page 40 times a paint, which was a third of a
// paint's time. Here a style sheet is written only when it has changed. The position of a line or a text changes with each
// row, and nothing looks it up: what is drawn there is the canvas's. So it is not written at all.
function leaveStylesAlone(Bokeh) {
  const sheet = Bokeh.require?.("core/dom")?.InlineStyleSheet?.prototype;
  const update = sheet?._update;
  if (update) sheet._update = function (css) { if (this.css !== css) update.call(this, css); };
  const glyphs = Bokeh.require?.("models/renderers/glyph_renderer")?.GlyphRendererView?.prototype;
  if (glyphs?.update_position) glyphs.update_position = () => {};
}

// BokehJS out of the kernel: loaded by the first figure of a page, and shared by all others.
function loadBokeh(version, compressed) {
  if (globalThis.Bokeh?.version === version) return globalThis.Bokeh;
  return (libraries[version] ??= (async () => {
    const stream = new Blob([compressed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = await new Response(stream).arrayBuffer();
    const src = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
    await new Promise((resolve, reject) =>
      document.head.append(Object.assign(document.createElement("script"), { src, onload: resolve, onerror: reject })));
    URL.revokeObjectURL(src);
    leaveStylesAlone(globalThis.Bokeh);
    return globalThis.Bokeh;
  })());
}


// The last `keep` values of `old` followed by `added`.
function tail(old, added, keep) {
  const length = Math.min(keep, old.length + added.length);
  const result = new Float64Array(length);
  const kept = length - added.length;
  if (kept > 0) result.set(old.subarray(old.length - kept));
  result.set(added.subarray(Math.max(0, -kept)), Math.max(0, kept));
  return result;
}

// The columns of a source that were not sent, because no node has their slot: all unknown.
function blank(source, sent) {
  const nothing = new Float64Array(Object.values(sent)[0]?.length ?? 0).fill(NaN);
  return Object.fromEntries(Object.keys(source.data).map((column) => [column, nothing]));
}

// The rows of a stream from `from` on, and the row before them, so that a line begins at the edge.
function since(columns, from) {
  if (!(columns.t instanceof Float64Array)) return columns;
  const first = Math.max(0, columns.t.findIndex((t) => t >= from) - 1);
  return Object.fromEntries(Object.entries(columns).map(([name, values]) => [name, values.subarray(first)]));
}

// JSON has no numbers as keys. bokeh looks label overrides up by number, so the keys become numbers again.
const numbered = (plain) => new Map(Object.entries(plain).map(([key, value]) => [Number(key), value]));

const isDark = () => {
  const said = document.body.dataset.jpThemeLight;
  return said === undefined ? matchMedia("(prefers-color-scheme: dark)").matches : said === "false";
};

// Tells of another theme: JupyterLab's, or the system's where the page follows that.
function onTheme(changed) {
  const system = matchMedia("(prefers-color-scheme: dark)"), themes = new MutationObserver(changed);
  themes.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
  system.addEventListener("change", changed);
  return () => {
    themes.disconnect();
    system.removeEventListener("change", changed);
  };
}

const pen = document.createElement("canvas").getContext("2d");

const widths = {};               // font -> text -> width
const widthOf = (text) => (widths[pen.font] ??= {})[text] ??= pen.measureText(text).width;

const wordsOf = (marks) => marks.label.join("\n");

const figuresOf = (doc) => [...doc._all_models.values()].filter((each) => each.type === "Figure");
const lanesOf = (figure) => figure.renderers.find((each) => each.y_range_name === "lanes");    // the labels of its marks
const fitted = new WeakMap();    // figure -> the size that it was fitted to
const LOW_PX = 180;    // a lower figure needs its height for its curves
const TICK = 2;        // the axis of a low figure has a tick for every so many heights of its text
const CLOCK = 8.5;     // the time of day at a tick is so many times as wide as its text is high

// What depends on a figure's size. A legend whose entries do not fit into one line gets as many columns as do; bokeh would
// cut it off. The lanes of the marks' labels are as far apart as their text is high.
// `changed`: whether more than sizes may have. Returns whether a size has.
function fitFigures(figures, changed) {
  let resized = false;
  for (const figure of figures) {
    const size = `${figure.inner_width} ${figure.inner_height}`;
    if (!changed && fitted.get(figure) === size) continue;
    resized ||= fitted.get(figure) !== size;
    fitted.set(figure, size);
    const room = figure.inner_width, ranges = figure.extra_y_ranges;
    const lanes = ranges instanceof Map ? ranges.get("lanes") : ranges.lanes;
    const text = lanesOf(figure)?.glyph.text_font_size;
    const start = -figure.inner_height / (LANE * parseFloat(text?.value ?? text));
    if (lanes && start < 0 && lanes.start !== start) lanes.start = start;
    for (const legend of figure.above.filter((each) => each.type === "Legend")) legend.visible = figure.outer_height >= LOW_PX;
    for (const axis of figure.left.filter((each) => each.ticker?.type === "BasicTicker")) {
      const ticks = Math.min(6, Math.max(2, Math.floor(figure.inner_height / (TICK * parseFloat(axis.major_label_text_font_size)))));
      if (figure.inner_height && axis.ticker.desired_num_ticks !== ticks) axis.ticker.desired_num_ticks = ticks;
    }
    for (const axis of figure.below.filter((each) => each.type === "DatetimeAxis")) {
      const ticks = Math.min(5, Math.max(1, Math.floor(room / (CLOCK * parseFloat(axis.major_label_text_font_size)))));
      if (room && axis.ticker.desired_num_ticks !== ticks) axis.ticker.desired_num_ticks = ticks;
    }
    for (const legend of figure.above.filter((each) => each.type === "Legend")) {
      pen.font = `${legend.label_text_font_size} ${legend.label_text_font}`;
      const widths = legend.items.filter((each) => each.visible).map((each) =>
        legend.glyph_width + legend.label_standoff + legend.spacing + pen.measureText(each.get_labels_list_from_label_prop()[0] ?? "").width);
      if (!room || !widths.length) continue;
      let columns = widths.length;
      const needs = (count) => [...Array(count).keys()].reduce((sum, column) =>
        sum + Math.max(...widths.filter((_, index) => index % count === column)), 0);
      while (columns > 1 && needs(columns) > room) columns -= 1;
      if (legend.ncols !== columns) legend.ncols = columns;
    }
  }
  return resized;
}

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// The row above the figures: pause, and what Python put into `_toolbar`.
function makeToolbar(model, state, onPause) {
  const bar = element("div", { className: "zl-live-bar" });
  const pause = element("button", { type: "button", className: "zl-button" });
  pause.onclick = () => onPause(!state.paused);
  const options = element("span", { className: "zl-live-options" });
  const draw = () => {
    options.replaceChildren(...model.get("_toolbar").map((each) => {
      const change = (value) => model.send({ say: "option", key: each.key, value });
      if (each.kind === "toggle") {
        const box = element("input", { type: "checkbox", checked: each.value });
        box.onchange = () => change(box.checked);
        return element("label", {}, box, each.label);
      }
      const select = element("select", {});
      select.append(...each.options.map((value) =>
        element("option", { value, textContent: value, selected: value === each.value })));
      select.onchange = () => change(select.value);
      return element("label", {}, each.label, select);
    }));
  };
  const show = () => {
    pause.textContent = state.paused ? "▶ go on" : "❚❚ pause to look";
    pause.title = state.paused ? "Show what has come meanwhile, and go on" : "Stop the charts, to drag and to zoom. The cluster goes on.";
    bar.classList.toggle("zl-paused", state.paused);
  };
  bar.append(pause, options);
  draw();
  show();
  model.on("change:_toolbar", draw);
  return { bar, show, close: () => model.off("change:_toolbar", draw) };
}

async function render({ model, el }) {
  el.classList.add("zl-live");
  const view = Math.random().toString(36).slice(2);
  const say = (what) => {
    try {
      model.send({ say: what, view, seq: Number.isNaN(state.seq) ? 0 : state.seq });
    } catch {
      // The kernel is gone, or it restarts: the message has no receiver.
    }
  };
  const state = { seq: NaN, now: 0, paused: false, visible: true, waiting: false, saidAt: 0 };
  const data = {};                 // source -> columns, as last received
  const dirty = new Set();         // sources whose newest data the figures do not show yet
  const properties = new Map();    // "model property" -> [model, property, value] that is not set yet
  let doc, parts = [], figures = [], painting = 0, themeDirty = true, labelled = "";

  const windowMs = () => 1000 * (parseFloat(model.get("_toolbar").find((each) => each.key === "window")?.value) || 60);

  function setTheme() {
    themeDirty = false;
    if (data.marks) dirty.add("marks");
    for (const [id, name, value] of model.get("_themes")[isDark() ? "dark" : "light"]) {
      const target = doc.get_model_by_id(id);
      if (target) target[name] = value;
    }
  }

  // Give the figures the part of a source that is in sight; all of it while they are paused.
  function show(source) {
    let sent = source === "marks" ? legible() : state.paused ? data[source] : since(data[source], state.now - windowMs());
    if (source === "marks") {
      labelled = wordsOf(sent);
      if (isDark()) sent = { ...sent, colour: sent.colour.map(lit) };
    }
    const found = doc.get_model_by_name(source);
    if (found) found.data = { ...blank(found, sent), ...sent };
    for (const part of parts.filter((each) => each.name.startsWith(`${source}/`))) {
      const own = Object.keys(part.data);
      if (own.every((column) => column in sent)) part.data = Object.fromEntries(own.map((column) => [column, sent[column]]));
    }
  }

  // The marks, as the smallest figure that has them can show them.
  function legible() {
    const all = figures.filter((each) => each.inner_width && lanesOf(each)).map((each) => {
      const { text_font_size: size, text_font: font } = lanesOf(each).glyph, px = parseFloat(size?.value ?? size);
      pen.font = `bold ${px}px ${font?.value ?? font}`;    // for widthOf: all figures have one
      return [each.inner_width / windowMs(), each.inner_height, px];
    });
    if (!all.length) return data.marks;
    const least = (place) => Math.min(...all.map((each) => each[place]));
    return roomy(data.marks, least(0), least(1), all[0][2], widthOf, state.paused ? undefined : state.now - windowMs());
  }

  function paint() {
    painting = 0;
    if (!doc || state.paused || !state.visible) return;
    if (themeDirty) setTheme();
    for (const [target, name, value] of properties.values()) {
      const found = doc.get_model_by_name(target);
      if (found) found[name] = name.endsWith("_overrides") ? numbered(value) : value;
    }
    if (fitFigures(figures, properties.size > 0) && data.marks) dirty.add("marks");
    properties.clear();
    const range = doc.get_model_by_name("time");
    if (range && state.now) range.setv({ start: state.now - windowMs(), end: state.now + 0.01 * windowMs() });
    if (data.marks && wordsOf(legible()) !== labelled) dirty.add("marks");    // one has come to the left edge
    for (const source of dirty) show(source);
    dirty.clear();
    el.dataset.seq = state.seq;
    pushes.painted(state, view, say);
  }
  const schedule = () => (painting ||= requestAnimationFrame(paint));

  function onMessage(message, buffers) {
    if (message.seq === undefined) return;
    age.hear();
    if (!inSequence(message, state, say)) return;
    state.now = message.now;
    let buffer = 0;
    for (const [source, columns, keep] of message.streams) {
      const next = {}, fresh = columnsOf(columns ?? Object.keys(data[source]), buffers[buffer++]);
      for (const [column, added] of Object.entries(fresh)) {
        next[column] = message.key ? added : tail(data[source][column], added, keep);
      }
      data[source] = next;
      dirty.add(source);
    }
    for (const [source, columns] of Object.entries(message.tables)) {
      data[source] = columns;
      dirty.add(source);
    }
    for (const each of message.set) properties.set(`${each[0]} ${each[1]}`, each);
    schedule();
  }

  function pauseFigures(paused) {
    if (paused === state.paused) return;
    state.paused = paused;
    for (const figure of figures) {
      const wheel = figure.toolbar.tools.find((tool) => tool.type === "WheelZoomTool");
      figure.toolbar.active_scroll = paused && wheel ? wheel : null;
      if (wheel) wheel.active = paused;
    }
    toolbar.show();
    if (paused) Object.keys(data).forEach(show);
    else {
      age.hear();
      say("visible");              // during a long pause the kernel may have taken this page for gone
      schedule();
    }
  }
  const toolbar = makeToolbar(model, state, pauseFigures);
  const place = element("div", { className: "zl-live-figures" });
  const problem = element("div", { className: "zl-problem", hidden: true });
  const showProblem = () => {
    problem.textContent = model.get("_problem");
    problem.hidden = !problem.textContent;
  };
  el.append(toolbar.bar, problem, place);
  showProblem();
  const age = watchAge(model, el, () => state.visible && !state.paused && !model.get("_ended"));
  model.on("change:_problem", showProblem);
  const pushes = hearPushes(model, onMessage);
  model.on("change:_toolbar", schedule);

  const library = await model.widget_manager.get_model(model.get("_library").replace("IPY_MODEL_", ""));
  const Bokeh = await loadBokeh(library.get("version"), library.get("code"));
  const views = await Bokeh.embed.embed_item(model.get("_item"), place);
  const rootView = views instanceof Map ? [...views.values()][0] : [...views][0];
  doc = rootView.model.document;
  parts = [...doc._all_models.values()].filter((each) => each.name?.includes("/"));
  figures = figuresOf(doc);
  for (const figure of figures) figure.on_event("panstart", () => pauseFigures(true));
  setTheme();

  let onScreen = true;
  const look = () => {
    const visible = onScreen && !document.hidden;
    if (visible === state.visible) return;
    state.visible = visible;
    state.waiting = visible;       // a key frame brings what was missed
    age.hear();
    say(visible ? "visible" : "hidden");
  };
  const watcher = new IntersectionObserver((entries) => {
    onScreen = entries.at(-1).isIntersecting;  // a busy page is told of several changes at once, the oldest first
    look();
  }, { rootMargin: "200px" });
  watcher.observe(el);
  document.addEventListener("visibilitychange", look);
  const retheme = () => {
    themeDirty = true;
    if (!state.paused) schedule();
    else {
      setTheme();
      if (data.marks) show("marks");
    }
  };
  const forgetTheme = onTheme(retheme);
  const leave = () => say("gone");
  window.addEventListener("pagehide", leave);

  if (await pushes.begun) say("ready");
  schedule();
  return () => {
    leave();
    pushes.close();
    model.off("change:_problem", showProblem);
    model.off("change:_toolbar", schedule);
    toolbar.close();
    age.close();
    cancelAnimationFrame(painting);
    watcher.disconnect();
    forgetTheme();
    document.removeEventListener("visibilitychange", look);
    window.removeEventListener("pagehide", leave);
    views.clear?.();
    const index = Bokeh.documents.indexOf(doc);
    if (index >= 0) Bokeh.documents.splice(index, 1);
  };
}

export default { render };
