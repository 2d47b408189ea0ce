// The chat: a question goes out, its answer grows; and what the reader can do about both.

import { Messages } from "./messages.js";
import { Talk } from "./talk.js";
import { mark, say } from "./dom.js";
import { randomName, tab } from "./store.js";
import { clockTime, language, onSpeak, t } from "./words.js";

const IME_KEY = 229;
/** Refusals of what was typed: it goes back to where it can be changed. */
const OF_THE_TEXT = new Set(["message_empty", "message_too_long", "body_too_large", "invalid_request"]);

export class Chat {
  /**
   * @param parts the elements, by name
   * @param show is given the turn to draw
   */
  constructor(parts, show) {
    this.parts = parts;
    this.show = show;
    this.messages = new Messages({ ...parts, show: (turn) => show(() => turn) });
    this.notice = null;
    this.stopping = false;
    this.talk = new Talk({ options: () => this.options(), tell: this.#hears(), memory: tab });
    this.#fields();
    this.#buttons();
    onSpeak(() => this.#words());
  }

  /** Return what a request needs to know. */
  options() {
    const { token, pageKey, keepOn } = this.parts;
    return { token: token.value.trim(), page: pageKey.value, language: language(), keepsOn: keepOn.checked };
  }

  /** Begin: with the token of last time, else when one is known. */
  start() {
    if (this.parts.token.value) this.#open();
    this.parts.ask.focus({ preventScroll: true });
  }

  /** The server is there again: read what could not be read. */
  back() {
    if (this.parts.token.value && !this.opened && !this.talk.busy) this.#open();
    else if (this.notice?.code === "unreachable" && !this.notice.retry) this.#tell(null);
  }

  #open() {
    this.opened = false;
    return this.talk.open();
  }

  /** Take the token that everybody may use, if there is none yet. */
  offer(token) {
    if (this.parts.token.value || this.parts.token === document.activeElement) return;
    this.parts.token.value = token;
    this.#tokenChanged();
  }

  #hears() {
    return {
      busy: (is) => this.#busy(is),
      messages: (messages) => this.#filled(messages),
      turn: (turn) => this.#grows(turn),
      broken: () => this.messages.last?.wait(),
      over: (turn) => this.#over(turn),
      refused: (error, question) => this.#refused(error, question),
    };
  }

  #fields() {
    const { token, pageKey, keepOn, ask } = this.parts;
    token.value = tab.get("token", "");
    pageKey.value = tab.get("page") ?? this.#newPage();
    keepOn.checked = tab.get("keepOn", false);
    ask.value = tab.get("draft", "");
    token.addEventListener("change", () => this.#tokenChanged());
    pageKey.addEventListener("change", () => this.#turnTo(pageKey.value.trim() || this.#newPage()));
    keepOn.addEventListener("change", () => tab.set("keepOn", keepOn.checked));
    ask.addEventListener("input", () => this.#typed());
    ask.addEventListener("keydown", (event) => this.#key(event));
    this.#typed();
  }

  #buttons() {
    const { form, stop, newChat, retry, dismiss } = this.parts;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    stop.addEventListener("click", () => this.#stop());
    newChat.addEventListener("click", () => this.#turnTo(this.#newPage()));
    retry.addEventListener("click", () => this.#retry());
    dismiss.addEventListener("click", () => {
      this.#tell(null);
      this.parts.ask.focus();
    });
  }

  #newPage() {
    const page = `console-${randomName(8)}`;
    tab.set("page", page);
    return page;
  }

  #turnTo(page) {
    this.parts.pageKey.value = page;
    tab.set("page", page);
    this.messages.clear();
    this.#tell(null);
    this.show(null);
    this.#open();
    this.parts.ask.focus();
  }

  #tokenChanged() {
    const { token } = this.parts;
    tab.set("token", token.value.trim() || null);
    mark(token, "aria-invalid", null);
    if (this.notice?.retry) return; // the question waits here for its retry, under the new token
    this.#tell(null);
    if (token.value.trim() && !this.talk.busy) this.#open();
  }

  #typed() {
    const { ask } = this.parts;
    tab.set("draft", ask.value || null);
    // As high as its text; CSS says what is too high.
    ask.style.height = "auto";
    ask.style.height = `${ask.scrollHeight + 2}px`;
  }

  /** Enter sends, but not the Enter that ends a conversion from kana. */
  #key(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === IME_KEY) return;
    event.preventDefault();
    this.#send();
  }

  #send() {
    const { ask } = this.parts;
    const message = ask.value.trim();
    if (!message || this.talk.busy) return;
    ask.value = "";
    this.#typed();
    this.#tell(null);
    this.messages.ask(message);
    this.messages.begin();
    this.talk.ask(message);
    this.show(() => this.talk.turn);
  }

