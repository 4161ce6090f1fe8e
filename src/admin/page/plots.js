// Which plots there are, their captions and their text alternatives, and the moment that is looked at in all of them.

const percentiles = (key) => ["p50", "p90", "p99"].map((name, n) => ({
  name, look: name, of: (point) => (point[key] ? point[key][n] : null),
}));

const single = (key) => [{ name: "", look: "main", area: true, of: (point) => point[key] }];

const time = (value) => duration(value).replace(".0", "");

const PLOTS = [
  { title: "Utilisation", top: 1, text: percent, tick: percent, series: single("utilisation") },
  { title: "Waiting", least: 10, text: whole, tick: whole, series: single("waiting") },
  { title: "Oldest wait", least: 0.1, text: duration, tick: time, series: single("oldest") },
  { title: "Goodput", least: 10, text: perSecond, tick: perSecond, series: [
    { name: "served", look: "main", area: true, of: (point) => point.transactions ?? null },
    { name: "refused", look: "bad", area: true, of: (point) => point.sheds ?? null },
  ] },
  { title: "Wait", log: true, text: duration, tick: time, series: percentiles("wait") },
  { title: "Hold", log: true, text: duration, tick: time, series: percentiles("hold") },
  { title: "Exec", log: true, text: duration, tick: time, series: percentiles("exec") },
];

const shown = (plot, value) => (value === null || value === undefined ? "–" : plot.text(value));

class Plots {
  constructor(host, onLook) {
    this.all = PLOTS.map((plot) => ({ plot, ...figure(plot) }));
    host.prepend(...this.all.map(({ figure }) => figure));
    for (const { svg } of this.all) {
      svg.addEventListener("pointermove", (event) => {
        const [left, width] = [EDGE.left, svg.clientWidth - EDGE.left - EDGE.right];
        onLook(Math.min(Math.max((event.offsetX - left) / width - 1, -1), 0) * SPAN);
      });
      svg.addEventListener("pointerleave", () => onLook(null));
    }
  }

  // `ago` is 0 for the present, or the negative seconds that are looked back.
  show({ points, now, ago }) {
    const cursor = ago < 0 ? now + ago : null;
    const point = cursor === null ? points.at(-1) : nearest(points, cursor);
    for (const { plot, svg, values } of this.all) {
      drawPlot(svg, plot, { points, now, cursor });
      plot.series.forEach((series, n) => say(values[n], shown(plot, point ? series.of(point) : null)));
      set(svg, { "aria-label": inWords(plot, points) });
    }
  }
}

function figure(plot) {
  const values = plot.series.map(() => make("b", {}, "–"));
  const keys = plot.series.map((series, n) => make("span", {},
    ...(series.name ? [make("i", { class: `key ${series.look}` }), `${series.name} `] : []), values[n]));
  const svg = draw("svg", { role: "img", "aria-label": `${plot.title}: no figures yet` });
  const caption = make("figcaption", {}, make("h3", {}, plot.title),
    make("p", { class: plot.series.length > 1 ? "values" : "values one" }, ...keys));
  return { figure: make("figure", {}, caption, svg), svg, values };
}

// The text alternative: what is seen at a glance.
function inWords(plot, points) {
  const parts = plot.series.map((series) => {
    const known = points.filter((point) => series.of(point) !== null);
    if (!known.length) return `${series.name} no figures`.trim();
    const high = known.reduce((high, point) => (series.of(point) > series.of(high) ? point : high));
    return `${series.name} now ${shown(plot, series.of(points.at(-1)))}, highest ${plot.text(series.of(high))} at ${clock(high.at)}`.trim();
  });
  return `${plot.title}, plot of the last five minutes: ${parts.join("; ")}.`;
}
