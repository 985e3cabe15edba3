// The load: start, stop, rate, flow.

export default panel(({ model, el, button, send }) => {
  const start = button("▶ start", "start", { do: "start" }, { className: "zl-button zl-main" });
  const stop = button("■ stop and judge", "stop", { do: "stop" });
  const judge = button("judge it", "judge", { do: "judge" });
  const keep = button("keep this run", "keep", { do: "keep" },
    { title: "in the folder runs, with its evidence; zmqlab report makes a page of it" });
  const calibrate = button("what can this machine do?", "calibrate", { do: "calibrate" },
    { title: "three seconds at full speed" });
  const status = h("span", { className: "zl-faint" });
  const slider = h("input", { type: "range", min: 0, max: 1000, step: 1 });
  const rateText = h("span", { className: "zl-value", style: { "min-width": "96px" } });
  const choices = {};
  const choice = (name, label) => {
    choices[name] = h("select", { onchange: () => send({ do: "choose", [name]: choices[name].value }) });
    return h("label", {}, label, choices[name]);
  };
  const figures = h("div", { className: "zl-figures" });
  const limit = h("div", { className: "zl-quiet", hidden: true });
  const machine = h("span", { className: "zl-faint" });
  const verdict = h("div", { className: "zl-note", hidden: true });
  const next = h("span", { className: "zl-faint", hidden: true,
    textContent: "these four count from the next start" });
  const flushes = () => state.durability === "fsync";
  const disk = button("", "change", () => ({ do: "change", durability: flushes() ? "os" : "fsync" }),
    { title: "each node starts anew from its journal, one after the other, the leader last" });
  const means = h("div", { className: "zl-meaning" });
  el.append(
    h("div", { className: "zl-head" }, h("h4", { textContent: "Load" }), start, stop, judge, keep, status,
      h("span", { className: "zl-space" }), machine, calibrate),
    h("div", { className: "zl-form" }, h("label", {}, "rate", slider, rateText),
      choice("mix", "flow"), choice("node_choice", "to"), choice("arrivals", "arrivals"),
      choice("waits", "waits for"), next),
    h("div", { className: "zl-form" }, means, disk),
    figures, limit, verdict);

  // The thumb stays where it was let go. The kernel confirms a rate, but not while a cell keeps it busy.
  let state = model.get("_state"), dragging = false, asked = null;
  const toRate = (place) => {
    const rate = state.rate_min * (state.rate_max / state.rate_min) ** (place / 1000);
    const digits = 10 ** Math.max(Math.floor(Math.log10(rate)) - 1, 0);
    return Math.min(Math.round(rate / digits) * digits, state.rate_max);
  };
  const toPlace = (rate) => 1000 * Math.log(rate / state.rate_min) / Math.log(state.rate_max / state.rate_min);
  const showRate = (rate) => { rateText.textContent = `${number(rate)} orders/s`; };
  slider.oninput = () => { dragging = true; showRate(toRate(slider.value)); };
  slider.onchange = () => {
    dragging = false;
    asked = toRate(slider.value);
    send({ do: "choose", rate: asked });
  };
  model.on("change:_problem", () => { asked = null; });

  const setOptions = (select, options, value) => {
    const known = [...select.options].map((each) => each.value);
    if (JSON.stringify(known) !== JSON.stringify(options))
      select.replaceChildren(...options.map((each) => h("option", { value: each, textContent: each })));
    select.value = value;
  };
  const figure = (value, label) => h("span", {}, h("b", { textContent: value }), ` ${label}`);

  const outcomes = {
    "passed": ["zl-agree", "✓ Every promise was kept. "],
    "failed": ["zl-differ", "✗ A promise was broken. "],
    "not judged": ["zl-faint", "? Not judged: what must be known is not. "],
  };
  const marks = new Map([[true, ["zl-agree", "✓ "]], [false, ["zl-differ", "✗ "]], [null, ["zl-faint", "? "]]]);
  const mark = (tag, [className, textContent]) => h(tag, { className, textContent });

  function drawVerdict(said) {
    verdict.hidden = !said;
    if (!said) return;
    verdict.replaceChildren(
      h("div", {}, mark("b", outcomes[said.outcome]), said.summary),
      ...said.checks.map((check) => h("div", {}, mark("span", marks.get(check.ok)),
        `${check.name}: `, h("span", { className: "zl-faint", textContent: check.detail }))),
      ...said.thresholds.map((check) => h("div", {}, mark("span", marks.get(check.ok)),
        `threshold ${check.expression}${check.ok === false ? " is crossed" : ""}: `,
        h("span", { className: "zl-faint", textContent: check.detail }))),
      ...said.warnings.map((text) => h("div", { className: "zl-faint", textContent: `Note: ${text}` })));
  }

  return (given) => {
    state = given;
    const { running, phase } = state;
    start.hidden = running || phase === "judging";
    stop.hidden = !running && phase !== "judging";
    judge.hidden = !state.judge || running || Boolean(phase);
    keep.hidden = !state.keep || running || Boolean(phase);
    calibrate.hidden = running || phase === "judging";
    for (const each of [start, stop, judge, keep, calibrate, disk]) {
      each.zlDisabled = !state.alive;
      each.disabled = each.classList.contains("zl-busy") || !state.alive;
    }
    status.textContent = phase === "judging" ? "judging: reading the log, replaying it on the naive book …" :
      phase === "measuring" ? "measuring: three seconds at full speed …" : running ? "" : state.kept ? `kept in ${state.kept}` : "no load is running";
    machine.textContent = state.machine;
    if (state.rate === asked) asked = null;
    if (!dragging && asked === null && toRate(slider.value) !== state.rate) slider.value = toPlace(state.rate);
    if (!dragging && asked === null) showRate(state.rate);
    slider.disabled = state.fixed;
    setOptions(choices.mix, state.mixes, state.mix);
    setOptions(choices.node_choice, state.node_choices, state.node_choice);
    setOptions(choices.arrivals, state.all_arrivals, state.arrivals);
    setOptions(choices.waits, state.all_waits, state.waits);
    const { promise, price, risk } = state.means;
    means.replaceChildren(
      h("div", {}, h("b", { textContent: "Acknowledged " }), `(${state.replication}): `, promise, " ",
        h("span", { className: "zl-faint", textContent: price })),
      ...(risk ? [h("div", {}, h("b", { textContent: "Can be lost: " }), risk)] : []),
      h("div", {}, h("b", { textContent: "Journals " }), `(${state.durability}): `, state.disk));
    disk.textContent = flushes() ? "do not wait for the disk" : "wait for the disk";
    disk.hidden = state.durability === "memory";
    next.hidden = !running;
    const now = state.figures;
    figures.hidden = !now;
    if (now) figures.replaceChildren(
      figure(`${number(now.elapsed_s)} s`, now.state), figure(number(now.offered), "offered"),
      figure(number(now.acknowledged), "acknowledged"), figure(number(now.rejected), "of them rejected"),
      figure(number(now.outstanding), "requests under way"), figure(number(now.retries), "retries"),
      figure(`${now.cpu} %`, "CPU of the generator"));
    limit.hidden = !now;           // one line as long as a load runs, so that the parts below it do not jump
    limit.className = state.warning ? "zl-warning" : "zl-quiet";
    limit.textContent = state.warning || (state.keeps_up ? "Orders go out when they are due, and the cluster keeps up." :
      "Whether the cluster keeps up is not known yet.");
    drawVerdict(state.verdict);
  };
});
