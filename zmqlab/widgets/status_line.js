// One line that says whether clients are served. While the kernel is gone, the page itself says so here.

const LEVELS = {
  "serving": "M7 1 A6 6 0 1 1 6.99 1 Z",
  "degraded": "M7 1 L13.5 12.5 L0.5 12.5 Z",
  "unserved": "M1.5 1.5 H12.5 V12.5 H1.5 Z",
  "not judged": "M7 1 A6 6 0 1 1 6.99 1 Z M7 3.2 A3.8 3.8 0 1 0 7.01 3.2 Z",
  "no kernel": "M2.5 1 L7 5.5 L11.5 1 L13 2.5 L8.5 7 L13 11.5 L11.5 13 L7 8.5 L2.5 13 L1 11.5 L5.5 7 L1 2.5 Z",
};

export default panel(({ el, onAge }) => {
  const svg = svgShape("dot", "currentColor");
  svg.setAttribute("aria-hidden", "true");
  const headline = h("b", { className: "zl-status-head" });
  const text = h("span", { className: "zl-status-text" });
  const advice = h("span", { className: "zl-status-advice" });
  const count = h("span", { className: "zl-status-count" });
  const spoken = h("div", { className: "zl-spoken", role: "status" });
  spoken.setAttribute("aria-live", "polite");
  const line = h("div", { className: "zl-status-line" }, svg, headline, text, advice,
    h("span", { className: "zl-space" }), count);
  el.classList.add("zl-status");
  el.append(line, spoken);

  let said = null, gone = null;
  const show = () => {
    const now = gone ?? said;
    if (!now) return;
    el.dataset.level = now.level;
    svg.firstChild.setAttribute("d", LEVELS[now.level]);
    const serves = now.level === "serving";
    headline.textContent = now.headline + (now.lasts && !serves ? ` for ${now.lasts}` : "");
    text.textContent = now.text;
    advice.textContent = now.advice ? `→ ${now.advice}` : "";
        const soFar = gone ? null : said?.so_far;
    count.textContent = soFar ? soFar.text : "";
    count.title = soFar ? soFar.how : "";
    const news = `${now.headline}: ${serves ? "" : now.text}`;
    if (spoken.dataset.of !== now.level + now.headline) {
      spoken.dataset.of = now.level + now.headline;
      spoken.textContent = news;
    }
  };
  onAge((age) => {
    gone = age && { level: "no kernel", headline: "NO KERNEL", lasts: "", text: age.what, advice: age.how };
    show();
  });
  return (state) => {
    said = state;
    show();
  };
});
