// The model limiter: how full it is, how that was over the last two minutes, and how large it shall be.

import { Refusal, changeLimiter } from "./api.js";
import { duration } from "./axis.js";
import { el, mark, say } from "./dom.js";
import { areaPath, ceiling, recent, stepPath } from "./sparkline.js";
import { clockTime, orAsIs, t } from "./words.js";

const SPAN_S = 120;
const BOX = { width: 600, height: 96 };
const SHOWN_CHANGES = 4;
const now = () => performance.now() / 1000;

export class Limiter {
  /**
   * @param root the card; its parts are found by `data-part`
   * @param asker gives the options of a request
   */
  constructor(root, asker) {
    this.root = root;
    this.asker = asker;
    this.samples = [];
    this.state = null;
    this.wish = null;
    this.sent = Promise.resolve();
    this.changedAt = 0;
    this.touched = new Set();
    for (const part of root.querySelectorAll("[data-part]")) this[part.dataset.part] = part;
    for (const field of [this.size, this.min, this.max]) field.addEventListener("input", () => this.#touch(field));
    this.fewer.addEventListener("click", () => this.#step(-1));
    this.more.addEventListener("click", () => this.#step(1));
    this.form.addEventListener("submit", (event) => this.#apply(event));
    this.adaptive.addEventListener("click", () => this.#switch());
  }

  /** Take the limiter as the server says it is; an answer to a question from before the last change is old. */
  take(state, askedAt = now()) {
    if (this.wish || askedAt < this.changedAt) return;
    this.state = state;
    this.samples = recent([...this.samples, sampleOf(state)], now(), SPAN_S);
    this.draw();
  }

  draw() {
    if (!this.state) return;
    this.#figures(this.state);
    this.#fields({ ...this.state, ...this.wish });
    this.#chart();
    this.#changes(this.state.changes);
  }

  #figures({ total_tokens: total, borrowed, waiting, oldest_wait_seconds: wait, last_minute: minute }) {
    say(this.total, String(total));
    say(this.borrowed, String(borrowed));
    say(this.waiting, String(waiting));
    say(this.wait, waiting ? duration(wait) : "–");
    say(this.p95, t("lim_p95", { time: duration(minute.wait_p95_seconds) }));
  }

  /** Fill in what nobody is changing. */
  #fields({ total_tokens: total, mode, min, max }) {
    const adaptive = mode === "adaptive";
    mark(this.adaptive, "aria-checked", adaptive);
    for (const each of [this.size, this.fewer, this.more]) each.disabled = adaptive;
    if (adaptive) this.touched.delete(this.size);
    for (const [field, value] of [[this.size, total], [this.min, min], [this.max, max]]) {
      if (!this.touched.has(field) && document.activeElement !== field) field.value = value;
    }
  }

  #touch(field) {
    this.touched.add(field);
    this.#said("");
  }

  #step(by) {
    this.size.value = Math.max(1, (Number(this.size.value) || 0) + by);
    this.#touch(this.size);
  }

  #apply(event) {
    event.preventDefault();
    const bounds = { min: wholeOf(this.min), max: wholeOf(this.max) };
    const touched = [this.min, this.max].some((field) => this.touched.has(field));
    if (this.state?.mode === "adaptive") this.#send(bounds);
    else this.#send({ total_tokens: wholeOf(this.size), ...(touched && bounds) });
  }

  #switch() {
    const on = this.adaptive.getAttribute("aria-checked") !== "true";
    const bounds = { min: wholeOf(this.min), max: wholeOf(this.max) };
    this.#send(on ? { mode: "adaptive", ...bounds } : { mode: "fixed" });
  }

  /** Send one wish after the other. */
  #send(wish) {
    this.sent = this.sent.then(() => this.#sendNow(wish));
  }

  /** Show the wish in its fields at once, send it, and show what the server made of it. */
  async #sendNow(wish) {
    if (!this.state) return;
    this.#said("");
    this.root.classList.add("is-pending");
    this.wish = wish;
    this.touched.clear();
    this.draw();
    try {
      this.state = await changeLimiter({ ...wish, who: "console", why: this.why.value.trim() }, this.asker());
      this.why.value = "";
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      this.#said(sentenceOf(error));
    } finally {
      this.wish = null;
      this.changedAt = now();
      this.root.classList.remove("is-pending");
    }
    this.take(this.state);
  }

  #said(text) {
    say(this.error, text);
    this.error.hidden = !text;
  }

  #chart() {
    const samples = recent(this.samples, now(), SPAN_S);
    if (!samples.length) return;
    const top = ceiling(samples.flatMap(({ total, used, waiting }) => [total, used, waiting]));
    const box = { ...BOX, now: now(), span: SPAN_S, top };
    mark(this.usedArea, "d", areaPath(samples, (sample) => sample.used, box));
    mark(this.usedLine, "d", stepPath(samples, (sample) => sample.used, box));
    mark(this.waitingLine, "d", stepPath(samples, (sample) => sample.waiting, box));
    mark(this.totalLine, "d", stepPath(samples, (sample) => sample.total, box));
    say(this.top, String(top));
    const last = samples.at(-1);
    const most = Math.max(...samples.map((sample) => sample.waiting));
    mark(this.chart, "aria-label", t("lim_chart", { ...last, most }));
  }

  #changes(changes) {
    const newest = changes.slice(-SHOWN_CHANGES).reverse();
    const told = JSON.stringify([newest, t("changes")]);
    if (this.told === told) return;
    this.told = told;
    this.changes.replaceChildren(...(newest.length ? newest.map(changeLine) : [el("li", { class: "quiet" }, t("no_changes"))]));
  }
}

function sampleOf({ total_tokens: total, borrowed: used, waiting }) {
  return { at: now(), total, used, waiting };
}

/** Return a field's number; what is none is sent as it is, for the server to say what is wrong. */
function wholeOf(field) {
  const number = Number(field.value);
  return field.value.trim() === "" || Number.isNaN(number) ? field.value : number;
}

function sentenceOf(error) {
  if (error.code === "unreachable") return t("err_unreachable");
  return [...error.errors].join(" ") || error.sentence || t("err_unknown", { code: error.code });
}

function changeLine({ at, before, after, reason, mode, who, why, times }) {
  const words = [before === after && orAsIs("mode_", mode), orAsIs("reason_", reason), who && t("by", { who }), why, times > 1 && t("change_times", { times })];
  return el(
    "li",
    {},
    el("time", { datetime: at, class: "figure quiet" }, clockTime(at)),
    el("span", { class: "figure" }, t("change", { before, after })),
    el("span", { class: "quiet" }, words.filter(Boolean).join(" · ")),
  );
}
