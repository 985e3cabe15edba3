// The picture of a cluster on a canvas: draws what picture_scene.js says, and decides nothing.

const PAPERS = {
  light: { ink: "#1f2328", faint: "#59636e", paper: "#ffffff", line: "#aeb6bf", timer: "#98a1ab", track: "#e6e8eb", fault: "#CF222E" },
  dark: { ink: "#e6e8eb", faint: "#a3abb5", paper: "#16181b", line: "#666e78", timer: "#7d8691", track: "#31363d", fault: "#FF6B66" },
};
const FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', 'DejaVu Sans', sans-serif";
const TURN = 2 * Math.PI;

function brightness(colour) {
  const value = parseInt(colour.slice(1), 16);
  return (0.299 * (value >> 16) + 0.587 * (value >> 8 & 255) + 0.114 * (value & 255)) / 255;
}
const inkOn = (colour) => brightness(colour) > 0.56 ? "#111418" : "#ffffff";
const veil = (colour, share) => colour + Math.round(255 * share).toString(16).padStart(2, "0");

// A chain hash as a colour: equal hashes have equal ones, and others mostly differ. The digits beside it decide.
// No hash is red or orange, which are the colours of faults.
const colourOfHash = (hash, dark) => `hsl(${90 + parseInt(hash.slice(0, 4), 16) % 16 * 15} 42% ${dark ? 66 : 38}%)`;

function polygon(ctx, points) {
  ctx.beginPath();
  points.forEach(([x, y], index) => index ? ctx.lineTo(x, y) : ctx.moveTo(x, y));
  ctx.closePath();
}

function write(ctx, text, x, y, { size, colour, weight = 400, align = "center", halo = "" }) {
  ctx.font = `${weight} ${size}px ${FONT}`;
  ctx.textAlign = align;
  ctx.textBaseline = "middle";
  if (halo) {
    ctx.strokeStyle = halo;
    ctx.lineWidth = 0.32 * size;
    ctx.lineJoin = "round";
    ctx.strokeText(text, x, y);
  }
  ctx.fillStyle = colour;
  ctx.fillText(text, x, y);
}

// -- links -----------------------------------------------------------------------------------------------------------

function drawLinks(ctx, view) {
  const { layout, theme } = view;
  for (const link of view.links) {
    const a = layout.places.get(link.a), b = layout.places.get(link.b), gap = layout.radius + 0.75 * layout.em;
    const line = between(a, b, gap, gap);
    if (view.pointed?.link?.[0] === link.a && view.pointed.link[1] === link.b) drawBand(ctx, line, veil(theme.ink, 0.14), 1.2 * layout.em);
    const same = link.there.words === link.back.words;
    if (same && !link.there.bad) drawWhole(ctx, line, link, view);
    else if (same) drawBad(ctx, line, link.there, link, view, 0);
    else {
      for (const [way, side] of [[link.there, 1], [link.back, -1]]) {
        const beside = offset(side > 0 ? line : reversed(line), 0.34 * layout.em);
        if (way.bad) drawBad(ctx, beside, way, link, view, 1);
        else drawWhole(ctx, beside, link, view);
        drawHead(ctx, beside, way.bad ? theme.fault : theme.line, layout.em);
      }
    }
  }
}

const reversed = ({ x1, y1, x2, y2, ux, uy }) => ({ x1: x2, y1: y2, x2: x1, y2: y1, ux: -ux, uy: -uy });
const offset = ({ x1, y1, x2, y2, ux, uy }, by) =>
  ({ x1: x1 - uy * by, y1: y1 + ux * by, x2: x2 - uy * by, y2: y2 + ux * by, ux, uy });
const lengthOf = (line) => Math.hypot(line.x2 - line.x1, line.y2 - line.y1);
const along = (line, share) => [line.x1 + (line.x2 - line.x1) * share, line.y1 + (line.y2 - line.y1) * share];

function stroke(ctx, line, from, to) {
  ctx.beginPath();
  ctx.moveTo(...along(line, from));
  ctx.lineTo(...along(line, to));
  ctx.stroke();
}

function drawBand(ctx, line, colour, width) {
  Object.assign(ctx, { strokeStyle: colour, lineWidth: width, lineCap: "round" });
  stroke(ctx, line, 0, 1);
  ctx.lineCap = "butt";
}

