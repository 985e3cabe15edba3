// The live picture of a cluster: what comes from the kernel, the loop that paints, what is clicked, and the replay.
// picture_scene.js decides what is to be seen, picture_canvas.js draws it. What can be clicked, reached by keyboard and
// read aloud is elements above the canvas; the canvas itself says nothing to a screen reader.

const FRAME_MS = 33;              // 30 paints a second at most, and none while nothing moves
const TABLES = ["nodes", "links", "clients", "hashes", "marks", "groups"];
const EMPTY = { groups: { number: [], leader: [] }, nodes: { slot: [], name: [], colour: [] }, hashes: { slot: [], hash: [], agrees: [] }, clients: { name: [], rate: [], slots: [] },
  links: { source: [], target: [], cut: [], delay_ms: [], loss: [], words: [] }, marks: { t: [], label: [] } };

const isDarkPage = () => {
  const said = document.body.dataset.jpThemeLight;
  return said === undefined ? matchMedia("(prefers-color-scheme: dark)").matches : said === "false";
};

function joined(one, other) {
  const both = new Float64Array(one.length + other.length);
  both.set(one);
  both.set(other, one.length);
  return both;
}

// What came from the kernel in the last KEPT_MS: rows, messages, and each table with the times of its versions.
function makeHistory() {
  const streams = { rows: {}, messages: {} }, versions = Object.fromEntries(TABLES.map((name) => [name, []]));
  const first = (times, from) => { const at = times.findIndex((t) => t >= from); return at < 0 ? times.length : at; };
  function append(name, columns, key, from) {
    const old = streams[name], time = name === "rows" ? "t" : "sent";
    const all = Object.fromEntries(Object.entries(columns).map(([column, added]) =>
      [column, key || !old[column] ? added : joined(old[column], added)]));
    const cut = first(all[time] ?? [], from);
    streams[name] = Object.fromEntries(Object.entries(all).map(([column, values]) => [column, values.subarray(cut)]));
  }
  function note(name, at, table) {
    const kept = versions[name].filter((each, index, all) => index === all.length - 1 || all[index + 1][0] > at - KEPT_MS);
    versions[name] = [...kept, [at, table]];
  }
  return { streams, versions, append, note,
    newest: (name) => versions[name].at(-1)?.[1] ?? EMPTY[name],
    freeze: () => ({ streams: { ...streams }, versions: Object.fromEntries(TABLES.map((name) => [name, [...versions[name]]])) }) };
}

// Arrow keys move within a group, which is one stop of the Tab key.
function rove(group) {
  group.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }, all = [...group.children];
    if (!(event.key in steps) || !all.length) return;
    event.preventDefault();
    const now = all.indexOf(document.activeElement);
    all[(now + steps[event.key] + all.length) % all.length].focus();
  });
  group.addEventListener("focusin", (event) => {
    for (const each of group.children) each.tabIndex = each === event.target ? 0 : -1;
  });
}

