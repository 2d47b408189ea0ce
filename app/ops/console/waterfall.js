// The waterfall: one turn's stages as bars on one axis of time, drawn anew with each frame while the turn runs.
//
// A name column, one axis with round ticks, thin bars, each with its length at its end. The axis grows in round steps
// and slides there; a bar only grows, and takes its exact place when its stage has ended.

import { duration, eased, labelSide, niceEnd, tickStep, tickText, ticks } from "./axis.js";
import { el, keep, mark, say } from "./dom.js";
import { path, rows, spent } from "./view.js";
import { stageName, t, whereTimeWent } from "./words.js";

const TICK_ROOM_PX = 64;
const DIGIT_PX = 7;
const WIDE_PX = 12;
const AIR_PX = 12;
const LENGTH_PX = 56;
const LENGTH_AND_WORD_PX = 124;
/** A turn has at least this share of the axis, however narrow. */
const LEAST_SHARE = 0.55;
const STEP_MS = 250; // for who wants no motion
const still = matchMedia("(prefers-reduced-motion: reduce)");

export class Waterfall {
  /**
   * @param root the element with the parts that are named below, by `data-part`
   * @param traced is told of the drawn turn's trace, an empty one when there is none
   */
  constructor(root, traced) {
    Object.assign(this, { root, traced, trace: null });
    for (const part of root.querySelectorAll("[data-part]")) this[part.dataset.part] = part;
    this.source = null;
    this.end = 1;
    this.drawnAt = 0;
    this.width = 0;
    this.frame = this.timer = 0;
    this.told = "";
    new ResizeObserver(() => this.#measure()).observe(this.axis);
    this.#measure();
    this.draw();
  }

  /** Show what `source()` gives, a view or null; follow it as long as it runs. `anew`: it is another turn's. */
  show(source, anew = true) {
    this.source = source;
    if (anew) {
      this.end = this.#endFor(source?.());
      this.told = "";
    }
    this.draw();
  }

  /** Draw now; and with the next frame again, if something moves. */
  draw() {
    cancelAnimationFrame(this.frame);
    clearTimeout(this.timer);
    const view = this.source?.() ?? null;
    this.#state(view);
    if (view) this.#drawn(view);
    else this.#axis(this.end);
  }

  #drawn(view) {
    const running = view.state === "running";
    const wanted = Math.max(this.#endFor(view), running ? this.end : 0);
    const moves = this.#slide(wanted, view.total ?? 0);
    this.#axis(this.end);
    this.#bars(view);
    this.#turn(view);
    this.#first(view);
    this.#figures(view);
    if (running && still.matches) this.timer = setTimeout(() => this.draw(), STEP_MS);
    else if (running || moves) this.frame = requestAnimationFrame(() => this.draw());
  }

  /** Return a round end that leaves room for the figure of a bar as long as the turn. */
  #endFor(view) {
    const room = view?.state === "running" || view?.state === "done" ? LENGTH_PX : LENGTH_AND_WORD_PX;
    return niceEnd((view?.total || 0.8) / Math.max(LEAST_SHARE, 1 - room / Math.max(1, this.width)));
  }

