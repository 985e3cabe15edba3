// What the picture of a cluster shows, as pure functions: where things stand, how a node and a link look, which messages
// are under way and where they are. No canvas, no page, no clock: cluster_picture.js hands all of it in, and
// tests/widgets/test_picture_scene.py runs this file alone. Lengths are in CSS pixels, times in milliseconds.

// As the enumerations Look (picture_readings.py) and Kind (travelling_messages.py), in their order.
const LOOKS = ["starting", "dead", "paused", "silent", "follower", "candidate", "leader", "old leader", "learner", "behind",
  "ended", "no replica"];
const KINDS = ["heartbeat", "entries", "stored", "vote asked", "vote given", "vote refused", "snapshot", "order passed on",
  "order", "answer", "hand-over"];
const CLIENT = 100;               // the first number of a client; a smaller one is a node's slot
const NODE_COLUMNS = ["look", "term", "applied", "stored_lag", "commit_lag", "applied_lag", "due", "timeout", "leads"];

const KEPT_MS = 12_000;           // what a page keeps: the ten seconds of a replay, and some to begin with
const REPLAYED_MS = 10_000;
const LAG_MS = 450;               // live messages are drawn so late: by then the page has nearly all of them
const TRAVEL_MS = 380;            // a message needs at least so long on the way, or no eye could follow it
const CRAWL = 5;                  // ... and five times as long as it really took: one of 200 ms crawls for a second
const CRAWL_MAX_MS = 2_500;
const LATE_MAX_MS = 2_500;        // a live message that would begin so late after its sending is left out
const BREAK_MS = 650;             // how long the pieces of a lost one are seen
const LOST_AT = 0.5;              // where on its way a lost message breaks off
const ROWS_APART_MS = 1_000;      // rows come ten times a second, and twice to a slow page: none was made in a longer time
const HEARD_MS = 100;             // a follower of a live leader hears it twice as often

// -- where things stand ----------------------------------------------------------------------------------------------

const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
// Whether the logs stand beside the ring, and not below it. In a box of a given height its shape counts, too.
const isWide = (width, height, em) => width >= 72 * em || (width >= 38 * em && width > 1.5 * height);
const logsHeight = (count, em) => (1.95 * count + 3.5) * em;

// The height that a picture of `count` nodes wants at this width.
function naturalHeight(width, count, em) {
  if (!isWide(width, Infinity, em)) return clamp(0.9 * width, (19 + 1.4 * count) * em, 34 * em) + logsHeight(count, em);
  return Math.max(logsHeight(count, em), clamp(0.3 * width, (19 + 1.5 * count) * em, (25 + 2 * count) * em));
}

// The places of `count` nodes on an ellipse, clockwise; the first at the top, or two of them if their number is even. They
// stand at equal angles; or equally far apart along it, if `room` is not left between them and more is then: at equal angles
// many would stand on each other at the ends of a flat one.
function ring(count, { cx, cy, rx, ry }, room) {
  if (count === 1) return [{ x: cx, y: cy }];
  const at = (step) => {
    const angle = -Math.PI / 2 + 2 * Math.PI * step / RING_STEPS;
    return { x: cx + rx * Math.cos(angle), y: cy + ry * Math.sin(angle) };
  };
  const shares = Array.from({ length: count }, (_, index) => ((index - (count % 2 ? 0 : 0.5)) / count + 1) % 1);
  const byAngle = shares.map((share) => at(share * RING_STEPS));
  if (nearestOf(byAngle) >= room) return byAngle;
  const along = [0];
  for (let step = 1; step <= RING_STEPS; step++) along.push(along[step - 1] + distance(at(step - 1), at(step)));
  const byLength = shares.map((share) => {
    const wanted = share * along[RING_STEPS], after = along.findIndex((length) => length >= wanted - 1e-9);
    return at(after && after - (along[after] - wanted) / (along[after] - along[after - 1]));
  });
  return nearestOf(byLength) > nearestOf(byAngle) ? byLength : byAngle;
}

const RING_STEPS = 360;
const FREE = 0.36;                // a node's radius is at most so much of the way to the next one
const RING_EM = 12;               // so high must a ring be, and a little higher for each node, to be read
const distance = (a, b) => Math.hypot(a.x - b.x, a.y - b.y);
const nearestOf = (points) => Math.min(...pairs(points).map(([one, other]) => distance(one, other)));