export default panel(({ model, el, age, button, faultButton, undoButton, sliders, send, forget }) => {
  el.classList.add("zl-picture");
  const history = makeHistory(), view = Math.random().toString(36).slice(2);
  const calm = matchMedia("(prefers-reduced-motion: reduce)"), systemDark = matchMedia("(prefers-color-scheme: dark)");
  const state = { seq: NaN, offset: -Infinity, waiting: false, saidAt: 0, visible: true, layout: null, pointed: null, replay: null, group: -1 };
  let travels = [], taken = -Infinity, stories = new Map(), raf = 0, paintedAt = 0, paints = 0, drawn = "", drawnLogs = "";
  const say = (what) => {
    try { model.send({ push: what, view, seq: Number.isNaN(state.seq) ? 0 : state.seq }); } catch { /* The kernel is gone. */ }
  };

  // -- the elements ----------------------------------------------------------------------------------------------
  const canvas = h("canvas"), ctx = canvas.getContext("2d");
  const nodeGroup = h("div", { className: "zl-picture-group" }), linkGroup = h("div", { className: "zl-picture-group" });
  const menu = h("div", { className: "zl-menu", hidden: true });
  const sign = h("div", { className: "zl-replay-sign", hidden: true });
  const field = h("div", { className: "zl-picture-field" }, canvas, linkGroup, nodeGroup, sign, menu);
  const summary = h("span", { className: "zl-picture-summary" });
  const replayButtons = [10, 100].map((slow) => h("button", { type: "button", className: "zl-button", textContent: `1/${slow}`,
    title: `the last ten seconds again, ${slow} times slower`, onclick: () => beginReplay(slow) }));
  // One of several Raft groups, or all. A page's choice goes to the kernel, and what the kernel shows comes back.
  const chooser = h("select", { className: "zl-picture-choice", hidden: true, onchange: () => send({ do: "show", group: chooser.value === "" ? null : Number(chooser.value) }) });
  const head = h("div", { className: "zl-head" }, h("h4", { textContent: "Cluster" }), chooser, summary, h("span", { className: "zl-space" }),
    h("span", { className: "zl-faint", textContent: "slow motion", title: "of the last 10 s" }), h("span", { className: "zl-stepper" }, ...replayButtons));
  const told = h("b"), playing = h("button", { type: "button", className: "zl-button" });
  const slider = h("input", { type: "range", min: 0, max: 1000, value: 0 });
  const live = h("button", { type: "button", className: "zl-button zl-main", textContent: "back to live" });
  const bar = h("div", { className: "zl-replay", hidden: true }, told, playing, slider, live);
  const caption = h("span", { className: "zl-faint" });
  const sampling = h("button", { type: "button", className: "zl-button", hidden: true, onclick: () => send({ do: "sample" }) });
  const shapes = h("span", { className: "zl-picture-shapes", tabIndex: 0, textContent: "what the shapes mean" });
  const legend = h("div", { className: "zl-picture-legend", hidden: true });
  el.append(head, bar, field, h("div", { className: "zl-picture-foot" }, caption, sampling, shapes), legend);
  shapes.setAttribute("role", "button");
  canvas.setAttribute("aria-hidden", "true");
  for (const [group, name] of [[nodeGroup, "nodes"], [linkGroup, "links"]]) {
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", name);
    rove(group);
  }
  summary.setAttribute("role", "status");
  slider.setAttribute("aria-label", "moment of the replay");
  chooser.setAttribute("aria-label", "Raft group that is shown");

  const nameOf = (slot) => members().get(slot)?.name ?? "?";
  const table = (name) => state.replay ? versionAt(state.replay.versions[name], state.replay.at) ?? history.newest(name) : history.newest(name);
  const members = () => { const known = table("nodes"); return new Map(known.slot.map((slot, row) => [slot, { name: known.name[row], colour: known.colour[row] }])); };
  const kernelNow = () => performance.now() + state.offset;
  const theme = () => isDarkPage() ? PAPERS.dark : PAPERS.light;

  // -- what is to be seen now ------------------------------------------------------------------------------------
  function makeView() {
    const { replay } = state, { streams } = replay ?? history, at = replay ? replay.at : kernelNow();
    const times = streams.rows.t ?? [], row = replay ? rowAt(times, at) : times.length - 1;
    const known = members(), slots = [...known.keys()], hashes = table("hashes"), clients = table("clients");
    const nodes = slots.map((slot) => nodeAt(streams.rows, row, slot));
    return {
      nodes, members: known, group: state.group, layout: state.layout, theme: theme(), pointed: state.pointed, still: calm.matches,
      busy: new Set(model.get("_busy").flatMap((key) => key.split(":").slice(1))), ended: model.get("_beat") < 0,
      sinceMs: row < 0 || model.get("_beat") < 0 ? 0 : Math.max(0, at - times[row]), links: linksOf(nodes, table("links")), logs: logsOf(nodes),
      clients: clients.name.map((name, index) => ({ name, rate: clients.rate[index], slots: clients.slots[index] })),
      hashes: new Map(hashes.slot.map((slot, index) => [slot, { hash: hashes.hash[index], agrees: hashes.agrees[index] }])),
      now: replay ? at * replay.slow : at - LAG_MS,
      travels: replay ? replay.travels : travels,
    };
  }

  function arrange() {
    const known = table("nodes"), em = parseFloat(getComputedStyle(field).fontSize), width = field.clientWidth;
    const fills = el.classList.contains("zl-fill");
    if (!width) return;
    if (!fills) field.style.height = `${naturalHeight(width, known.slot.length, em)}px`;
    const height = field.clientHeight, ratio = Math.min(2, devicePixelRatio || 1);
    Object.assign(canvas, { width: Math.round(width * ratio), height: Math.round(height * ratio) });
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    state.layout = plan(width, height, known.slot, table("clients").name.length, em);
    drawn = drawnLogs = "";
    placeElements();
    schedulePaint();
  }

  function paint(now) {
    raf = 0;
    if (!state.visible || !state.layout || Number.isNaN(state.seq)) return;
    if (now - paintedAt < FRAME_MS - 5) { schedulePaint(); return; }
    if (state.replay) advance(now);
    const seen = makeView();
    seen.travels = seen.travels.filter((each) => each.start <= seen.now && lastsUntil(each) > seen.now);
    if (!state.replay) travels = travels.filter((each) => lastsUntil(each) > seen.now);
    const timers = seen.nodes.map((node) => Math.round(50 * (timerLeft(node, seen.sinceMs) ?? -1)));
    const fields = JSON.stringify([seen.nodes.map((node) => [node.look, node.term, ["behind", "learner"].includes(node.look) && node.applied_lag]), timers, seen.clients,
      seen.links, seen.pointed, [...seen.busy], seen.theme.ink, seen.still && seen.travels.map((each) => [each.start, each.target])]);
    const moves = seen.travels.length > 0 && !seen.still;
    if (fields !== drawn || moves || state.moved) { drawField(ctx, seen); paintedAt = now; el.dataset.paints = ++paints; }
    state.moved = moves;           // once more after the last one, which takes it away
    drawn = fields;
    const logs = JSON.stringify([seen.logs, [...seen.hashes], seen.theme.ink, seen.group]);
    if (logs !== drawnLogs) { drawLogs(ctx, seen); drawnLogs = logs; }
    describe(seen);
    el.dataset.seq = state.seq;
    pushes.painted(state, say);
    const runs = seen.nodes.some((node, index) => timers[index] > 0 && node.timeout - node.due > HEARD_MS);
    if (moves || state.moved || travels.length || state.replay?.playing || (runs && !seen.ended)) schedulePaint();
  }
  const schedulePaint = () => { raf ||= requestAnimationFrame(paint); };

  // -- what comes from the kernel --------------------------------------------------------------------------------
  function onMessage(message, buffers) {
    if (message.seq === undefined) return;
    age.hear();
    if (!inSequence(message, state, say)) return;
    state.offset = message.key ? message.now - performance.now() : Math.max(state.offset - 0.05, message.now - performance.now());
    let buffer = 0;
    for (const [name, columns] of message.streams) {
      const added = columnsOf(columns ?? Object.keys(history.streams[name]), buffers[buffer++]);
      history.append(name, added, message.key, message.now - KEPT_MS);
      if (name === "messages") take(added, message.key);
    }
    let arranges = false;
    for (const [name, value] of Object.entries(message.tables)) {
      arranges ||= name === "nodes" || name === "clients" && value.name.length !== history.newest(name).name.length;
      history.note(name, message.now, value);
    }
    for (const [, property, value] of message.set) {
      if (property === "caption") caption.textContent = caption.title = chooser.title = sampling.title = value;
      if (property === "is_traced") sampling.hidden = value;
      if (property === "group" && value !== state.group) { state.group = value; travels = []; }
    }
    offerGroups();
    if (state.replay) { pushes.painted(state, say); return; }
    if (arranges || !state.layout) arrange();
    schedulePaint();
  }

  // The texts change with each election; the list that a person has opened stays.
  let offered = "";
  function offerGroups() {
    const choices = choicesOfGroups(history.newest("groups")), key = JSON.stringify([choices, state.group]);
    if (key === offered) return;
    offered = key;
    chooser.hidden = choices.length < 3;
    while (chooser.options.length > choices.length) chooser.remove(choices.length);
    choices.forEach(([value, text], index) => {
      if (!chooser.options[index]) chooser.add(new Option());
      const option = chooser.options[index];
      if (option.value !== value || option.text !== text) Object.assign(option, { value, text });
    });
    chooser.value = state.group < 0 ? "" : String(state.group);
    sampling.textContent = `show messages of group ${state.group}`;
  }

  // New live messages begin their way; of a key frame, which may hold old ones, none does.
  function take(columns, key) {
    const fresh = messagesOf(columns).filter((each) => each.live);
    if (key || !state.visible) return;
    const now = kernelNow() - LAG_MS;
    travels.push(...schedule(fresh, 1, stories, now).filter((each) => each.start - each.sent < LATE_MAX_MS));
    if (stories.size > 300) stories = new Map([...stories].slice(-100));
  }

  // -- for keyboard and screen reader ----------------------------------------------------------------------------
  const nodeButtons = new Map(), linkButtons = new Map();
  function placeElements() {
    const { places, radius, em } = state.layout, known = members(), slots = [...known.keys()];
    for (const [slot, made] of nodeButtons) if (!known.has(slot)) { made.remove(); nodeButtons.delete(slot); }
    for (const slot of slots) {
      if (!nodeButtons.has(slot)) {
        const made = h("button", { type: "button", className: "zl-picture-node", tabIndex: nodeButtons.size ? -1 : 0 });
        made.onclick = () => openNode(slot);
        made.onpointerenter = made.onfocus = () => point({ node: slot });
        made.onpointerleave = made.onblur = () => point(null);
        made.setAttribute("aria-haspopup", "dialog");
        nodeButtons.set(slot, made);
      }
      const made = nodeButtons.get(slot), { x, y } = places.get(slot), size = 2 * radius + 0.8 * em;
      made.dataset.node = known.get(slot).name;
      Object.assign(made.style, { left: `${x - size / 2}px`, top: `${y - size / 2}px`, width: `${size}px`, height: `${size}px` });
      if (made.parentNode !== nodeGroup) nodeGroup.append(made);
    }
    const wanted = new Map(pairs(slots).map((pair) => [pair.join(" "), pair]));
    for (const [key, made] of linkButtons) if (!wanted.has(key)) { made.remove(); linkButtons.delete(key); }
    for (const [key, [a, b]] of wanted) {
      if (!linkButtons.has(key)) {
        const made = h("button", { type: "button", className: "zl-picture-link", tabIndex: linkButtons.size ? -1 : 0 });
        made.onclick = () => openLink([a, b], middleOf(a, b));
        made.onfocus = () => point({ link: [a, b] });
        made.onblur = () => point(null);
        made.setAttribute("aria-haspopup", "dialog");
        linkButtons.set(key, made);
        linkGroup.append(made);
      }
      const { x, y } = middleOf(a, b);
      linkButtons.get(key).dataset.pair = `${nameOf(a)} ${nameOf(b)}`;
      Object.assign(linkButtons.get(key).style, { left: `${x - 0.6 * em}px`, top: `${y - 0.6 * em}px` });
    }
  }
  const middleOf = (a, b) => {
    const one = state.layout.places.get(a), other = state.layout.places.get(b);
    return { x: (one.x + other.x) / 2, y: (one.y + other.y) / 2 };
  };

  // What a person who does not see the canvas is told. The applied index would change ten times a second: it is left out.
  let described = "";
  function describe(seen) {
    const name = (slot) => seen.members.get(slot).name, bad = seen.links.filter((link) => link.there.bad || link.back.bad);
    const unknown = Boolean(state.replay?.gap);
    const key = JSON.stringify([seen.nodes.map((node) => [name(node.slot), node.look, node.term, node.leads]), bad, Boolean(state.replay), unknown, seen.ended, seen.group]);
    if (key === described) return;
    described = key;
    for (const node of seen.nodes) {
      const made = nodeButtons.get(node.slot);
      if (!made) continue;
      made.setAttribute("aria-label", unknown ? `${name(node.slot)}, not known` : wordsOfNode({ ...node, applied: 0, applied_lag: 0 }, name(node.slot)));
      made.dataset.look = unknown ? "unknown" : node.look;
      made.disabled = Boolean(state.replay) || seen.ended;
    }
    for (const link of seen.links) {
      const made = linkButtons.get(`${link.a} ${link.b}`);
      if (!made) continue;
      made.setAttribute("aria-label", wordsOfLink(link, name));
      made.disabled = Boolean(state.replay) || seen.ended;
    }
    for (const made of [...replayButtons, playing, slider, live, sampling]) made.disabled = seen.ended;
    chooser.disabled = Boolean(state.replay) || seen.ended;
    const others = seen.nodes.filter((node) => !["leader", "follower", "learner", "no replica"].includes(node.look));
    const said = [wordsOfLeaders(seen.nodes, name, history.newest("groups").number.length),
      ...others.map((node) => `${name(node.slot)} ${node.look}`),
      wordsOfLinks(bad)].filter(Boolean);
    summary.textContent = unknown ? "nothing is known of this moment" : seen.ended ? "the cluster has stopped" : said.join(" · ");
  }

  // -- the menu beside what was clicked --------------------------------------------------------------------------
  const controls = (target) => model.get("_controls").filter((each) => each.target === target);
  const newestNode = (slot) => { const { rows } = history.streams; return nodeAt(rows, rows.t.length - 1, slot); };
  const stateOf = (look) => ({ dead: "stopped", paused: "paused" })[look] ?? "running";
  const faultOf = (source, target) => {
    const links = history.newest("links"), row = links.source.findIndex((each, index) => each === source && links.target[index] === target);
    return row < 0 ? null : { cut: links.cut[row], delay_ms: links.delay_ms[row], loss: links.loss[row] };
  };
  let anchor = null;

  function openMenu(title, at, from, parts) {
    forget(menu);
    anchor = from;
    menu.replaceChildren(h("div", { className: "zl-menu-title" }, h("b", { textContent: title }),
      h("button", { type: "button", className: "zl-close", textContent: "×", title: "close", onclick: closeMenu })), ...parts);
    menu.setAttribute("role", "dialog");
    menu.setAttribute("aria-label", title);
    menu.hidden = false;
    const room = { w: field.clientWidth - menu.offsetWidth - 4, h: field.clientHeight - menu.offsetHeight - 4 };
    const gap = (state.layout.radius || 0) + 12, right = at.x + gap <= room.w;
    menu.style.left = `${clamp(right ? at.x + gap : at.x - gap - menu.offsetWidth, 4, Math.max(4, room.w))}px`;
    menu.style.top = `${clamp(at.y - menu.offsetHeight / 2, 4, Math.max(4, room.h))}px`;
    menu.querySelector("button:not(.zl-close):not(:disabled), input")?.focus();
  }
  function closeMenu(refocus = true) {
    if (menu.hidden) return;
    forget(menu);
    menu.hidden = true;
    if (refocus && anchor?.isConnected) anchor.focus();
    point(null);
  }

  function openNode(slot) {
    const name = nameOf(slot), node = newestNode(slot), now = stateOf(node.look);
    const links = history.newest("links"), isIll = links.source.includes(slot) || links.target.includes(slot);
    const form = h("div", { className: "zl-form", hidden: true }), parts = [];
    for (const each of controls("node")) {
      if (each.states.includes(now)) parts.push(faultButton(each, [name], {}, form));
      if (each.undo && (each.undo.states.length ? each.undo.states.includes(now) : isIll && !parts.some((made) => made.textContent.startsWith(each.undo.button)))) {
        parts.push(undoButton(each, [name]));
      }
    }
    for (const made of parts) {
      if (field.clientWidth > 30 * state.layout.em) made.append(h("span", { className: "zl-faint", textContent: made.title }));
      made.addEventListener("click", () => { if (form.hidden) closeMenu(); });
    }
    openMenu(wordsOfNode(node, name), state.layout.places.get(slot), nodeButtons.get(slot), [h("div", { className: "zl-menu-items" }, ...parts), form]);
  }

  function openLink([a, b], at, ways = "both") {
    const name = (slot) => nameOf(slot), chosen = { both: [[a, b], [b, a]], there: [[a, b]], back: [[b, a]] }[ways];
    const say3 = { both: "both ways", there: `${name(a)} → ${name(b)}`, back: `${name(b)} → ${name(a)}` };
    const targets = chosen.map((pair) => pair.map(name)), bad = chosen.map((pair) => faultOf(...pair));
    const strike = (control, sizes) => { for (const target of targets) send({ do: "strike", button: control.button, target, sizes }, [control.button, ...target].join(":")); };
    const parts = [h("div", { className: "zl-stepper" }, ...Object.entries(say3).map(([key, label]) => {
      const made = h("button", { type: "button", className: `zl-button${key === ways ? " zl-now" : ""}`, textContent: label, onclick: () => openLink([a, b], at, key) });
      made.setAttribute("aria-pressed", String(key === ways));
      return made;
    }))];
    for (const each of controls("link")) {
      if (each.parameters.length) {
        parts.push(h("div", { className: "zl-form" }, ...sliders(each, bad.find(Boolean) ?? {}, (sizes) => strike(each, sizes))));
      } else if (!bad.every((fault) => fault?.cut)) {
        const made = faultButton(each, targets[0]);
        made.onclick = () => { strike(each, {}); closeMenu(); };
        parts.push(made);
      }
    }
    const undone = controls("link").find((each) => each.undo);
    if (undone && bad.some(Boolean)) {
      const made = undoButton(undone, targets[0]);
      made.onclick = () => {
        for (const target of targets) send({ do: "undo", button: undone.button, target }, [undone.undo.button, ...target].join(":"));
        closeMenu();
      };
      parts.push(made);
    }
    openMenu(`link of ${name(a)} and ${name(b)}`, at, linkButtons.get(`${a} ${b}`), [h("div", { className: "zl-menu-items" }, ...parts)]);
  }

  menu.addEventListener("keydown", (event) => {
    if (event.key === "Escape") { event.stopPropagation(); closeMenu(); return; }
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key], all = [...menu.querySelectorAll("button:not(:disabled), input")];
    if (!step || event.target.type === "range") return;
    event.preventDefault();
    all[(all.indexOf(document.activeElement) + step + all.length) % all.length].focus();
  });
  const outside = (event) => { if (!menu.hidden && !menu.contains(event.target) && !anchor?.contains(event.target)) closeMenu(false); };
  document.addEventListener("pointerdown", outside);

  function point(what) {
    if (JSON.stringify(what) === JSON.stringify(state.pointed)) return;
    state.pointed = what;
    canvas.style.cursor = what?.link && !state.replay ? "pointer" : "";
    schedulePaint();
  }
  canvas.onpointermove = (event) => {
    const found = state.layout && hit(state.layout, event.offsetX, event.offsetY);
    point(found?.link ? found : null);
  };
  canvas.onpointerleave = () => point(null);
  canvas.onclick = (event) => {
    const found = state.layout && !state.replay && model.get("_beat") >= 0 && hit(state.layout, event.offsetX, event.offsetY);
    if (found?.link) openLink(found.link, { x: event.offsetX, y: event.offsetY });
  };

  // -- slow motion -----------------------------------------------------------------------------------------------
  function beginReplay(slow) {
    const frozen = state.replay && state.replay.slow !== slow ? state.replay : history.freeze();
    if (!(frozen.streams.rows.t?.length > 1)) return;
    const span = replayOf(frozen.streams.rows.t, versionAt(frozen.versions.marks, Infinity) ?? EMPTY.marks, slow);
    const at = state.replay && state.replay.slow !== slow ? state.replay.at : span.at;
    state.replay = { streams: frozen.streams, versions: frozen.versions, ...span, at, slow, playing: true, shownAt: performance.now(),
      travels: schedule(messagesOf(frozen.streams.messages), slow) };
    el.classList.add("zl-replays");
    bar.hidden = sign.hidden = false;
    closeMenu(false);
    arrange();
    tellReplay();
    playing.focus();
  }
  function advance(now) {
    const { replay } = state;
    if (replay.playing) replay.at = Math.min(replay.to, replay.at + (now - replay.shownAt) / replay.slow);
    const gap = gapAt(replay.streams.rows.t, replay.at);
    if (replay.playing && gap) replay.at = gap[1];    // nothing is to be seen there
    if (replay.at >= replay.to) replay.playing = false;
    replay.shownAt = now;
    tellReplay();
  }
  function tellReplay() {
    const { replay } = state, ago = (kernelNow() - replay.at) / 1000, what = lastMark(versionAt(replay.versions.marks, Infinity) ?? EMPTY.marks, replay.at);
    replay.gap = gapAt(replay.streams.rows.t, replay.at);
    el.classList.toggle("zl-unknown", Boolean(replay.gap));
    const shown = `REPLAY 1/${replay.slow}${replay.gap ? `: ${((replay.gap[1] - replay.gap[0]) / 1000).toFixed(1)} s were not seen` : ""}`;
    if (sign.textContent !== shown) sign.textContent = shown;
    told.textContent = `Replay, ${replay.slow} times slower: ${((replay.at - replay.from) / 1000).toFixed(replay.slow > 10 ? 3 : 2)} s of ` +
      `${((replay.to - replay.from) / 1000).toFixed(0)} s, ${ago.toFixed(0)} s ago${what ? ` · ${what}` : ""}`;
    const text = replay.playing ? "❚❚ hold" : "▶ go on";
    if (playing.textContent !== text) playing.textContent = text;
    if (document.activeElement !== slider || replay.playing) slider.value = 1000 * (replay.at - replay.from) / (replay.to - replay.from);
    replayButtons.forEach((made, index) => made.classList.toggle("zl-now", replay.slow === [10, 100][index]));
  }
  function endReplay() {
    state.replay = null;
    bar.hidden = sign.hidden = true;
    el.classList.remove("zl-replays", "zl-unknown");
    for (const made of replayButtons) made.classList.remove("zl-now");
    travels = [];
    say("visible");                // during a long replay the kernel may have taken this page for gone
    arrange();
  }
  playing.onclick = () => {
    const { replay } = state;
    if (!replay.playing && replay.at >= replay.to) replay.at = replay.from;
    replay.playing = !replay.playing;
    replay.shownAt = performance.now();
    tellReplay();
    schedulePaint();
  };
  slider.oninput = () => {
    const { replay } = state;
    replay.playing = false;
    replay.at = replay.from + slider.value / 1000 * (replay.to - replay.from);
    tellReplay();
    schedulePaint();
  };
  live.onclick = endReplay;
  bar.addEventListener("keydown", (event) => { if (event.key === "Escape") endReplay(); });

  // -- the legend, drawn by what draws the picture ---------------------------------------------------------------
  function fillLegend() {
    const paper = theme(), ratio = Math.min(2, devicePixelRatio || 1);
    const sample = (size, draw, text) => {
      const made = h("canvas", { width: size * ratio, height: size * ratio, style: { width: `${size}px`, height: `${size}px` } });
      const on = made.getContext("2d");
      on.scale(ratio, ratio);
      on.translate(size / 2, size / 2);
      draw(on);
      return h("span", {}, made, text);
    };
    const colour = "#0072B2", node = { applied: 60, applied_lag: 40 };
    const looks = LOOKS.filter((look) => look !== "starting" && (look !== "no replica" || !chooser.hidden)).map((look) => sample(34, (on) =>
      BODIES[look](on, { x: 0, y: look.endsWith("leader") ? 4 : 0, r: look.endsWith("leader") ? 9 : 11, em: 8, colour, theme: paper, node }), look));
    const kinds = KINDS.map((kind) => sample(20, (on) => mark(on, kind, 6, VOTES.has(kind) || kind.startsWith("order") || kind === "answer" ? paper.faint : colour, paper.paper), kind));
    legend.replaceChildren(h("div", { className: "zl-legend" }, ...looks), h("div", { className: "zl-legend" }, ...kinds));
  }
  function showLegend(shown) {
    legend.hidden = !shown;
    shapes.setAttribute("aria-expanded", String(shown));
    if (shown) fillLegend();
  }
  showLegend(false);
  shapes.onclick = () => showLegend(legend.hidden);
  shapes.onkeydown = (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); showLegend(legend.hidden); } };

  // -- whether it is in sight -------------------------------------------------------------------------------------
  let onScreen = true;
  const look = () => {
    const visible = onScreen && !document.hidden;
    if (visible === state.visible) return;
    state.visible = visible;
    state.waiting = visible;       // a key frame brings what was missed
    travels = [];
    say(visible ? "visible" : "hidden");
  };
  const watcher = new IntersectionObserver((entries) => { onScreen = entries.at(-1).isIntersecting; look(); }, { rootMargin: "100px" });
  const retheme = () => { el.classList.toggle("zl-dark", isDarkPage()); if (!legend.hidden) fillLegend(); schedulePaint(); };
  const themes = new MutationObserver(retheme), sizes = new ResizeObserver(() => arrange());
  const leave = () => say("gone");
  const pushes = hearPushes(model, view, onMessage);
  model.on("change:_busy", schedulePaint);
  model.on("change:_beat", schedulePaint);
  document.addEventListener("visibilitychange", look);
  window.addEventListener("pagehide", leave);
  systemDark.addEventListener("change", retheme);
  themes.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
  watcher.observe(el);
  sizes.observe(field);
  retheme();
  pushes.begun.then((isThere) => { if (isThere) say("ready"); });

  const draw = () => {};
  draw.close = () => {
    leave();
    pushes.close();
    model.off("change:_busy", schedulePaint);
    model.off("change:_beat", schedulePaint);
    document.removeEventListener("visibilitychange", look);
    document.removeEventListener("pointerdown", outside);
    window.removeEventListener("pagehide", leave);
    systemDark.removeEventListener("change", retheme);
    themes.disconnect();
    watcher.disconnect();
    sizes.disconnect();
    cancelAnimationFrame(raf);
  };
  return draw;
});
