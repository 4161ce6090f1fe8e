// One plot: lines and areas over the last five minutes, drawn as SVG in the pixels that it has.

const SPAN = 300;
const EDGE = { left: 46, right: 8, top: 8, bottom: 18 };

// The scale of the values: where a value is between 0 (bottom) and 1 (top), and at which values there are ticks.
function linear(top) {
  const power = 10 ** Math.floor(Math.log10(top));
  const nice = [1, 2, 4, 6, 8, 10].find((n) => n * power >= top * 0.999) * power;
  return { at: (value) => Math.min(value / nice, 1), ticks: [0, nice / 2, nice] };
}

// From the lowest bucket of the histograms, below which they know nothing, to the power of ten above all values.
const LOWEST = 0.0005;

function logarithmic(top) {
  const powers = [0.001, 0.01, 0.1, 1, 10, 100];
  const end = powers.find((power) => power >= top) || 100;
  const at = (value) => Math.min(Math.max(Math.log(value / LOWEST) / Math.log(end / LOWEST), 0), 1);
  return { at, ticks: powers.filter((power) => power <= end) };
}

function scaleOf(plot, points) {
  const values = points.flatMap((point) => plot.series.map((series) => series.of(point))).filter((value) => value !== null);
  if (plot.top) return linear(plot.top);
  if (!plot.log) return linear(Math.max(plot.least, ...values));
  return logarithmic(Math.max(0.1, ...values));
}

// Draws into `svg`. Moments are seconds since 1970; the cursor is one that is looked at, or null.
function drawPlot(svg, plot, { points, now, cursor }) {
  const [width, height] = [svg.clientWidth || 300, svg.clientHeight || 130];
  const scale = scaleOf(plot, points);
  const box = {
    x: (at) => EDGE.left + (1 - (now - at) / SPAN) * (width - EDGE.left - EDGE.right),
    y: (value) => height - EDGE.bottom - scale.at(value) * (height - EDGE.top - EDGE.bottom),
    right: width - EDGE.right,
    bottom: height - EDGE.bottom,
  };
  set(svg, { viewBox: `0 0 ${width} ${height}` });
  svg.replaceChildren(
    ...scale.ticks.flatMap((value) => row(box, value, plot.tick)),
    draw("path", { class: "axis", d: `M${EDGE.left} ${box.bottom + 0.5}H${box.right}` }),
    ...[5, 4, 3, 2, 1, 0].map((minutes) => minute(box, minutes, now)),
    ...plot.series.flatMap((series) => lines(box, series, points)),
    ...(cursor === null ? [] : [draw("path", { class: "cursor", d: `M${box.x(cursor)} ${EDGE.top}V${box.bottom}` })]),
  );
}

function row(box, value, tick) {
  const y = Math.round(box.y(value)) + 0.5;
  return [
    draw("path", { class: "grid", d: `M${EDGE.left} ${y}H${box.right}` }),
    draw("text", { x: EDGE.left - 6, y: y + 3.5, class: "end" }, tick(value)),
  ];
}

// The outermost labels stay inside the plot.
const ANCHORS = { 5: "start", 0: "end" };

function minute(box, minutes, now) {
  const text = minutes === 5 ? "−5 min" : minutes ? `−${minutes}` : "now";
  return draw("text", { x: box.x(now - 60 * minutes), y: box.bottom + 13, class: ANCHORS[minutes] || "middle" }, text);
}

// A line for each run of points without a hole, and the area below it if it shall have one.
function lines(box, series, points) {
  const runs = [];
  let before = null;
  for (const point of points) {
    const value = series.of(point);
    if (value !== null) {
      if (before === null || point.at - before > 7) runs.push([]);
      runs.at(-1).push([box.x(point.at), box.y(value)].map((pixel) => pixel.toFixed(1)));
    }
    before = value === null ? null : point.at;
  }
  return runs.flatMap((run) => {
    const d = "M" + run.map((pixels) => pixels.join(" ")).join("L") + (run.length === 1 ? "h2" : "");
    const area = `${d}V${box.bottom}H${run[0][0]}Z`;
    return [...(series.area ? [draw("path", { class: `area ${series.look}`, d: area })] : []),
      draw("path", { class: `line ${series.look}`, d })];
  });
}

// The point at this moment, if there is one.
function nearest(points, at) {
  let found = null;
  for (const point of points) {
    if (Math.abs(point.at - at) <= Math.min(3, found ? Math.abs(found.at - at) : 3)) found = point;
  }
  return found;
}