// The four corners of a field as places of clients: first those that leave `enough` room to each of the nodes.
function cornersOf(field, em, box, points, enough) {
  const corners = [[0, 0], [0, 1], [1, 0], [1, 1]].map(([right, low]) => ({
    x: right ? field.w - box.w / 2 - 0.2 * em : box.w / 2 + 0.2 * em,
    y: low ? field.h - box.h / 2 - 0.2 * em : box.h / 2 + 0.2 * em }));
  const room = (corner) => Math.min(enough, ...points.map((point) => Math.hypot(
    Math.max(0, Math.abs(point.x - corner.x) - box.w / 2), Math.max(0, Math.abs(point.y - corner.y) - box.h / 2))));
  return corners.map((corner) => [room(corner), corner]).sort(([one], [other]) => other - one).map(([, corner]) => corner);
}

// Where everything stands: `places` of nodes and clients by their number, the radius of a node, and the rows of the logs.
function plan(width, height, slots, clients, em) {
  const wide = isWide(width, height, em), count = slots.length;
  const row = wide ? 1.95 : clamp((0.42 * height / em - 3.5) / count, 1.25, 1.95);   // in a low box rows stand closer
  const logsAre = (row * count + 3.5) * em;
  // A box that is too low for both shows the ring alone.
  const isLow = height < logsAre + (wide ? 0 : (RING_EM + count) * em);
  const logs = isLow ? { w: 0, h: 0 } : { w: wide ? Math.min((width < 48 * em ? 0.36 : 0.4) * width, 36 * em) : width - 0.5 * em, h: logsAre };
  const field = isLow ? { w: width, h: height } : wide ? { w: width - logs.w - 1.5 * em, h: height } : { w: width, h: height - logs.h };
  const isBeside = clients > 0 && (wide || (isLow && width >= 26 * em));    // else clients stand in the corners
  const column = isBeside ? (width >= 48 * em ? 8 : 7.2) * em : 0;
  const wanted = clamp(0.13 * Math.min(field.w - column, field.h), 1.6 * em, 3.7 * em);
  const above = 2 * wanted + 0.4 * em, below = wanted + (wide ? 3.4 : 3.1) * em, beside = Math.max(wanted, 3.6 * em) + 0.4 * em;
  const ry = Math.max(wanted, (field.h - above - below) / 2);
  // In a low field the ring is a flat ellipse, so that nodes do not stand on each other.
  const rx = Math.max(wanted, Math.min((field.w - column - 2 * beside) / 2, Math.max((isLow ? 4.5 : 1.9) * ry, 9 * em)));
  const middle = { cx: column + (field.w - column) / 2, cy: above + ry, rx, ry };
  const points = ring(count, middle, wanted / FREE);
  const nearest = nearestOf(points), radius = Math.max(1.1 * em, Math.min(wanted, FREE * nearest));
  const places = new Map(slots.map((slot, index) => [slot, points[index]]));
  // The box of a client: two lines in the column, or one in a corner, which is soon full.
  const box = isBeside ? { w: 6.2 * em, h: 2.9 * em } : { w: 7.4 * em, h: 1.6 * em };
  const corners = cornersOf(field, em, box, points, radius + 1.25 * em);
  for (let index = 0; index < clients; index++) {
    places.set(CLIENT + index, isBeside
      ? { x: (width >= 48 * em ? 4.2 : 3.6) * em, y: middle.cy + (index - (clients - 1) / 2) * 5 * em }
      : corners[index % 4]);
  }
  return {
    wide, em, width, height, field, middle, places, radius, box,
    labels: count < 2 || nearest > 2 * radius + 2.2 * em ? "long" : "short",
    logs: { x: wide ? field.w + em : 0.3 * em, y: wide ? Math.max(0, (height - logs.h) / 2) : field.h, ...logs, row: row * em },
  };
}

// The two ends of a line between two places, outside of what stands there.
function between(a, b, gapA, gapB) {
  const length = distance(a, b) || 1, ux = (b.x - a.x) / length, uy = (b.y - a.y) / length;
  return { x1: a.x + ux * gapA, y1: a.y + uy * gapA, x2: b.x - ux * gapB, y2: b.y - uy * gapB, ux, uy };
}

