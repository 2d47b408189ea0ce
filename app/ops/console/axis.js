// The time axis: where it ends, where its ticks are, and how a length of time is written. Pure.

const STEPS = [1, 2, 5];
const ENDS = [1, 1.2, 1.5, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 10];
const SHORTEST_S = 0.02;

/** Return the least round number of seconds that `seconds` fit into. */
export function niceEnd(seconds) {
  const least = Math.max(seconds, SHORTEST_S);
  const ten = 10 ** Math.floor(Math.log10(least) + 1e-9);
  const end = ENDS.find((each) => each * ten >= least * (1 - 1e-9));
  return tidy((end ?? 10) * ten);
}

/** Return the ticks of an axis from 0 to `end` seconds: round, and no more than there is room for. */
export function ticks(end, most) {
  const step = tickStep(end, most);
  const count = Math.floor(end / step + 1e-6);
  return Array.from({ length: count + 1 }, (_, index) => tidy(index * step));
}

/** Return the step of such an axis, in seconds. */
export function tickStep(end, most) {
  const least = end / Math.max(1, most);
  const ten = 10 ** Math.floor(Math.log10(least) + 1e-9);
  return tidy((STEPS.find((each) => each * ten >= least * (1 - 1e-9)) ?? 10) * ten);
}

/** Return what stands at a tick: all of an axis have one unit, and as many digits as their step needs. */
export function tickText(seconds, step) {
  if (seconds === 0) return "0";
  if (step < 0.1) return `${tidy(seconds * 1000)}\u00a0ms`;
  const digits = step >= 1 ? 0 : 1;
  return `${seconds.toFixed(digits)}\u00a0s`;
}

/** Return a length of time as three digits, or so, and its unit. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return "–";
  const ms = seconds * 1000;
  if (ms < 0.05) return "0\u00a0ms";
  if (ms < 9.95) return `${ms.toFixed(1)}\u00a0ms`;
  if (ms < 999.5) return `${Math.round(ms)}\u00a0ms`;
  if (seconds < 9.995) return `${seconds.toFixed(2)}\u00a0s`;
  if (seconds < 119.95) return `${seconds.toFixed(1)}\u00a0s`;
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)}\u00a0min\u00a0${String(whole % 60).padStart(2, "0")}\u00a0s`;
}

/** Return a share of a whole as per cent; a little is never nothing, and almost all never all. */
export function percent(share) {
  const hundredths = share * 100;
  if (hundredths > 0 && hundredths < 1) return "<\u20091\u00a0%";
  if (hundredths < 100 && hundredths > 99) return ">\u200999\u00a0%";
  return `${Math.round(hundredths)}\u00a0%`;
}

/**
 * Return where a bar's figure goes: "after" its end if there is room, else "before" its start, else "inside".
 * All in pixels of the track.
 */
export function labelSide(from, to, track, label) {
  if (track - to >= label) return "after";
  return from >= label ? "before" : "inside";
}

/** Return how far the drawn end of the axis goes towards the wanted one in `dt` seconds; it arrives, and only grows. */
export function eased(drawn, wanted, dt) {
  const next = wanted - (wanted - drawn) * Math.exp(-dt * 9);
  return Math.abs(wanted - next) < wanted * 0.002 ? wanted : next;
}

function tidy(value) {
  return Number(value.toPrecision(12));
}
