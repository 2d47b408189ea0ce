// A conversation over the network: asks, follows the answer, stops it, comes back to it after a break. No elements.
//
// A question has one key for all its tries, so that however often it is sent it is answered once.

import { Refusal, askQuestion, readHistory, resumeTurn, stopTurn } from "./api.js";
import { readParts } from "./stream.js";
import { randomName } from "./store.js";
import { cut, elapsed, newTurn, take } from "./turn.js";

/** Between tries to come back, in seconds; the last is for all further ones. */
const TRIES_S = [0.5, 1, 2, 4, 5];
/** How often the history is read for an answer that was being saved when the page was left. */
const LOOKS = 5;
/** After which a turn that was stopped, and does not say so, is let go. */
const STOP_PATIENCE_MS = 5_000;
/** Between tries to stop a turn that the server does not know yet, in seconds. */
const STOP_AGAIN_S = 0.25;

const seconds = () => performance.now() / 1000;
const pause = (s) => new Promise((resolve) => setTimeout(resolve, s * 1000));

export class Talk {
  /**
   * @param options gives `{page, token, language, keepsOn}` whenever it is called
   * @param tell hears of what happens: `busy`, `messages`, `turn`, `broken`, `over`, `refused`
   * @param memory keeps the running question over a reload
   */
  constructor({ options, tell, memory }) {
    Object.assign(this, { options, tell, memory });
    this.question = null;
    this.turn = null;
    this.busy = false;
    this.abort = null;
  }