// What a pointer is at: a node's slot, a pair of slots, or nothing.
function hit(layout, x, y) {
  const slots = [...layout.places.keys()].filter((each) => each < CLIENT);
  const node = slots.find((slot) => distance(layout.places.get(slot), { x, y }) <= 1.15 * layout.radius);
  if (node !== undefined) return { node };
  let best = null, bestAt = 9;
  for (const [a, b] of pairs(slots)) {
    const line = between(layout.places.get(a), layout.places.get(b), layout.radius, layout.radius);
    const length = distance(layout.places.get(a), layout.places.get(b)) - 2 * layout.radius;
    const along = (x - line.x1) * line.ux + (y - line.y1) * line.uy;
    const off = Math.abs((x - line.x1) * line.uy - (y - line.y1) * line.ux);
    if (along >= 0 && along <= length && off < bestAt) [best, bestAt] = [{ link: [a, b] }, off];
  }
  return best;
}

const pairs = (slots) => slots.flatMap((a, index) => slots.slice(index + 1).map((b) => [a, b]));

// -- how a node and a link look --------------------------------------------------------------------------------------

// The number of the newest row at or before `at`; 0 if all are later.
function rowAt(times, at) {
  let low = 0, high = times.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] <= at) low = middle + 1; else high = middle;
  }
  return Math.max(0, low - 1);
}

// The time without rows in which a moment lies, as `[from, to]`; null: it lies in none. While a page is hidden, none come.
function gapAt(times, at) {
  const row = rowAt(times, at), [from, to] = [times[row], times[row + 1]];
  return at > from && at < to && to - from > ROWS_APART_MS ? [from, to] : null;
}

function nodeAt(rows, row, slot) {
  const node = { slot };
  for (const column of NODE_COLUMNS) node[column] = rows[column + slot]?.[row];
  node.look = LOOKS[node.look] ?? "starting";
  return node;
}

// The share of an election timer that is left; null: the node waits for none. Nodes publish ten times a second and hear a
// leader more often, so a timer runs on between two rows only where the leader was silent before.
function timerLeft(node, sinceMs) {
  if (!(node.timeout > 0) || !["follower", "candidate", "behind"].includes(node.look)) return null;
  const silentMs = node.timeout - node.due;
  return clamp((node.due - (silentMs > HEARD_MS ? sinceMs : 0)) / node.timeout, 0, 1);
}

const WHOLE = { cut: false, delay: 0, loss: 0, words: "whole", bad: false };
const isUp = (look) => !["starting", "dead", "ended", "no replica"].includes(look);

// Each pair of nodes: how the link looks there and back, and whether it is of use at all.
function linksOf(nodes, links) {
  const bad = new Map(links.source.map((source, index) => [`${source} ${links.target[index]}`,
    { cut: links.cut[index], delay: links.delay_ms[index], loss: links.loss[index], words: links.words[index], bad: true }]));
  const way = (a, b) => bad.get(`${a} ${b}`) ?? WHOLE;
  const bySlot = new Map(nodes.map((node) => [node.slot, node]));
  const leads = (slot) => bySlot.get(slot).look === "leader";
  return pairs([...bySlot.keys()]).map(([a, b]) => ({
    a, b, there: way(a, b), back: way(b, a),
    up: isUp(bySlot.get(a).look) && isUp(bySlot.get(b).look), leading: leads(a) || leads(b),
  }));
}

// What is said of the links that are not whole. Without a number: the status line counts both ways of a link.
const wordsOfLinks = (bad) => !bad.length ? "" :
  `${bad.length === 1 ? "a link" : "links"} ${bad.every((link) => link.there.cut && link.back.cut) ? "cut" : "not whole"}`;

// What a link is called aloud.
function wordsOfLink(link, name) {
  const there = link.there.words, back = link.back.words, both = `link of ${name(link.a)} and ${name(link.b)}`;
  if (there === back) return `${both}: ${there}`;
  return `${both}: ${name(link.a)} to ${name(link.b)} ${there}, back ${back}`;
}

const grouped = (value) => Math.round(value).toLocaleString("en");

// What a node is called aloud.
function wordsOfNode(node, name) {
  const words = [name, node.leads ? leadsOf(node.leads) : node.look];
  if (isUp(node.look) && node.term) words.push(`term ${node.term}`);
  if (node.applied > 0) words.push(`applied ${grouped(node.applied)}`);
  if (node.applied_lag >= 1 && node.look !== "leader") words.push(`${grouped(node.applied_lag)} entries behind`);
  return words.join(", ");
}