// A link that is whole; a leader's are stronger, and those of dead nodes hardly there.
function drawWhole(ctx, line, link, { theme, layout }) {
  ctx.strokeStyle = link.up ? (link.leading ? theme.faint : theme.line) : veil(theme.line, 0.55);
  ctx.lineWidth = (link.up && link.leading ? 0.17 : 0.1) * layout.em;
  ctx.setLineDash(link.up ? [] : [0.15 * layout.em, 0.5 * layout.em]);
  stroke(ctx, line, 0, 1);
  ctx.setLineDash([]);
}

function drawHead(ctx, line, colour, em) {
  const [x, y] = along(line, 1), { ux, uy } = line, size = 0.55 * em;
  polygon(ctx, [[x, y], [x - ux * size - uy * size * 0.5, y - uy * size + ux * size * 0.5],
    [x - ux * size + uy * size * 0.5, y - uy * size - ux * size * 0.5]]);
  ctx.fillStyle = colour;
  ctx.fill();
}

// A bad link. Torn: two stubs with ragged ends and a gap. Slow: a wave. Lossy: dots. The word stands beside it.
function drawBad(ctx, line, way, link, { theme, layout, words }, oneWay) {
  const em = layout.em, colour = link.up ? theme.fault : veil(theme.fault, 0.45);
  Object.assign(ctx, { strokeStyle: colour, lineWidth: 0.17 * em, lineJoin: "round", lineCap: "round" });
  if (way.cut) {
    for (const [from, to, turn] of [[0, 0.36, 1], [1, 0.64, -1]]) {
      const [x, y] = along(line, to), { ux, uy } = line, size = 0.42 * em;
      stroke(ctx, line, from, to);
      ctx.beginPath();               // the ragged edge: a saw across the line
      for (const [out, side] of [[0.35, 1.3], [-0.3, 0.65], [0.35, 0], [-0.3, -0.65], [0.35, -1.3]]) {
        ctx.lineTo(x + turn * ux * out * size - uy * side * size, y + turn * uy * out * size + ux * side * size);
      }
      ctx.stroke();
    }
  } else if (way.delay) {
    const length = lengthOf(line), waves = Math.max(2, Math.round(length / (1.1 * em)));
    ctx.beginPath();
    for (let step = 0; step <= 8 * waves; step++) {
      const [x, y] = along(line, step / (8 * waves)), swing = 0.22 * em * Math.sin(step / 8 * TURN);
      ctx.lineTo(x - line.uy * swing, y + line.ux * swing);
    }
    if (way.loss) ctx.setLineDash([0.5 * em, 0.45 * em]);
    ctx.stroke();
  } else {
    ctx.setLineDash([0.02 * em, 0.5 * em]);
    ctx.lineWidth = 0.26 * em;
    stroke(ctx, line, 0, 1);
  }
  ctx.setLineDash([]);
  ctx.lineCap = "butt";
  if (!way.cut) words.push([way.words, ...along(line, oneWay ? 0.3 : 0.5), colour]);
}

// The words of bad links, above all lines.
function drawWords(ctx, { words, theme, layout }) {
  for (const [text, x, y, colour] of words) {
    write(ctx, text, x, y, { size: 0.92 * layout.em, colour, weight: 600, halo: theme.paper });
  }
}

function drawClientLines(ctx, { layout, theme, clients }) {
  ctx.strokeStyle = veil(theme.line, 0.6);
  ctx.lineWidth = 1;
  ctx.setLineDash([2, 4]);
  clients.forEach((client, index) => {
    for (const slot of client.slots) {
      const to = layout.places.get(slot);
      if (to) stroke(ctx, between(layout.places.get(CLIENT + index), to, 2.2 * layout.em, layout.radius + 0.4 * layout.em), 0, 1);
    }
  });
  ctx.setLineDash([]);
}

// -- nodes -----------------------------------------------------------------------------------------------------------