  #retry() {
    if (this.talk.busy) return;
    this.#tell(null);
    this.#typed();
    this.messages.takeBack();
    this.messages.begin();
    this.talk.ask(null, true);
    this.show(() => this.talk.turn);
    this.parts.stop.focus();
  }

  /** Stop, once; the button stays as it is, for a disabled one would lose the focus. */
  #stop() {
    if (this.stopping) return;
    this.stopping = true;
    this.#words();
    this.talk.stop();
  }

  #busy(is) {
    const { send, stop, newChat, pageKey, ask } = this.parts;
    const had = document.activeElement;
    send.hidden = is;
    stop.hidden = !is;
    this.stopping = false;
    this.#words();
    newChat.disabled = pageKey.readOnly = is;
    if (is && had === send) stop.focus();
    if (!is && had === stop) ask.focus();
  }

  #filled(messages) {
    this.opened = true;
    if (this.notice?.code === "unreachable") this.#tell(null);
    this.messages.fill(messages);
  }

  /** Show a turn's progress; of one that was come back to, its question too. */
  #grows(turn) {
    if (!this.messages.last) {
      const asked = this.messages.newestQuestion;
      const question = this.talk.question;
      if (question && asked?.turnId !== turn.turnId) this.messages.ask(question.message, turn.turnId);
      this.messages.begin();
      this.show(() => this.talk.turn);
    }
    this.messages.grow(turn);
  }

  #over(turn) {
    if (!turn) return this.messages.last?.settle(null, "stopped");
    this.messages.settle(turn, STATES[turn.state]);
    if (turn.error) this.#tell({ ...turn.error, traceId: turn.traceId, retry: turn.error.retryable ?? true });
  }

  #refused(error, question) {
    if (this.messages.last?.state === "streaming") this.messages.settle(null, "failed");
    const { ask, token } = this.parts;
    if (question && !this.messages.last) this.#asked(question);
    if (question && error.status && !ask.value) tab.set("draft", question.message); // the server has not kept it
    if (OF_THE_TEXT.has(error.code) && question && !ask.value) {
      this.messages.takeBack();
      ask.value = question.message;
      this.#typed();
    }
    if (error.code === "unauthenticated") mark(token, "aria-invalid", "true");
    const sentence = [OURS[error.code] ? t(OURS[error.code]) : error.sentence, ...error.errors].filter(Boolean).join(" ");
    this.#tell({
      code: error.code,
      sentence: sentence || t("err_unknown", { code: error.code }),
      retryAfter: error.retryAfter,
      traceId: error.traceId,
      retry: Boolean(question) && !OF_THE_TEXT.has(error.code),
    });
  }

  /** Show a question of before a reload, if the history has not. */
  #asked({ message, turnId }) {
    const newest = this.messages.newestQuestion;
    const same = newest?.turnId && turnId ? newest.turnId === turnId : newest?.text === message;
    if (!same) this.messages.ask(message, turnId);
  }

  /** Say what went wrong, and when it is worth trying again; null takes it away. */
  #tell(notice) {
    clearInterval(this.counting);
    this.notice = notice && { ...notice, until: notice.retryAfter ? Date.now() + notice.retryAfter * 1000 : null };
    this.parts.noticeBox.hidden = !notice;
    this.#words();
    if (this.notice?.until) this.counting = setInterval(() => this.#countdown(), 500);
  }

  #words() {
    const { notice, parts } = this;
    say(parts.stop, t(this.stopping ? "stopping" : "stop"));
    mark(parts.stop, "aria-disabled", this.stopping ? "true" : null);
    const when = notice?.until && t("again_at", { time: clockTime(notice.until) });
    say(parts.notice, notice ? [notice.sentence, when].filter(Boolean).join(" ") : "");
    say(parts.noticeTrace, notice?.traceId ? t("trace_of_error", { trace: notice.traceId }) : "");
    parts.retry.hidden = !notice?.retry;
    this.#countdown();
  }

  #countdown() {
    const left = Math.ceil(((this.notice?.until ?? 0) - Date.now()) / 1000);
    say(this.parts.retry, left > 0 ? t("retry_in", { seconds: left }) : t("retry"));
    if (left <= 0) clearInterval(this.counting);
  }
}

const STATES = { done: "done", failed: "failed", stopped: "stopped", cut: "partial" };
/** What we say better than the server, which does not know where its words are read. */
const OURS = {
  unreachable: "err_unreachable",
  broken: "err_broken",
  lost: "err_lost",
  unauthenticated: "err_unauthenticated",
};