// What is said of who leads, in one group or in all `count` of them. More than two leaders are counted: their names do not
// fit above a picture, and each crown has its number.
function wordsOfLeaders(nodes, name, count = 0) {
  const leader = nodes.find((node) => node.look === "leader"), leaders = nodes.filter((node) => node.leads > 0);
  const led = leaders.reduce((sum, node) => sum + node.leads, 0);
  const ofGroups = leaders.length > 2 ? `${leaders.length} nodes lead ${led < count ? `${led} of ${count}` : led} groups` :
    leaders.map((node) => `${name(node.slot)} ${leadsOf(node.leads)}`).join(", ");
  return ofGroups || (leader ? `${name(leader.slot)} leads, term ${leader.term}` : "no node leads");
}

// The groups that can be chosen, as a person reads them: `[value, text]`, all of them first.
const choicesOfGroups = (groups) => [["", `all ${groups.number.length} groups`],
  ...groups.number.map((number, index) => [String(number), `group ${number}, led by ${groups.leader[index] || "none"}`])];

// Of a node with several Raft groups: a crown alone would say that it leads all of them.
const leadsOf = (count) => `leads ${count} ${count === 1 ? "group" : "groups"}`;

// The two lines below a node. Where there is little room, a crown says that it leads, and of how many groups; a follower
// says its term only if it is not the newest one; and the shape alone says that a node has no replica.
function labelsOf(node, how, newestTerm) {
  if (node.leads > 0) return how === "long" ? [leadsOf(node.leads)] : [];
  const says = isUp(node.look) && node.term && (how === "long" || node.look !== "follower" || node.term !== newestTerm);
  const known = how === "short" && ["follower", "leader", "no replica"].includes(node.look);
  return [known ? "" : node.look, says ? `term ${node.term}` : ""].filter(Boolean);
}

const LINE_EM = 1.25;             // from one line of a label to the next
const WIDE_EM = 0.62;             // a bold character's width, about

// Where the words of a node stand: below it, or beside it where they would cover another node: outside of the ring first.
// Where no place is free, in the one with the most room.
// `x` and `y` are of the first line's middle, and `align` is the canvas's.
function labelAt(layout, slot, lines) {
  const { em, radius, field, middle, places } = layout, { x, y } = places.get(slot), low = (lines.length - 1) * LINE_EM * em;
  const wide = WIDE_EM * em * Math.max(...lines.map((line) => line.length), 0), free = radius + 0.75 * em, beside = free + 0.4 * em;
  const below = { x, y: y + radius + 1.35 * em, align: "center", left: x - wide / 2 };
  const right = { x: x + beside, align: "left", left: x + beside }, left = { x: x - beside, align: "right", left: x - beside - wide };
  const sides = (x < middle.cx ? [left, right] : [right, left]).flatMap((side) => [{ ...side, y: y - low / 2 }, { ...side, y: y - low }]);
  const others = [...places].filter(([number]) => number < CLIENT && number !== slot).map(([, place]) => place);
  const room = (at) => at.left < 0 || at.left + wide > field.w ? -1 : Math.min(...others.map((other) => distance(other, {
    x: clamp(other.x, at.left, at.left + wide), y: clamp(other.y, at.y - 0.5 * em, at.y + low + 0.5 * em) })));
  const all = [below, ...sides], rooms = all.map(room), first = rooms.findIndex((each) => each >= free);
  return all[first < 0 ? rooms.indexOf(Math.max(...rooms)) : first];
}

// -- where the logs stand --------------------------------------------------------------------------------------------

const COMMIT_AT = 0.82;           // the commit line's place on a bar; what is not committed stands right of it
const SPAN_MIN = 100;             // entries left of it: a healthy follower is some tens behind

// The next of 1, 2, 5, 10, 20, ... that is not below `value`, so that a scale stands still while figures change.
function niceAbove(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].find((each) => each * power >= value - 1e-9) * power;
}

