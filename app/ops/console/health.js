// What the server needs, how that is, and what waits in the outbox: each with a word and a shape, not colour alone.

import { duration } from "./axis.js";
import { el, keep, mark, say } from "./dom.js";
import { orAsIs, t } from "./words.js";

const SHAPES = { ok: "●", trying: "◐", down: "▲", off: "○" };

export class Health {
  constructor({ dependencies, outbox }) {
    Object.assign(this, { list: dependencies, root: outbox });
    for (const part of outbox.querySelectorAll("[data-part]")) this[part.dataset.part] = part;
    this.state = null;
  }

  /** Take what the server says. */
  take({ dependencies, outbox }) {
    this.state = { dependencies, outbox };
    this.draw();
  }

  draw() {
    if (!this.state) return;
    const { dependencies, outbox } = this.state;
    const lines = keep(this.list, dependencies, (each) => each.name, newLine);
    dependencies.forEach((each, index) => drawLine(lines[index], each));
    this.#outbox(outbox);
  }

  #outbox(outbox) {
    this.figures.hidden = outbox === null;
    say(this.sentence, outboxSentence(outbox));
    mark(this.root, "data-state", outboxState(outbox));
    if (outbox === null) return;
    say(this.waiting, String(outbox.waiting));
    say(this.aside, String(outbox.set_aside));
    say(this.age, outbox.waiting ? duration(outbox.oldest_age_s) : "–");
    say(this.bytes, sizeOf(outbox.bytes));
  }
}

function newLine({ name }) {
  return el(
    "li",
    { "data-testid": "dependency", "data-name": name },
    el("span", { class: "shape", "aria-hidden": "true" }),
    el("span", { class: "what" }),
    el("span", { class: "how" }),
  );
}

function drawLine(line, { name, state, note }) {
  const [shape, what, how] = line.children;
  mark(line, "data-state", state);
  say(shape, SHAPES[state] ?? "?");
  say(what, orAsIs("dep_", name));
  say(how, [orAsIs("dep_", state), note && orAsIs("note_", note)].filter(Boolean).join(" · "));
}

function outboxState(outbox) {
  if (outbox === null) return "off";
  if (outbox.paused !== null || outbox.set_aside) return "down";
  return outbox.waiting ? "trying" : "ok";
}

function outboxSentence(outbox) {
  if (outbox === null) return t("outbox_off");
  if (outbox.paused !== null) return t("outbox_paused", { reason: outbox.paused });
  return outbox.set_aside ? t("outbox_look") : t("outbox_flows");
}

/** Return a number of bytes in the unit that suits it. */
export function sizeOf(bytes) {
  const units = ["B", "KiB", "MiB", "GiB"];
  const power = Math.min(units.length - 1, Math.floor(Math.log2(Math.max(1, bytes)) / 10));
  const figure = bytes / 1024 ** power;
  return `${power && figure < 10 ? figure.toFixed(1) : Math.round(figure)}\u00a0${units[power]}`;
}