  /** Ask; with `again`, the last question once more, under its key. */
  ask(message, again = false) {
    const { page, keepsOn } = this.options();
    this.question = again
      ? { ...this.question, keepsOn }
      : { message, page, keepsOn, key: randomName(32), begun: null, turnId: null };
    this.memory.set("running", this.question);
    return this.#alone(async (signal) => {
      this.turn = newTurn(-seconds(), true);
      this.#busy(true);
      const body = { message: this.question.message, page_id: this.question.page, key: this.question.key };
      body.on_disconnect = keepsOn ? "continue" : "cancel";
      try {
        await this.#follow(await askQuestion(body, this.#asker(signal)), signal);
      } catch (error) {
        if (error.code !== "turn_in_progress") throw error;
        await this.#comeBack(signal);
      }
    });
  }

  /** Stop the answer; the server ends the stream. */
  async stop() {
    const abort = this.abort;
    const page = this.question?.page ?? this.options().page;
    setTimeout(() => abort?.abort("stopped"), STOP_PATIENCE_MS);
    try {
      while (!(await stopTurn(page, this.#asker())) && this.abort === abort) await pause(STOP_AGAIN_S);
    } catch (error) {
      abort?.abort("stopped");
      this.tell.refused(error, null);
    }
  }

  /** Show a page's history, and come back to its running turn if there is one. */
  open() {
    const { page } = this.options();
    const left = this.memory.get("running");
    this.question = left?.page === page ? left : null;
    this.turn = null;
    return this.#alone(async (signal) => {
      const messages = await this.#history(signal);
      this.tell.messages(messages);
      if (await this.#resumed(signal)) return;
      if (this.question && !answerTo(this.question, messages)) await this.#lookAgain(signal);
      this.memory.set("running", null);
    });
  }

  /** Leave: whatever is under way here is nobody's any more. */
  leave() {
    this.abort?.abort(LEFT);
  }

  async #alone(work) {
    this.leave();
    const abort = new AbortController();
    this.abort = abort;
    try {
      await work(abort.signal);
    } catch (error) {
      if (abort.signal.reason !== LEFT) this.#failed(error, abort.signal);
    } finally {
      if (this.abort === abort) {
        this.abort = null;
        this.#busy(false);
      }
    }
  }

  #busy(is) {
    this.busy = is;
    this.tell.busy(is);
  }

  #asker(signal) {
    const { token, language } = this.options();
    return { token, language, signal };
  }

  /** Read a turn to its end, through breaks of the line where it goes on without us. */
  async #follow(response, signal, ahead = null) {
    this.#busy(true);
    this.turn = newTurn(ahead ?? this.turn?.ahead ?? null, ahead === null);
    try {
      await readParts(response.body, (part) => this.#part(part, signal));
    } catch (error) {
      if (signal.aborted) throw error;
    }
    if (signal.aborted) throw signal.reason;
    if (this.turn.state !== "running") return this.#ended(this.turn);
    if (!this.question?.keepsOn) {
      this.#ended(cut(this.turn));
      throw new Refusal("broken");
    }
    this.tell.broken();
    return this.#comeBack(signal);
  }

  #part(part, signal) {
    if (signal.aborted) return;
    const now = seconds();
    this.turn = take(this.turn, part, now);
    if (part.type === "start" || part.type === "data-stage") this.#remember(now);
    this.tell.turn(this.turn);
  }

  #remember(now) {
    if (!this.question) return;
    const begun = this.turn.ahead === null ? null : Date.now() / 1000 - elapsed(this.turn, now);
    this.question = { ...this.question, begun: begun ?? this.question.begun, turnId: this.turn.turnId };
    this.memory.set("running", this.question);
  }

  /** Return our guess of the server's clock less ours for a turn that began before this page did. */
  #ahead() {
    const begun = this.question?.begun;
    return begun ? Date.now() / 1000 - begun - seconds() : null;
  }

  async #resumed(signal) {
    const response = await resumeTurn(this.options().page, this.#asker(signal));
    if (!response) return false;
    await this.#follow(response, signal, this.#ahead());
    return true;
  }

  /** Try until the server is there again; then follow the turn, or show what became of it. */
  async #comeBack(signal) {
    for (let tries = 0; ; tries += 1) {
      await reachable(TRIES_S[Math.min(tries, TRIES_S.length - 1)]);
      if (signal.aborted) throw signal.reason;
      try {
        if (!(await this.#resumed(signal))) await this.#lookAgain(signal);
        return;
      } catch (error) {
        if (!(error instanceof Refusal) || !mayPass(error)) throw error;
      }
    }
  }

  /** Read the history until it has the answer, which may just be on its way there. */
  async #lookAgain(signal) {
    for (let looks = 0; looks < LOOKS; looks += 1) {
      const messages = await this.#history(signal);
      if (answerTo(this.question, messages)) {
        this.tell.messages(messages);
        this.#ended(null);
        return;
      }
      await pause(0.4 + looks * 0.4);
      if (signal.aborted) throw signal.reason;
    }
    if (this.turn) this.#ended(cut(this.turn));
    throw new Refusal("lost");
  }

  #history(signal) {
    return readHistory(this.options().page, this.#asker(signal));
  }

  #ended(turn) {
    this.turn = turn;
    if (turn?.state !== "cut") this.memory.set("running", null);
    this.tell.over(turn, this.question);
  }

  #failed(error, signal) {
    if (signal.aborted) {
      this.#ended(this.turn?.state === "running" ? { ...cut(this.turn), state: "stopped" } : null);
      return;
    }
    if (!(error instanceof Refusal)) throw error;
    if (this.turn?.state === "running") this.turn = null;
    if (!PASSING.has(error.code)) this.memory.set("running", null);
    this.tell.refused(error, this.question);
  }
}

const LEFT = "left";
/** What says nothing of the turn: it may be there still, after a reload. */
const PASSING = new Set(["unreachable", "lost", "broken"]);

const mayPass = (error) => error.code === "unreachable" || error.status >= 500 || error.status === 429;

/** Return the answer to a question among messages: by its turn, or as what follows its text at the end. */
function answerTo(question, messages) {
  if (!question) return null;
  const answers = messages.filter((message) => message.role === "assistant");
  if (question.turnId) return answers.find((message) => message.metadata?.turn_id === question.turnId) ?? null;
  const [asked, answer] = messages.slice(-2);
  const isIt = asked?.role === "user" && textOf(asked) === question.message && answer?.role === "assistant";
  return isIt ? answer : null;
}

/** Return a stored message's text. */
export function textOf(message) {
  return message.parts.filter((part) => part.type === "text").map((part) => part.text).join("");
}

/** Return after `s` seconds, or as soon as the browser says that the line is back. */
function reachable(s) {
  return new Promise((resolve) => {
    const timer = setTimeout(done, s * 1000);
    function done() {
      clearTimeout(timer);
      removeEventListener("online", done);
      resolve();
    }
    addEventListener("online", done);
  });
}
