// Figures over the last minutes as a drawing's paths. Pure: numbers in, the `d` of an SVG path out.

/** A longer silence than this is a gap: nobody knows what was then. */
export const GAP_S = 6.5;

/** Return the samples that are no older than `span` seconds; each has its time `at`, in seconds. */
export function recent(samples, now, span) {
  const first = samples.findIndex((sample) => sample.at >= now - span);
  // The one before the first still says how it was at the left edge.
  return first < 0 ? [] : samples.slice(Math.max(0, first - 1));
}

/** Return the top of the drawing's own axis: a round number that all figures fit under. */
export function ceiling(figures) {
  const most = Math.max(1, ...figures);
  const ten = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 4, 5, 6, 8, 10].map((each) => each * ten).find((each) => each >= most);
}

/** Return the steps of one figure: it holds until the next sample. Gaps part it. */
export function stepPath(samples, pick, box) {
  return runs(samples)
    .map((run) => {
      const points = run.map((sample) => [across(sample.at, box), down(pick(sample), box)]);
      const [first, ...rest] = points;
      return `M${pair(first)}` + rest.map(([x, y]) => `H${short(x)}V${short(y)}`).join("") + lastStep(run, box);
    })
    .join("");
}

/** Return the same with the area under it closed. */
export function areaPath(samples, pick, box) {
  return runs(samples)
    .map((run) => {
      const line = stepPath(run, pick, box);
      const end = run.at(-1) === samples.at(-1) ? heldTo(run, box) : run.at(-1).at;
      return `${line}H${short(across(end, box))}V${short(box.height)}H${short(across(run[0].at, box))}Z`;
    })
    .join("");
}

function runs(samples) {
  const all = [];
  for (const sample of samples) {
    const run = all.at(-1);
    if (run && sample.at - run.at(-1).at <= GAP_S) run.push(sample);
    else all.push([sample]);
  }
  return all;
}

function heldTo(run, box) {
  return Math.min(box.now, run.at(-1).at + GAP_S);
}

function lastStep(run, box) {
  const end = heldTo(run, box);
  return end - run.at(-1).at > 0 && end === box.now ? `H${short(across(end, box))}` : "";
}

function across(at, { now, span, width }) {
  return Math.max(0, Math.min(width, ((at - now) / span + 1) * width));
}

function down(figure, { top, height }) {
  return height - (Math.min(figure, top) / top) * height;
}

const pair = ([x, y]) => `${short(x)} ${short(y)}`;
const short = (value) => String(Math.round(value * 10) / 10);