// The scale of all bars, and each node's bar: shares of the bar's width. `known`: a node that has told nothing has none.
// The line is the commit index that the leader told last. A node that has applied more than that stands at the line.
function logsOf(nodes) {
  const known = nodes.filter((node) => Number.isFinite(node.applied_lag));
  const span = niceAbove(Math.max(SPAN_MIN, ...known.map((node) => 1.1 * node.applied_lag)));
  const at = (lag) => clamp(COMMIT_AT * (1 - lag / span), 0, 1);
  return { span, bars: nodes.map((node) => ({
    slot: node.slot, look: node.look, index: node.applied, lag: Math.max(0, node.applied_lag),
    known: Number.isFinite(node.applied_lag),
    applied: at(Math.max(0, node.applied_lag)), committed: at(Math.max(0, Math.min(node.commit_lag, node.applied_lag))),
    stored: at(Math.min(node.stored_lag, node.commit_lag, node.applied_lag)),
  })) };
}

// -- which messages travel -------------------------------------------------------------------------------------------

// When each message is drawn: `{...message, start, end}`, times in display milliseconds, which are `slow` times the real
// ones. A message that takes 0.2 ms is drawn over TRAVEL_MS, and so an answer could be seen to leave before its question
// has come. So what a node sends waits until all that it had heard by then has been seen to arrive: the picture keeps
// cause before effect. It does so within a *story*, such as one order or one campaign. Over all messages it could not:
// heartbeats come sooner than they can be drawn, and each would wait for the one before. `ready`: the arrivals of each
// story at each node so far, as left by the call before. `notBefore`: no message begins earlier.
function schedule(messages, slow, ready = new Map(), notBefore = -Infinity) {
  const ordered = [...messages].sort((one, other) => one.sent - other.sent);
  return ordered.map((message) => {
    const arrivals = ready.get(`${message.story} ${message.source}`) ?? [];
    const causes = arrivals.filter((each) => each.received <= message.sent).map((each) => each.end);
    const start = Math.max(message.sent * slow, notBefore, ...causes);
    const lost = Number.isNaN(message.received);
    const took = lost ? 0 : (message.received - message.sent) * slow;
    const end = start + (slow > 1 ? Math.max(TRAVEL_MS, took) : clamp(CRAWL * took, TRAVEL_MS, CRAWL_MAX_MS));
    if (!lost) {
      const key = `${message.story} ${message.target}`;
      ready.set(key, [...(ready.get(key) ?? []), { received: message.received, end }]);
    }
    return { ...message, lost, start, end };
  });
}

// Where a message is at a display time: the share of its way, and how far it has broken (0: whole, 1: nothing is left of
// it); null: it is not to be seen.
function placeAt(message, now) {
  if (now < message.start) return null;
  const share = (now - message.start) / (message.end - message.start);
  if (!message.lost) return share < 1 ? { share, broken: 0 } : null;
  if (share < LOST_AT) return { share, broken: 0 };
  const broken = (now - message.start - LOST_AT * (message.end - message.start)) / BREAK_MS;
  return broken < 1 ? { share: LOST_AT, broken } : null;
}

const lastsUntil = (message) => message.lost ?
  message.start + LOST_AT * (message.end - message.start) + BREAK_MS : message.end;

const messagesOf = (columns) => Array.from(columns.sent ?? [], (sent, row) => ({
  sent, received: columns.received[row], source: columns.source[row], target: columns.target[row],
  kind: KINDS[columns.kind[row]] ?? "heartbeat", term: columns.term[row], index: columns.index[row], story: columns.story[row],
  live: columns.live[row] > 0,
}));

// -- the replay ------------------------------------------------------------------------------------------------------

// From when to when a replay can go, and where it begins: a moment before the first thing that happened in that time.
function replayOf(times, marks, slow) {
  const to = times.at(-1), from = Math.max(times[0], to - REPLAYED_MS);
  const first = marks.t.find((at) => at >= from && at <= to);
  return { from, to, at: first === undefined ? from : Math.max(from, first - 1_500 / slow) };
}

// What happened last before a moment of a replay, for its banner; empty: nothing within a second.
function lastMark(marks, at) {
  const row = marks.t.findLastIndex((each) => each <= at && each > at - 1_000);
  return row < 0 ? "" : marks.label[row];
}

// The value that a table had at a moment; `versions`: `[[time, value], ...]`, oldest first.
const versionAt = (versions, at) => versions[rowAt(versions.map((each) => each[0]), at)]?.[1];
