// The slowest of the last turns: each drawn small, all on one axis, so that a slow one is seen to be long.

import { duration, niceEnd, tickStep, tickText, ticks } from "./axis.js";
import { copy, el, keep, mark, say } from "./dom.js";
import { path, viewOfRecent } from "./view.js";
import { clockTime, outcomeWord, surfaceWord, t } from "./words.js";

const TICK_ROOM_PX = 64;
/** How an outcome looks without its colour. */
const SHAPES = { ok: "●", degraded: "◐", cancelled: "◼" };

export class Recent {
  /** @param show is given the view of the turn that was chosen, and its id here */
  constructor({ list, axis, empty, note, show }) {
    Object.assign(this, { list, axis, empty, note, show });
    this.turns = [];
    this.considered = 0;
    this.shown = null;
  }

  /** Take what the server says. */
  take({ considered, slowest }) {
    this.turns = slowest.map((turn) => ({ turn, view: viewOfRecent(turn) }));
    this.considered = considered;
    this.draw();
  }

  /** Mark the turn that the waterfall shows. */
  choose(id) {
    this.shown = id;
    this.draw();
  }

  draw() {
    const end = niceEnd(Math.max(0, ...this.turns.map(({ view }) => view.total)));
    this.empty.hidden = this.turns.length > 0;
    this.axis.hidden = this.turns.length === 0;
    say(this.note, this.#note(this.turns.length, this.considered));
    this.#axis(end);
    const lines = keep(this.list, this.turns, ({ turn }) => idOf(turn), ({ turn, view }) => this.#line(turn, view));
    lines.forEach((line, index) => this.#drawn(line, this.turns[index], end));
  }

  #note(shown, considered) {
    if (!shown) return "";
    return t(shown < considered ? "recent_note" : "recent_all", { shown, considered });
  }

  #axis(end) {
    const most = Math.max(2, Math.floor(this.axis.clientWidth / TICK_ROOM_PX));
    const all = ticks(end, most);
    const step = tickStep(end, most);
    const labels = keep(this.axis, all, (at) => at, () => el("span", { class: "tick" }));
    all.forEach((at, index) => {
      labels[index].style.left = `${(at / end) * 100}%`;
      labels[index].classList.toggle("at-end", at / end > 0.95);
      say(labels[index], tickText(at, step));
    });
  }

  #line(turn, view) {
    const open = el(
      "button",
      { type: "button", class: "turn", "data-testid": "recent-turn", "data-trace-id": turn.trace_id, onclick: () => this.show(view, idOf(turn)) },
      el("span", { class: "outcome" }),
      el("span", { class: "time figure" }),
      el("span", { class: "track", "aria-hidden": "true" }),
      el("span", { class: "about" }),
    );
    const trace = el("button", { type: "button", class: "copy quiet" });
    trace.addEventListener("click", async () => {
      const done = await copy(turn.trace_id);
      trace.dataset.said = done ? "copied" : "not_copied";
      say(trace, t(trace.dataset.said));
      setTimeout(() => {
        delete trace.dataset.said;
        this.draw();
      }, 1500);
    });
    return el("li", {}, open, trace);
  }

  #drawn(line, { turn, view }, end) {
    const [open, trace] = line.children;
    const [outcome, time, track, about] = open.children;
    mark(open, "aria-current", this.shown === idOf(turn) ? "true" : null);
    mark(outcome, "data-outcome", kindOf(turn.outcome));
    say(outcome, `${SHAPES[turn.outcome] ?? "✕"} ${outcomeWord(turn.outcome)}`);
    say(time, duration(view.total));
    say(about, [surfaceWord(turn.surface), t(`plan_${turn.plan}`), clockTime(turn.ended_at)].join(" · "));
    if (!trace.dataset.said) say(trace, turn.trace_id.slice(0, 8));
    mark(trace, "aria-label", t("copy_trace_of", { trace: turn.trace_id.slice(0, 8) }));
    mark(trace, "title", turn.trace_id);
    const pieces = path(view);
    const shown = keep(track, pieces, (piece) => `${piece.kind} ${piece.from}`, (piece) => el("i", { class: `part ${piece.kind}` }));
    pieces.forEach((piece, index) => {
      shown[index].style.left = `${(piece.from / end) * 100}%`;
      shown[index].style.width = `${((piece.to - piece.from) / end) * 100}%`;
    });
  }
}

/** A turn that is asked for again keeps its id, and is in the list twice. */
const idOf = (turn) => `${turn.trace_id} ${turn.ended_at}`;
const kindOf = (outcome) => ({ ok: "ok", degraded: "degraded", cancelled: "cancelled" })[outcome] ?? "failed";