function drawNode(ctx, node, view) {
  const { layout, theme } = view, { x, y } = layout.places.get(node.slot), r = layout.radius, em = layout.em;
  const { colour, name } = view.members.get(node.slot);
  const pointed = view.pointed?.node === node.slot || view.busy.has(name);
  if (pointed) {
    ctx.fillStyle = veil(theme.ink, 0.12);
    ctx.beginPath();
    ctx.arc(x, y, r + 0.9 * em, 0, TURN);
    ctx.fill();
  }
  (BODIES[node.look] ?? BODIES.starting)(ctx, { x, y, r, em, colour, theme, node });
  const left = timerLeft(node, view.sinceMs);
  if (left !== null) drawTimer(ctx, x, y, r + 0.5 * em, left, view);
  const onDisc = node.look === "leader" || node.look === "behind" && node.applied_lag < 1 ? inkOn(colour) : theme.ink;
  const size = Math.min(1.15 * em, 2.9 * r / Math.max(4, name.length));
  write(ctx, name, x, NAME_AT[node.look] ? y + NAME_AT[node.look] * r : y,
    { size, colour: ["dead", "ended", "no replica"].includes(node.look) ? theme.faint : onDisc, weight: 700, halo: node.look === "leader" ? "" : theme.paper });
}

// The words below or beside a node: above all bodies, because a neighbour may stand close.
function drawLabels(ctx, node, view) {
  const { layout, theme } = view, em = layout.em, bold = ["leader", "old leader"].includes(node.look);
  const lines = labelsOf(node, layout.labels, view.term), { x, y, align } = labelAt(layout, node.slot, lines);
  lines.forEach((text, row) => write(ctx, text, x, y + row * LINE_EM * em,
    { align, size: row ? em : 1.05 * em, weight: row || !(bold || !isCalm(node.look)) ? 500 : 700, halo: theme.paper,
      colour: row || isCalm(node.look) && !bold ? theme.faint : ["dead", "paused", "silent"].includes(node.look) ? theme.fault : theme.ink }));
}

const isCalm = (look) => ["follower", "learner", "starting", "ended", "no replica"].includes(look);
const NAME_AT = { candidate: 0.28, paused: 0.68, dead: 0 };

function disc(ctx, x, y, r, fill, line, width, dash = []) {
  ctx.beginPath();
  ctx.arc(x, y, r, 0, TURN);
  if (fill) { ctx.fillStyle = fill; ctx.fill(); }
  if (line) {
    Object.assign(ctx, { strokeStyle: line, lineWidth: width });
    ctx.setLineDash(dash);
    ctx.stroke();
    ctx.setLineDash([]);
  }
}

