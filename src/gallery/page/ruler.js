// The ruler: distances of the nearest pictures and the threshold, over the histograms of what was
// measured for known and for unknown pictures.

const width = 600, height = 190, left = 10, right = 590, ground = 110;
const svgNamespace = "http://www.w3.org/2000/svg";

function add(parent, name, attributes, text) {
  const element = document.createElementNS(svgNamespace, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

export function rulerEnd(calibration, answer) {
  const distances = (answer?.neighbours ?? []).map((near) => near.distance);
  return 1.05 * Math.max(calibration.histograms?.edges.at(-1) ?? 0, ...distances, 1e-9);
}

export function drawRuler(svg, { calibration, answer, threshold, end }) {
  svg.replaceChildren();
  const x = (distance) => left + (right - left) * Math.min(distance / end, 1);
  const { histograms } = calibration;
  if (histograms) {
    drawHistogram(svg, x, histograms.edges, histograms.known, "var(--known)");
    drawHistogram(svg, x, histograms.edges, histograms.unknown, "var(--unknown)");
    add(svg, "text", { x: left, y: 12, style: "fill: var(--known)" }, "known");
    add(svg, "text", { x: left + 50, y: 12, style: "fill: var(--unknown)" }, "unknown");
  }
  add(svg, "line", { x1: left, x2: right, y1: ground, y2: ground, stroke: "var(--line)" });
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    const anchor = share === 0 ? "start" : share === 1 ? "end" : "middle";
    add(svg, "text", { x: x(share * end), y: height - 4, "text-anchor": anchor }, (share * end).toPrecision(2));
  }
  for (const near of answer?.neighbours ?? []) {
    const color = threshold !== null && near.distance <= threshold ? "var(--known)" : "var(--unknown)";
    const mark = add(svg, "line", {
      x1: x(near.distance), x2: x(near.distance), y1: ground, y2: ground + 34, stroke: color, "stroke-width": 3,
    });
    add(mark, "title", {}, `${near.class} at ${near.distance.toPrecision(3)}`);
  }
  if (threshold !== null) {
    const at = x(threshold);
    add(svg, "line", { x1: at, x2: at, y1: 20, y2: ground + 44, stroke: "var(--ink)", "stroke-dasharray": "5 4", "stroke-width": 1.5 });
    add(svg, "text", { x: at, y: ground + 60, "text-anchor": at > width - 60 ? "end" : at < 60 ? "start" : "middle", style: "fill: var(--ink)" }, `threshold ${threshold.toPrecision(3)}`);
  }
}

function drawHistogram(svg, x, edges, counts, color) {
  const total = counts.reduce((sum, count) => sum + count, 0) || 1;
  const densities = counts.map((count, i) => count / total / (edges[i + 1] - edges[i] || 1));
  const highest = Math.max(...densities) || 1;
  const points = densities.flatMap((density, i) => {
    const y = ground - (ground - 22) * (density / highest);
    return [`${x(edges[i])},${y}`, `${x(edges[i + 1])},${y}`];
  });
  add(svg, "polygon", {
    points: [`${x(edges[0])},${ground}`, ...points, `${x(edges.at(-1))},${ground}`].join(" "),
    fill: color, "fill-opacity": 0.25, stroke: color, "stroke-width": 1,
  });
}

// Which share of the unknown a threshold lets in, and which share of the known it turns away.
export function ratesAt({ histograms }, threshold) {
  if (!histograms) return null;
  const below = (counts) => {
    const total = counts.reduce((sum, count) => sum + count, 0);
    let sum = 0;
    counts.forEach((count, i) => {
      const [low, high] = [histograms.edges[i], histograms.edges[i + 1]];
      sum += count * Math.min(1, Math.max(0, (threshold - low) / (high - low || 1)));
    });
    return total ? sum / total : null;
  };
  const [known, unknown] = [below(histograms.known), below(histograms.unknown)];
  return known === null || unknown === null ? null : { letIn: unknown, turnedAway: 1 - known };
}
