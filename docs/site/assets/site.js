// Formulas by KaTeX, figures by Vega: on every page, and again when the colours change.
(() => {
  const WIDE = 555, HALF = 222; // as in bnrepro.analysis.site.widgets
  const dark = () => document.body.getAttribute("data-md-color-scheme") === "slate";

  // Put pixels where a figure says "as wide as the page" or "half of it".
  function fitted(spec, width) {
    if (Array.isArray(spec)) return spec.map((each) => fitted(each, width));
    if (spec === null || typeof spec !== "object") return spec;
    return Object.fromEntries(Object.entries(spec).map(([key, value]) => {
      if (key === "datasets" || key === "data") return [key, value];
      if (key === "width" && value === WIDE) return [key, Math.max(220, width - 150)];
      if (key === "width" && value === HALF) return [key, Math.max(150, Math.floor(width / 2) - 100)];
      return [key, fitted(value, width)];
    }));
  }

  function draw() {
    renderMathInElement(document.body, {delimiters: [
      {left: "$$", right: "$$", display: true}, {left: "\\(", right: "\\)", display: false},
      {left: "\\[", right: "\\]", display: true}]});
    for (const place of document.querySelectorAll(".bn-widget")) {
      const spec = window.bnWidgets[place.dataset.widget];
      const theme = dark() ? "dark" : undefined;
      const letters = {labelFontSize: 12, titleFontSize: 13};
      const axis = {...letters, gridColor: dark() ? "#4a4a4a" : "#e3e3e3", labelOverlap: true};
      const config = {background: "transparent", view: {continuousWidth: 200}, axis, legend: letters,
        header: letters, title: {fontSize: 14}, text: {fontSize: 12}};
      vegaEmbed(place, fitted(spec, Math.min(760, place.clientWidth)), {actions: false, renderer: "svg", theme, config})
        .then((result) => { place.bnView = result.view; });
    }
  }

  const start = () => {
    draw();
    new MutationObserver(draw).observe(document.body, {attributeFilter: ["data-md-color-scheme"]});
  };
  document.readyState === "loading" ? addEventListener("DOMContentLoaded", start) : start();
})();
