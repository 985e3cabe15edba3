// A bokeh figure that does not change. The library and the theme come from live_figure.js, which stands before this.

async function render({ model, el }) {
  el.classList.add("zl-picture");
  const library = await model.widget_manager.get_model(model.get("_library").replace("IPY_MODEL_", ""));
  const Bokeh = await loadBokeh(library.get("version"), library.get("code"));
  const place = document.createElement("div");
  el.append(place);
  const views = await Bokeh.embed.embed_item(model.get("_item"), place);
  const doc = (views instanceof Map ? [...views.values()] : [...views])[0].model.document;
  const setTheme = () => {
    for (const [id, name, value] of model.get("_themes")[isDark() ? "dark" : "light"]) {
      const target = doc.get_model_by_id(id);
      if (target) target[name] = value;
    }
  };
  setTheme();
  const forgetTheme = onTheme(setTheme);
  const sizes = new ResizeObserver(() => requestAnimationFrame(() => fitFigures(figuresOf(doc), true)));
  sizes.observe(el);
  return () => {
    forgetTheme();
    sizes.disconnect();
    views.clear?.();
    const index = Bokeh.documents.indexOf(doc);
    if (index >= 0) Bokeh.documents.splice(index, 1);
  };
}

export default { render };