// How a node's body looks: no two of them have one shape.
const BODIES = {
  follower: (ctx, { x, y, r, em, colour, theme }) => {
    disc(ctx, x, y, r, theme.paper);
    disc(ctx, x, y, r - 0.12 * em, veil(colour, 0.22), colour, 0.24 * em);
  },
  leader: (ctx, { x, y, r, em, colour, theme, node }) => {
    disc(ctx, x, y, r + 0.42 * em, theme.paper, colour, 0.2 * em);
    disc(ctx, x, y, r, colour);
    const width = Math.max(0.92 * r, node.leads > 0 ? 1.7 * em : 0), foot = y - r - 0.75 * em;
    drawCrown(ctx, x, foot, width, theme.ink, theme.ink, em);
    if (node.leads > 0) write(ctx, node.leads, x, foot - 0.26 * width, { size: 0.95 * em, colour: theme.paper, weight: 700 });
  },
  "old leader": (ctx, { x, y, r, em, colour, theme }) => {
    disc(ctx, x, y, r, theme.paper);
    disc(ctx, x, y, r - 0.12 * em, veil(colour, 0.22), colour, 0.24 * em, [0.8 * em, 0.4 * em]);
    drawCrown(ctx, x, y - r - 0.5 * em, 0.8 * r, theme.paper, theme.faint, em);
  },
  candidate: (ctx, { x, y, r, em, colour, theme }) => {
    const points = [-90, 30, 150].map((degrees) => degrees * TURN / 360)
      .map((angle) => [x + 1.25 * r * Math.cos(angle), y + 0.1 * r + 1.25 * r * Math.sin(angle)]);
    polygon(ctx, points);
    Object.assign(ctx, { fillStyle: theme.paper, lineJoin: "round", lineWidth: 0.3 * em, strokeStyle: colour });
    ctx.fill();
    ctx.fillStyle = veil(colour, 0.3);
    ctx.fill();
    ctx.stroke();
  },
  dead: (ctx, { x, y, r, em, theme }) => {
    disc(ctx, x, y, r, theme.paper, theme.line, 0.16 * em, [0.35 * em, 0.45 * em]);
    Object.assign(ctx, { strokeStyle: theme.fault, lineWidth: 0.42 * em, lineCap: "round" });
    const arm = 0.98 * r;
    for (const side of [1, -1]) {
      ctx.beginPath();
      ctx.moveTo(x - arm, y - side * arm);
      ctx.lineTo(x + arm, y + side * arm);
      ctx.stroke();
    }
    ctx.lineCap = "butt";
  },
  paused: (ctx, { x, y, r, em, colour, theme }) => {
    ctx.beginPath();
    ctx.roundRect(x - r, y - r, 2 * r, 2 * r, 0.3 * r);
    Object.assign(ctx, { fillStyle: theme.paper, strokeStyle: colour, lineWidth: 0.24 * em });
    ctx.fill();
    ctx.stroke();
    ctx.fillStyle = theme.fault;
    for (const side of [-0.42, 0.14]) ctx.fillRect(x + side * r, y - 0.72 * r, 0.28 * r, 0.92 * r);
  },
  silent: (ctx, { x, y, r, em, colour, theme }) => {
    disc(ctx, x, y, r - 0.12 * em, theme.paper, colour, 0.24 * em, [0.1 * em, 0.5 * em]);
    drawBadge(ctx, "?", x, y, r, em, theme.fault, theme);
  },
  starting: (ctx, { x, y, r, em, colour, theme }) => {
    disc(ctx, x, y, 0.8 * r, theme.paper, colour, 0.14 * em, [0.1 * em, 0.4 * em]);
    drawBadge(ctx, "…", x, y, r, em, theme.faint, theme);
  },
  ended: (ctx, { x, y, r, em, theme }) => disc(ctx, x, y, r - 0.12 * em, theme.paper, theme.line, 0.16 * em),
  "no replica": (ctx, { x, y, r, em, colour, theme }) => disc(ctx, x, y, 0.8 * r, theme.paper, veil(colour, 0.6), 0.12 * em),
  learner: (ctx, { x, y, r, em, colour, theme, node }) => {
    disc(ctx, x, y, r - 0.1 * em, theme.paper, colour, 0.14 * em);
    fillLevel(ctx, x, y, 0.78 * r, colour, node);
    disc(ctx, x, y, 0.78 * r, null, colour, 0.14 * em);
  },
  behind: (ctx, { x, y, r, em, colour, theme, node }) => {
    disc(ctx, x, y, r, theme.paper);
    fillLevel(ctx, x, y, r - 0.1 * em, colour, node);
    disc(ctx, x, y, r - 0.1 * em, null, colour, 0.2 * em);
    drawBadge(ctx, "", x, y, r, em, theme.ink, theme);
    const [cx, cy] = [x + 0.8 * r, y - 0.8 * r];
    polygon(ctx, [[cx, cy - 0.48 * em], [cx + 0.46 * em, cy + 0.32 * em], [cx - 0.46 * em, cy + 0.32 * em]]);
    ctx.fillStyle = theme.paper;
    ctx.fill();
  },
};

// A body that is filled as far as its node has applied the log.
function fillLevel(ctx, x, y, r, colour, node) {
  const share = clamp(node.applied / Math.max(1, node.applied + node.applied_lag), 0, 1), level = y + r - 2 * r * share;
  ctx.save();
  ctx.beginPath();
  ctx.arc(x, y, r, 0, TURN);
  ctx.clip();
  ctx.fillStyle = veil(colour, 0.55);
  ctx.fillRect(x - r, level, 2 * r, 2 * r);
  ctx.restore();
}

function drawBadge(ctx, sign, x, y, r, em, colour, theme) {
  const at = 0.8 * r, size = 0.82 * em;
  disc(ctx, x + at, y - at, size, colour, theme.paper, 0.15 * em);
  if (sign) write(ctx, sign, x + at, y - at, { size: 1.15 * em, colour: theme.paper, weight: 700 });
}

// A crown that stands on (x, y).
function drawCrown(ctx, x, y, width, fill, line, em) {
  const w = width, hgt = 0.72 * width;
  polygon(ctx, [[-0.5, 0], [-0.5, -0.8], [-0.22, -0.42], [0, -1], [0.22, -0.42], [0.5, -0.8], [0.5, 0]]
    .map(([right, up]) => [x + right * w, y + up * hgt]));
  Object.assign(ctx, { fillStyle: fill, strokeStyle: line, lineWidth: 0.14 * em, lineJoin: "round" });
  ctx.fill();
  ctx.stroke();
}

