// The words of the page, in the language that its reader chose, and how figures are put into sentences.

import { duration, percent } from "./axis.js";
import { ENGLISH } from "./english.js";
import { JAPANESE } from "./japanese.js";

export const WORDS = { en: ENGLISH, ja: JAPANESE };
export const LANGUAGES = Object.keys(WORDS);
let current = "en";
const listeners = [];

/** Return the page's language. */
export const language = () => current;

/** Take a language, and tell everybody who draws words. */
export function speak(name) {
  current = LANGUAGES.includes(name) ? name : "en";
  for (const listener of listeners) listener();
}

/** Hear of another language. */
export function onSpeak(listener) {
  listeners.push(listener);
}

/** Return a sentence, with its gaps filled. */
export function t(key, values = {}) {
  return WORDS[current][key].replace(/\{(\w+)\}/g, (_gap, name) => String(values[name]));
}

/** Return a sentence if there is one of that name; what a newer server says that this page does not know, as it is. */
export function orAsIs(prefix, name) {
  return Object.hasOwn(WORDS[current], prefix + name) ? t(prefix + name) : name;
}

export const stageName = (stage) => orAsIs("stage.", stage);
export const outcomeWord = (outcome) => orAsIs("outcome_", outcome);
export const surfaceWord = (surface) => orAsIs("surface_", surface);

/** Return a time of day. */
export function clockTime(at) {
  return new Intl.DateTimeFormat(current, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false }).format(
    new Date(at),
  );
}

const SHORTEST_TOLD_S = 0.001;
const BESIDES = ["fetch", "queue", "model", "save"];

/** Return a sentence about where a turn's time went, from the seconds by kind. */
export function whereTimeWent(sums, total, state) {
  if (state === "failed" || state === "cut") return t("went_failed", { total: duration(total) });
  if (state === "stopped") return t("went_stopped", { total: duration(total) });
  const [most, time] = Object.entries(sums).reduce((one, other) => (other[1] > one[1] ? other : one));
  const main = t(`went_${most}`, { share: percent(total ? time / total : 0), total: duration(total) });
  const besides = BESIDES.filter((kind) => kind !== most && sums[kind] >= SHORTEST_TOLD_S);
  if (!besides.length) return main + t("also_end").replace(/^）/, "");
  const told = besides.map((kind) => t(`also_${kind}`, { time: duration(sums[kind]) })).join(t("also_joint"));
  return main + t("also_start") + told + t("also_end");
}
