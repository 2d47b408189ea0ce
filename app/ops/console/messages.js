// The messages of a chat as elements. An answer is drawn at most once a frame, and less often when that is slow.

import { duration } from "./axis.js";
import { el, mark, say } from "./dom.js";
import { showMarkdown } from "./markdown.js";
import { textOf } from "./talk.js";
import { onSpeak, orAsIs, t } from "./words.js";

/** Drawing may take this share of the time. */
const SHARE = 0.25;
const NEAR_END_PX = 48;

export class Messages {
  /**
   * @param log the list of messages, which scrolls
   * @param announcer is read out when an answer is complete
   * @param show is given the turn that is to be drawn large
   */
  constructor({ log, empty, announcer, show }) {
    Object.assign(this, { log, empty, announcer, show });
    this.drawn = [];
    this.last = null;
    this.frame = 0;
    this.notBefore = 0;
    onSpeak(() => this.drawn.forEach((message) => message.words()));
  }

  clear() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    for (const { element } of this.drawn) element.remove();
    this.drawn = [];
    this.last = null;
    this.empty.hidden = false;
  }

  /** Show a page's history. */
  fill(messages) {
    mark(this.log, "aria-busy", "true");
    this.clear();
    for (const message of messages) {
      if (message.role === "user") this.ask(textOf(message), message.metadata?.turn_id);
      else this.#stored(message);
    }
    this.last = null;
    this.#toEnd(true);
    mark(this.log, "aria-busy", null);
  }

  /** Show a question; returns its turn's id, if that is known. */
  ask(text, turnId = null) {
    const name = el("h3", { class: "unseen" });
    const element = el("article", { class: "message user", "data-testid": "message-user" }, name, el("div", { "data-testid": "question" }, text));
    this.#add({ element, turnId, text, role: "user", words: () => say(name, t("you")) });
  }

  /** Begin an answer. */
  begin() {
    const answer = new Answer((turn) => this.show(turn));
    this.#add(answer);
    this.last = answer;
    return answer;
  }

  /** Return the newest question: its text, and its turn's id if that is known. */
  get newestQuestion() {
    return this.drawn.findLast((message) => message.role === "user") ?? null;
  }

  /** Take the newest answer away: it is asked for again. */
  takeBack() {
    if (!this.last) return;
    this.last.element.remove();
    this.drawn = this.drawn.filter((message) => message !== this.last);
    this.last = null;
  }

  /** Show how far the answer is, with the next frame. */
  grow(turn) {
    this.pending = turn;
    if (!this.frame) this.frame = requestAnimationFrame(() => this.#draw());
  }

  /** Show the answer as it stays, now. */
  settle(turn, state) {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    const atEnd = this.#isAtEnd();
    this.last?.settle(turn, state);
    this.#toEnd(atEnd);
    const text = this.last?.answer.textContent ?? "";
    const told = state === "done" ? t("answer_done", { text }) : t(endOf(state, text));
    say(this.announcer, told);
  }

  #draw() {
    this.frame = 0;
    const began = performance.now();
    if (began < this.notBefore) {
      this.frame = requestAnimationFrame(() => this.#draw());
      return;
    }
    const atEnd = this.#isAtEnd();
    this.last?.grow(this.pending);
    this.#toEnd(atEnd);
    const took = performance.now() - began;
    this.notBefore = began + took / SHARE;
  }

  #stored(message) {
    const answer = new Answer((turn) => this.show(turn));
    const whole = ["stop", "length", undefined].includes(message.metadata?.finish);
    answer.turnId = message.metadata?.turn_id ?? null;
    answer.text(textOf(message));
    answer.settle(null, whole ? "done" : "partial");
    this.#add(answer);
  }

  #add(message) {
    this.empty.hidden = true;
    const atEnd = this.#isAtEnd();
    this.drawn.push(message);
    message.words();
    this.log.append(message.element);
    this.#toEnd(atEnd || message.role === "user");
  }

  #isAtEnd() {
    return this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < NEAR_END_PX;
  }

  #toEnd(wanted) {
    if (wanted) this.log.scrollTop = this.log.scrollHeight;
  }
}

/** Return the sentence for an answer that is not whole: one of which something came is not none. */
const endOf = (state, text) => `answer_${state === "failed" && text ? "partial" : state}`;

/** One answer: its text, what it waits for, and what is to be said of it. */
class Answer {
  constructor(show) {
    this.role = "assistant";
    this.turn = null;
    this.turnId = null;
    this.state = "streaming";
    this.name = el("h3", { class: "unseen" });
    this.answer = el("div", { class: "answer", "data-testid": "answer", "aria-live": "off" });
    this.status = el("p", { class: "status" });
    this.figures = el("button", { type: "button", class: "took figure", hidden: "", onclick: () => show(this.turn) });
    this.notes = el("span", { class: "notes" });
    this.about = el("div", { class: "about" }, this.figures, this.notes);
    this.element = el(
      "article",
      { class: "message assistant", "data-testid": "message-assistant", "data-state": this.state, "aria-busy": "true" },
      this.name,
      this.answer,
      this.status,
      this.about,
    );
  }

  text(text) {
    showMarkdown(this.answer, text);
  }

  /** Show the turn as far as it is. */
  grow(turn) {
    this.turn = turn;
    this.turnId = turn.turnId ?? this.turnId;
    this.text(turn.text);
    this.words();
  }

  /** Show the turn as it ended: done, stopped, failed, or partial. */
  settle(turn, state) {
    if (turn) this.grow(turn);
    this.state = state;
    mark(this.element, "data-state", state);
    mark(this.element, "aria-busy", null);
    this.words();
  }

  /** Say that the line broke, and that it is being looked for. */
  wait() {
    say(this.status, t("reconnecting"));
  }

  words() {
    say(this.name, t("tutor"));
    say(this.status, this.#status());
    this.status.hidden = !this.status.textContent;
    this.#figures();
    say(this.notes, this.#notes().join(" · "));
    this.about.hidden = this.figures.hidden && !this.notes.textContent;
  }

  #status() {
    if (this.state === "done") return "";
    if (this.state !== "streaming") return t(endOf(this.state, this.answer.textContent));
    const turn = this.turn;
    if (turn?.queue) {
      const { position, wait } = turn.queue;
      return t(position > 1 ? "waiting_queue" : "waiting_next", { position, wait: duration(wait) });
    }
    if (turn?.text) return "";
    return t(turn?.stages.some(({ stage }) => stage === "llm") ? "waiting_model" : "waiting_first");
  }

  #figures() {
    const { turn, figures } = this;
    figures.hidden = this.state === "streaming" || !turn?.total;
    if (figures.hidden) return;
    const total = duration(turn.total);
    const took = turn.firstToken === null ? t("took_total", { total }) : t("took", { total, first: duration(turn.firstToken) });
    say(figures, took);
    mark(figures, "title", t("show_turn"));
  }

  #notes() {
    const { fallback, saved, replayed, warnings } = this.turn ?? {};
    const told = [
      fallback && orAsIs("fallback_", fallback),
      saved && saved !== "database" && orAsIs("saved_", saved),
      replayed && t("replayed"),
      ...(warnings ?? []).filter(({ code }) => !SAID_OTHERWISE.has(code)).map(({ detail }) => detail),
    ];
    return told.filter(Boolean);
  }
}

/** Warnings that `fallback` and `saved` say in fewer words. */
const SAID_OTHERWISE = new Set(["fallback", "save_deferred"]);