// The election timer: a ring that shrinks clockwise; short ones turn to the colour of faults.
function drawTimer(ctx, x, y, r, left, { theme, layout }) {
  ctx.lineWidth = 0.28 * layout.em;
  ctx.strokeStyle = theme.track;
  ctx.beginPath();
  ctx.arc(x, y, r, 0, TURN);
  ctx.stroke();
  ctx.strokeStyle = left < 0.4 ? theme.fault : theme.timer;
  ctx.beginPath();
  ctx.arc(x, y, r, -TURN / 4, -TURN / 4 + TURN * left);
  ctx.stroke();
}

function drawClient(ctx, client, index, { layout, theme }) {
  const { x, y } = layout.places.get(CLIENT + index), em = layout.em, { w, h: high } = layout.box;
  ctx.beginPath();
  ctx.roundRect(x - w / 2, y - high / 2, w, high, 0.5 * em);
  Object.assign(ctx, { fillStyle: theme.paper, strokeStyle: theme.faint, lineWidth: 0.12 * em });
  ctx.fill();
  ctx.stroke();
  const line = `${client.name}  ${client.rate}`, fits = Math.min(0.95 * em, 1.75 * w / line.length);
  if (high < 2 * em) { write(ctx, line, x, y + 0.05 * em, { size: fits, colour: theme.ink, weight: 600 }); return; }
  write(ctx, client.name, x, y - 0.62 * em, { size: 0.95 * em, colour: theme.ink, weight: 600 });
  write(ctx, client.rate, x, y + 0.65 * em, { size: 0.95 * em, colour: theme.faint });
}

// -- messages --------------------------------------------------------------------------------------------------------

const VOTES = new Set(["vote asked", "vote given", "vote refused"]);

// The mark of a kind of message, centred on (0, 0).
function mark(ctx, kind, size, fill, line) {
  Object.assign(ctx, { fillStyle: fill, strokeStyle: line, lineWidth: Math.max(1, 0.18 * size), lineJoin: "round" });
  const s = size;
  if (kind === "heartbeat") { polygon(ctx, [[-0.45 * s, -0.45 * s], [0.45 * s, -0.45 * s], [0.45 * s, 0.45 * s], [-0.45 * s, 0.45 * s]]); }
  else if (kind === "entries") polygon(ctx, [[-0.75 * s, -0.75 * s], [0.75 * s, -0.75 * s], [0.75 * s, 0.75 * s], [-0.75 * s, 0.75 * s]]);
  else if (kind === "snapshot") polygon(ctx, [[-1.2 * s, -s], [1.2 * s, -s], [1.2 * s, s], [-1.2 * s, s]]);
  else if (kind === "hand-over") polygon(ctx, [[-s, s], [-s, -0.7 * s], [-0.45 * s, 0], [0, -1.1 * s], [0.45 * s, 0], [s, -0.7 * s], [s, s]]);
  else if (kind === "vote asked") polygon(ctx, [[0, -1.25 * s], [1.15 * s, 0.8 * s], [-1.15 * s, 0.8 * s]]);
  else if (kind === "order" || kind === "order passed on") polygon(ctx, [[0, -s], [s, 0], [0, s], [-s, 0]]);
  else { ctx.beginPath(); ctx.arc(0, 0, (VOTES.has(kind) ? 1.15 : 0.72) * s, 0, TURN); }
  ctx.fill();
  ctx.stroke();
  if (kind === "vote given" || kind === "vote refused" || kind === "answer") {
    ctx.strokeStyle = inkOn(fill);
    ctx.lineWidth = 0.3 * s;
    ctx.beginPath();
    if (kind === "vote refused") { ctx.moveTo(-0.45 * s, -0.45 * s); ctx.lineTo(0.45 * s, 0.45 * s); ctx.moveTo(0.45 * s, -0.45 * s); ctx.lineTo(-0.45 * s, 0.45 * s); }
    else { const k = kind === "answer" ? 0.6 : 1; ctx.moveTo(-0.55 * s * k, 0); ctx.lineTo(-0.12 * s * k, 0.45 * s * k); ctx.lineTo(0.6 * s * k, -0.5 * s * k); }
    ctx.stroke();
  }
}

