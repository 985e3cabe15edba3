// What all panels have in common. panel.py puts it in front of each panel's own file.

function h(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  const { style, data, ...rest } = properties;
  Object.assign(made, rest);
  if (style) for (const [name, value] of Object.entries(style)) made.style.setProperty(name, value);
  if (data) Object.assign(made.dataset, data);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const svgShape = (shape, colour) => {
  const paths = {
    crown: "M1 12 L1 4 L4.5 7.5 L7 2 L9.5 7.5 L13 4 L13 12 Z",
    dot: "M7 3.5 A3.5 3.5 0 1 1 6.99 3.5 Z",
    ring: "M7 3 A4 4 0 1 1 6.99 3 Z M7 4.7 A2.3 2.3 0 1 0 7.01 4.7 Z",
    cross: "M2.5 4 L4 2.5 L7 5.5 L10 2.5 L11.5 4 L8.5 7 L11.5 10 L10 11.5 L7 8.5 L4 11.5 L2.5 10 L5.5 7 Z",
    bars: "M3 2 L6 2 L6 12 L3 12 Z M8 2 L11 2 L11 12 L8 12 Z",
    triangle: "M7 2 L12.5 11.5 L1.5 11.5 Z",
  };
  return svgPath(paths[shape], colour, "zl-shape");
};

function svgPath(d, colour, className) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 14 14");
  svg.setAttribute("class", className);
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", d);
  path.setAttribute("fill-rule", "evenodd");
  path.style.fill = colour;
  svg.append(path);
  return svg;
}

// A node's own mark: its colour, and its shape for who can't see that.
const nodeMark = (node) => svgPath(NODE_PATHS[node.shape], node.colour, "zl-mark");

// A button and the menu that it opens, on top of everything else; where a style sheet says so, the menu stands in line.
function popover(label, title) {
  const menu = h("div", { className: "zl-pop" });
  menu.popover = "auto";
  const opener = h("button", { type: "button", className: "zl-button zl-opener", textContent: `${label} ▾`, title,
    popoverTargetElement: menu });   // a browser closes a menu at any other release, before the click
  opener.setAttribute("aria-haspopup", "true");
  menu.addEventListener("toggle", (event) => {
    if (event.newState !== "open") return;
    const from = opener.getBoundingClientRect(), { offsetWidth: width, offsetHeight: height } = menu;
    const below = from.bottom + 4 + height <= innerHeight;
    menu.style.left = `${Math.max(4, Math.min(from.left, innerWidth - width - 4))}px`;
    menu.style.top = `${Math.max(4, below ? from.bottom + 4 : from.top - 4 - height)}px`;
  });
  return [opener, menu];
}

const number = (value, digits = 0) => value === null || value === undefined ? "–" :
  value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });

const GIVE_UP_MS = 3_000;          // a click that an idle kernel has not begun to carry out by then is lost
const STILL_PX = 6;                // a mouse at rest moves by less
const TAP_MS = 350;                // after a tap on a screen the click may come so much later
const RELEASES = ["pointerup", "pointercancel", "keyup", "blur"];