  /** Move the drawn end of the axis towards the wanted one, never short of `least`; tells whether it is on its way. */
  #slide(wanted, least) {
    const now = performance.now() / 1000;
    const dt = Math.min(0.1, now - this.drawnAt);
    this.drawnAt = now;
    this.end = still.matches ? wanted : Math.max(least, eased(this.end, wanted, dt));
    return this.end !== wanted;
  }

  #measure() {
    this.width = this.axis.clientWidth;
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.draw());
  }

  #state(view) {
    mark(this.root, "data-state", STATES[view?.state] ?? "empty");
    mark(this.root, "data-trace-id", view?.traceId ?? null);
    if (this.trace !== (view?.traceId ?? "")) this.traced((this.trace = view?.traceId ?? ""));
    this.empty.hidden = view !== null;
    this.chart.classList.toggle("is-empty", view === null);
    this.footer.hidden = view === null;
    if (!view) {
      say(this.stateWord, t("turn_empty"));
      for (const part of [this.rows, this.path]) part.replaceChildren();
      for (const part of [this.total, this.token]) say(part, "–");
      this.first.hidden = true;
    }
  }

  #axis(end) {
    const most = Math.max(2, Math.floor(this.width / TICK_ROOM_PX));
    const all = ticks(end, most);
    const step = tickStep(end, most);
    mark(this.axis, "data-end", end);
    const labels = keep(this.axis, all, (at) => at, () => el("span", { class: "tick" }));
    const lines = keep(this.lines, all, (at) => at, () => el("i", { class: "grid" }));
    all.forEach((at, index) => {
      const left = share(at, end);
      labels[index].style.left = lines[index].style.left = left;
      labels[index].classList.toggle("at-end", at / end > 0.97);
      say(labels[index], tickText(at, step));
    });
  }

  #bars(view) {
    const shown = rows(view);
    const lines = keep(this.rows, shown, (row) => row.stage, newRow);
    lines.forEach((line, index) => drawRow(line, shown[index], view, this.end, this.width));
  }

  #turn(view) {
    const pieces = path(view);
    const shown = keep(this.path, pieces, (piece) => `${piece.kind} ${piece.from}`, () => el("i"));
    pieces.forEach((piece, index) => place(shown[index], piece, this.end, `part ${piece.kind}`));
  }

  /** Mark the first token by a line through all rows, with its time under them. */
  #first(view) {
    const at = view.firstToken;
    this.first.hidden = at === null;
    if (at === null) return;
    this.first.style.left = share(at, this.end);
    const text = t("first_token_at", { time: duration(at) });
    say(this.firstText, text);
    mark(this.firstText, "data-seconds", at);
    const x = (at / this.end) * this.width;
    this.first.classList.toggle("to-left", x + widthOf(text) > this.width);
  }

  #figures(view) {
    say(this.total, duration(view.total));
    mark(this.total, "data-seconds", view.total);
    say(this.token, duration(view.firstToken));
    const told = JSON.stringify([view.state, view.traceId, view.stages.map(({ stage, state }) => [stage, state]), t("stage")]);
    if (told === this.told) return;
    this.told = told;
    this.#words(view);
  }

  /** What is written, not drawn: only when a stage begins or ends. */
  #words(view) {
    const running = view.state === "running";
    say(this.stateWord, t(`turn_${STATES[view.state]}`));
    const sums = running ? null : whereTimeWent(spent(view), view.total, view.state);
    say(this.sentence, sums ?? t("turn_going_on"));
    const cells = rows(view).map((row) => [
      stageName(row.stage),
      duration(row.at),
      row.state === "running" ? "" : duration(row.end - row.at),
      t(`state_${row.state}`),
    ]);
    this.table.replaceChildren(
      ...cells.map(([name, ...rest]) =>
        el("tr", {}, el("th", { scope: "row" }, name), ...rest.map((text) => el("td", {}, text))),
      ),
    );
  }
}

const STATES = { running: "running", done: "done", failed: "failed", stopped: "stopped", cut: "failed" };

function newRow(row) {
  return el(
    "div",
    { class: "row", "data-testid": "bar", "data-stage": row.stage },
    el("span", { class: "name" }),
    el("div", { class: "track" }, el("div", { class: "fill", "data-testid": "bar-fill" }), el("span", { class: "length" })),
  );
}

function drawRow(line, row, view, end, width) {
  const [name, track] = line.children;
  const [fill, length] = track.children;
  mark(line, "data-state", row.state);
  mark(line, "data-at", row.at);
  mark(line, "data-seconds", row.state === "running" ? null : tidy(row.end - row.at));
  mark(line, "data-depth", row.depth);
  say(name, stageName(row.stage));
  place(fill, { from: row.at, to: row.end }, end, `fill ${row.kind}`);
  const parts = keep(fill, row.parts, (part) => `${part.kind} ${part.from}`, () => el("i"));
  const whole = Math.max(row.end - row.at, 1e-9);
  row.parts.forEach((part, index) => {
    parts[index].className = `part ${part.kind}`;
    parts[index].style.left = share(part.from - row.at, whole);
    parts[index].style.width = share(part.to - part.from, whole);
  });
  drawLength(length, row, view, end, width);
}

/** Write a bar's length at its end, or where there is room. */
function drawLength(length, row, view, end, width) {
  const failed = row.state === "failed";
  const [shape, word] = view.state === "stopped" ? ["◼", t("state_stopped")] : ["✕", t("state_failed")];
  const time = duration(row.end - row.at);
  const [from, to] = [row.at, row.end].map((at) => (at / end) * width);
  const sideOf = (text) => labelSide(from, Math.max(to, from + 2), width, widthOf(text));
  const whole = failed ? `${time} ${shape} ${word}` : time;
  // Where there is no room for the word, its shape says it: a figure over its own bar would hide that.
  const text = failed && sideOf(whole) === "inside" ? `${time} ${shape}` : whole;
  const side = sideOf(text);
  say(length, text);
  length.className = `length ${side}${failed ? " failed" : ""}`;
  length.style.left = side === "before" ? share(row.at, end) : share(row.end, end);
}

function place(element, { from, to }, end, className) {
  if (element.className !== className) element.className = className;
  element.style.left = share(from, end);
  element.style.width = share(to - from, end);
}

/** Return about how wide a figure's text is, in pixels; to measure it would cost a layout with each frame. */
function widthOf(text) {
  return [...text].reduce((sum, letter) => sum + (letter > "\u2fff" ? WIDE_PX : DIGIT_PX), AIR_PX);
}

const share = (part, whole) => `${((part / whole) * 100).toFixed(4)}%`;
const tidy = (seconds) => Number(seconds.toFixed(9));