function drawMessages(ctx, view) {
  const { layout, theme, members } = view, size = clamp(0.24 * layout.radius, 0.45 * layout.em, 0.75 * layout.em);
  for (const message of view.travels) {
    const at = placeAt(message, view.now), a = layout.places.get(message.source), b = layout.places.get(message.target);
    if (!at || !a || !b) continue;
    const line = offset(between(a, b, endOf(message.source, layout), endOf(message.target, layout)), 0.34 * layout.em);
    const colour = at.broken ? theme.fault : members.get(message.source)?.colour ?? theme.ink;
    if (view.still) { drawStill(ctx, line, message, colour, size, theme); continue; }
    const [x, y] = along(line, at.share), big = VOTES.has(message.kind) ? 1.35 * size : size;
    ctx.save();
    ctx.translate(x, y);
    if (at.broken) {               // two halves that part and fade
      ctx.globalAlpha = 1 - at.broken;
      for (const side of [-1, 1]) {
        ctx.save();
        ctx.translate(side * (0.4 + 1.3 * at.broken) * big, at.broken * 1.2 * big);
        ctx.rotate(side * 0.9 * at.broken);
        ctx.beginPath();
        ctx.rect(side < 0 ? -2 * big : 0, -2 * big, 2 * big, 4 * big);
        ctx.clip();
        mark(ctx, message.kind, big, colour, theme.ink);
        ctx.restore();
      }
    } else mark(ctx, message.kind, big, colour, theme.paper);
    ctx.restore();
  }
}

const endOf = (number, layout) => number >= CLIENT ? 1.6 * layout.em : layout.radius + 0.3 * layout.em;

// For a reader who wants no motion: an arrow on the whole way for as long as the message would travel.
function drawStill(ctx, line, message, colour, size, theme) {
  Object.assign(ctx, { strokeStyle: colour, lineWidth: 2 });
  const to = message.lost ? LOST_AT : 0.96;
  stroke(ctx, line, 0.04, to);
  const [x, y] = along(line, message.lost ? LOST_AT : 0.5);
  ctx.save();
  ctx.translate(x, y);
  mark(ctx, message.lost ? "vote refused" : message.kind, size, message.lost ? theme.fault : colour, theme.paper);
  ctx.restore();
}

// -- logs ------------------------------------------------------------------------------------------------------------

function drawLogs(ctx, view) {
  const { layout, theme, members } = view, { logs, em } = layout;
  if (!logs.h) return;
  const { span, bars } = view.logs, narrow = logs.w < 26 * em;
  ctx.font = `700 ${em}px ${FONT}`;
  const names = 2 * em + Math.max(...[...members.values()].map((each) => ctx.measureText(each.name).width), 0), told = narrow ? 0 : 6.4 * em, chips = (narrow ? 3.6 : 4.4) * em;
  const left = logs.x + names, width = logs.w - names - told - chips - 0.6 * em, top = logs.y + 2 * em;
  ctx.clearRect(logs.x - 2, logs.y - 1, logs.w + 4, logs.h + 2);
  write(ctx, view.group >= 0 ? `group ${view.group}` : "logs", logs.x + 0.2 * em, logs.y + 0.9 * em, { size: 1.05 * em, colour: theme.ink, weight: 600, align: "left" });
  const commitX = left + COMMIT_AT * width, bottom = top + bars.length * logs.row;
  write(ctx, narrow ? `${grouped(span)}` : `${grouped(span)} entries`, left + 0.41 * width, logs.y + 0.9 * em, { size: 0.9 * em, colour: theme.faint });
  Object.assign(ctx, { strokeStyle: theme.line, lineWidth: 1 });
  for (const [from, to] of [[left, left + 0.41 * width - (narrow ? 2.2 : 4) * em], [left + 0.41 * width + (narrow ? 2.2 : 4) * em, commitX]]) {
    if (to > from) { ctx.beginPath(); ctx.moveTo(from, logs.y + 0.9 * em); ctx.lineTo(to, logs.y + 0.9 * em); ctx.stroke(); }
  }
  if (!narrow && view.hashes.size) write(ctx, "state", logs.x + logs.w - chips / 2, logs.y + 0.9 * em, { size: 0.9 * em, colour: theme.faint });
  bars.forEach((bar, row) => drawBar(ctx, bar, { left, width, y: top + row * logs.row, told, chips, narrow }, view));
  Object.assign(ctx, { strokeStyle: theme.ink, lineWidth: 0.16 * em });
  ctx.beginPath();
  ctx.moveTo(commitX, logs.y + 0.4 * em);
  ctx.lineTo(commitX, bottom);
  ctx.stroke();
  write(ctx, "committed", Math.min(commitX, logs.x + logs.w - 2.8 * em), bottom + 0.55 * em, { size: 0.9 * em, colour: theme.ink, weight: 600 });
}