// A panel. `build(tools)` makes its parts and returns `draw(state)`, which is called at each change of the state; its
// `close()`, if it has one, is called at the end.
function panel(build) {
  return {
    render({ model, el }) {
      el.classList.add("zl-panel");
      const waiting = new Map();     // key -> the last click, if its action has not begun yet
      const buttons = new Map();     // key -> buttons
      let pressed = null, refused = null, isLate = false, hasLeft = false;   // what the mouse, a finger or a key holds down; see `press`
      const busy = (key) => waiting.has(key) || model.get("_busy").includes(key);
      const showBusy = () => {
        for (const key of model.get("_busy")) waiting.delete(key);
        for (const [key, made] of buttons) for (const each of made) mark(each, key);
        if (!pressed?.made.disabled) return;
        pressed = null;              // Firefox tells of no release on a disabled button
        setTimeout(showLate);
      };
      const mark = (each, key) => {
        const now = busy(key);
        each.classList.toggle("zl-busy", now);
        each.disabled = now || each.zlDisabled === true || model.get("_beat") < 0;
      };
      // A cell that runs keeps the kernel from hearing a click until its end. A button that looked free meanwhile would be
      // clicked again, and then two leaders die.
      const giveUp = (key, click) => {
        if (waiting.get(key) !== click) return;
        if (model.get("layout")?.widget_manager?.kernel?.status === "busy") return setTimeout(giveUp, GIVE_UP_MS, key, click);
        waiting.delete(key);
        showBusy();
      };
      const send = (message, key) => {
        if (key) {
          const click = Symbol(key);
          waiting.set(key, click);
          setTimeout(giveUp, GIVE_UP_MS, key, click);
          showBusy();
        }
        try {
          model.send(message);
        } catch {
          waiting.clear();
          showBusy();
          showProblem("The kernel is not there: run the notebook again.");
        }
      };
      // A button that is busy while its action runs. `key` is the name of the action in Python.
      const button = (label, key, message, properties = {}) => {
        const { disabled, ...rest } = properties;
        const made = h("button", { type: "button", className: "zl-button", textContent: label, ...rest });
        made.zlDisabled = Boolean(disabled);
        made.onclick = () => send(typeof message === "function" ? message() : message, key);
        if (!buttons.has(key)) buttons.set(key, new Set());
        buttons.get(key).add(made);
        mark(made, key);
        return made;
      };
      const problem = h("div", { className: "zl-problem", hidden: true });
      const showProblem = (said) => {
        const text = typeof said === "string" ? said : model.get("_problem");
        problem.hidden = !text;
        problem.replaceChildren(h("span", { textContent: text }),
          h("button", { type: "button", className: "zl-close", textContent: "×", title: "dismiss",
            onclick: () => { problem.hidden = true; send({ do: "dismiss" }); } }));
      };
      // The button that strikes with a fault. `target`: names of nodes; none for the leader. With a `form`, a fault that
      // has sizes first asks for them there.
      const faultButton = (control, target, properties = {}, form = null) => {
        const made = button("", [control.button, ...target].join(":"), { do: "strike", button: control.button, target },
          { title: control.why_not || control.hint, disabled: Boolean(control.why_not),
            className: `zl-button${control.danger ? " zl-danger" : ""}`, ...properties });
        made.append(h("span", { className: "zl-long", textContent: control.button }),
          h("span", { className: "zl-short", textContent: control.short }));
        if (form && control.parameters.length) made.onclick = () => askSizes(control, target, form);
        return made;
      };
      const askSizes = (control, target, form) => {
        let sizes = {};
        const close = () => { forget(form); form.hidden = true; };
        const go = faultButton(control, target);
        go.onclick = () => {
          send({ do: "strike", button: control.button, target, sizes }, [control.button, ...target].join(":"));
          close();
        };
        forget(form);
        form.replaceChildren(h("span", { className: "zl-value", textContent: target.join(" → ") || "the leader" }),
          ...sliders(control, {}, (chosen) => { sizes = chosen; }), go,
          h("button", { type: "button", className: "zl-close", textContent: "×", title: "leave it", onclick: close }));
        form.hidden = false;
      };
      // The button that undoes it.
      const undoButton = (control, target, properties = {}) => button(control.undo.button,
        [control.undo.button, ...target].join(":"), { do: "undo", button: control.button, target },
        { title: control.undo.hint, ...properties });
      // Sliders for the sizes of a fault. `changed(sizes)` is called when one is let go.
      const sliders = (control, values, changed) => {
        const sizes = Object.fromEntries(control.parameters.map((each) => [each.name, values?.[each.name] ?? each.low]));
        return control.parameters.map((each) => {
          const reach = each.high - each.low, step = reach > 20 ? Math.max(1, Math.round(reach / 100)) : reach / 100;
          const shown = h("span", { className: "zl-value" });
          const slider = h("input", { type: "range", min: each.low, max: each.high, step, value: sizes[each.name] });
          const show = () => { shown.textContent = number(Number(slider.value), reach > 20 ? 0 : 2); };
          slider.oninput = () => { sizes[each.name] = Number(slider.value); show(); };
          slider.onchange = () => { slider.oninput(); changed(sizes); };
          show();
          return h("label", {}, each.label, slider, shown);
        });
      };
      const forget = (within) => {
        for (const made of buttons.values()) for (const each of made) if (within.contains(each)) made.delete(each);
      };
      const teller = { tell: null };
      const onAge = (tell) => { teller.tell = tell; };   // for a panel that says itself that the kernel is gone
      const age = watchAge(model, el, () => !document.hidden && model.get("_beat") >= 0, teller);
      const draw = build({ model, el, age, button, faultButton, undoButton, sliders, send, forget, onAge });
      el.append(problem);
      // What happens between press and release must not cost a click. A button that is made anew gets none, so what is new
      // waits for the release. Nor does one that has moved from under the mouse, with the page or with a line that has
      // grown above it: where the mouse stood still, the button is clicked here.
      // A press is ended by the release of its own pointer or key: a second finger and Shift have theirs.
      const show = () => {
        isLate = pressed !== null;
        if (!isLate) draw(model.get("_state"));
      };
      const showLate = () => { if (isLate && !pressed && !hasLeft) show(); };
      const canBeClicked = (made) => made.isConnected && !made.closest("[inert]");
      const isOther = (event) => event.isPrimary === false || ![undefined, " "].includes(event.key);
      const press = (event) => {
        if (isOther(event)) return;
        const made = event.target.closest("button");
        refused = made?.disabled ? made : null;
        pressed = made && !refused && !event.button ? { made, by: event.pointerId ?? event.key, x: event.clientX, y: event.clientY, clicked: false } : null;
      };
      const release = (event) => {
        const was = pressed;
        if (was && event.type !== "blur" && was.by !== (event.pointerId ?? event.key)) return;
        const isStill = was && event.pointerType === "mouse" && Math.hypot(event.clientX - was.x, event.clientY - was.y) < STILL_PX;
        if (was || isLate) setTimeout(() => {
          if (hasLeft) return;
          if (pressed === was) pressed = null;
          if (event.type === "pointerup" && isStill && !was.clicked && canBeClicked(was.made)) was.made.click();
          showLate();
        }, event.pointerType === "touch" ? TAP_MS : 0);      // the click comes right after the release, or after a tap
      };
      // A button that was busy when it was pressed, and no longer is, gets a click nevertheless. A key's click has no detail.
      const noteClick = (event) => {
        if (pressed?.made.contains(event.target)) pressed.clicked = true;
        if (!event.detail || !refused?.contains(event.target)) return;
        event.stopPropagation();
        event.preventDefault();
      };
      el.addEventListener("click", noteClick, true);
      for (const each of ["pointerdown", "keydown"]) el.addEventListener(each, press);
      for (const each of RELEASES) window.addEventListener(each, release);
      show();
      showProblem();
      model.on("change", age.hear);
      model.on("change:_state", show);
      model.on("change:_controls", show);
      model.on("change:_busy", showBusy);
      model.on("change:_beat", showBusy);
      model.on("change:_problem", showProblem);
      const view = Math.random().toString(36).slice(2);
      const say = (what) => {
        try {
          model.send({ say: what, view });
        } catch {
          // The kernel is gone: the message has no receiver.
        }
      };
      const look = () => {
        age.hear();
        say(document.hidden ? "hidden" : "visible");
      };
      const leave = () => say("gone");
      document.addEventListener("visibilitychange", look);
      window.addEventListener("pagehide", leave);
      look();
      return () => {
        leave();
        hasLeft = true;
        for (const each of RELEASES) window.removeEventListener(each, release);
        draw.close?.();
        document.removeEventListener("visibilitychange", look);
        window.removeEventListener("pagehide", leave);
        age.close();
        model.off("change", age.hear);
        model.off("change:_state", show);
        model.off("change:_controls", show);
        model.off("change:_busy", showBusy);
        model.off("change:_beat", showBusy);
        model.off("change:_problem", showProblem);
      };
    },
  };
}