function drawBar(ctx, bar, { left, width, y, told, chips, narrow }, view) {
  const { layout, theme, members, hashes } = view, { em, logs } = layout, { colour, name } = members.get(bar.slot);
  const high = 1.15 * em, at = y + (logs.row - high) / 2, middle = y + logs.row / 2;
  const isStill = ["dead", "paused", "silent", "ended", "no replica"].includes(bar.look);
  disc(ctx, logs.x + 0.6 * em, middle, 0.38 * em, colour);
  write(ctx, name, logs.x + 1.3 * em, middle, { size: em, colour: isStill ? theme.faint : theme.ink, weight: bar.look === "leader" ? 700 : 500, align: "left" });
  ctx.fillStyle = theme.track;
  ctx.fillRect(left, at, width, high);
  if (!bar.known) return;
  ctx.fillStyle = veil(colour, isStill ? 0.35 : 1);
  ctx.fillRect(left, at, bar.applied * width, high);
  ctx.fillStyle = veil(colour, isStill ? 0.2 : 0.55);
  ctx.fillRect(left + bar.applied * width, at, (bar.committed - bar.applied) * width, high);
  if (bar.stored > bar.committed) {       // stored and not committed: an outline
    Object.assign(ctx, { strokeStyle: colour, lineWidth: 0.12 * em });
    ctx.strokeRect(left + bar.committed * width, at + 0.06 * em, (bar.stored - bar.committed) * width, high - 0.12 * em);
  }
  const behind = bar.lag >= 1 ? `−${grouped(bar.lag)}` : "";
  if (!narrow && bar.index) {      // of several groups there is no one index
    write(ctx, grouped(bar.index), left + width + told - 0.3 * em, middle, { size: 0.95 * em, colour: theme.faint, align: "right" });
  }
  if (behind && (isStill || bar.look === "behind" || bar.applied < 0.6 * COMMIT_AT)) {
    ctx.font = `600 ${0.95 * em}px ${FONT}`;
    const ends = COMMIT_AT * width - 0.6 * em - ctx.measureText(behind).width;    // below 0 where a bar is short
    write(ctx, behind, left + Math.max(0.2 * em, Math.min(bar.applied * width + 0.5 * em, ends)), middle,
      { size: 0.95 * em, colour: theme.ink, weight: 600, align: "left", halo: theme.track });
  }
  const hash = hashes.get(bar.slot);
  if (hash) {
    const chip = logs.x + logs.w - chips + 0.4 * em, wide = chips - 0.4 * em, shade = colourOfHash(hash.hash, theme === PAPERS.dark);
    ctx.beginPath();
    ctx.roundRect(chip, at, wide, high, 0.3 * em);
    ctx.fillStyle = shade;
    ctx.fill();
    write(ctx, `${hash.hash.slice(0, 4)}${hash.agrees ? "" : " ≠"}`, chip + wide / 2, middle, { size: 0.88 * em, colour: theme === PAPERS.dark ? "#111418" : "#ffffff", weight: 600 });
  }
}

// The whole ring, anew. It is all that moves; the logs are drawn when there is news of them.
function drawField(ctx, view) {
  const { field } = view.layout;
  ctx.clearRect(0, 0, field.w, field.h);
  view.words = [];
  view.term = Math.max(0, ...view.nodes.map((node) => node.term || 0));
  drawClientLines(ctx, view);
  drawLinks(ctx, view);
  drawMessages(ctx, view);
  // The leader last: where nodes stand close, its crown is on top.
  const byCrown = [...view.nodes].sort((one, other) => (one.look === "leader") - (other.look === "leader"));
  for (const node of byCrown) drawNode(ctx, node, view);
  for (const node of view.nodes) drawLabels(ctx, node, view);
  view.clients.forEach((client, index) => drawClient(ctx, client, index, view));
  drawWords(ctx, view);
}
