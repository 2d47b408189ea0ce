// Joins the page: its chat, the waterfall beside it, and what the server tells of itself each second.

import { readServer } from "./api.js";
import { Chat } from "./chat.js";
import { byTestId, copy, mark, say } from "./dom.js";
import { Health } from "./health.js";
import { Limiter } from "./limiter.js";
import { poll } from "./poll.js";
import { Recent } from "./recent.js";
import { browser, tab } from "./store.js";
import { elapsed } from "./turn.js";
import { viewOfTurn } from "./view.js";
import { Waterfall } from "./waterfall.js";
import { LANGUAGES, clockTime, language, onSpeak, orAsIs, speak, t } from "./words.js";

const TRACE_ID = /^[0-9a-f]{32}$/;
const part = (name) => document.querySelector(`[data-part="${name}"]`);
const seconds = () => performance.now() / 1000;
let links = {};
let answeredAt = null;
let last = null;

// The two choices of the reader's: language and colours.

function choices() {
  const [chosen, theme] = [byTestId("language"), byTestId("theme")];
  const wanted = (navigator.languages ?? [navigator.language]).map((name) => name.slice(0, 2));
  chosen.value = browser.get("language") ?? wanted.find((name) => LANGUAGES.includes(name)) ?? "en";
  theme.value = browser.get("theme") ?? "auto";
  chosen.addEventListener("change", () => {
    browser.set("language", chosen.value);
    speak(chosen.value);
  });
  theme.addEventListener("change", () => {
    browser.set("theme", theme.value);
    colours(theme.value);
  });
  colours(theme.value);
  onSpeak(words);
  speak(chosen.value);
}

function colours(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

/** Put the page's own words into it: an element names its text, or attributes of it, by their keys. */
function words() {
  document.documentElement.lang = language();
  document.title = t("title");
  for (const element of document.querySelectorAll("[data-word]")) say(element, t(element.dataset.word));
  for (const attribute of ["aria-label", "title", "placeholder"]) {
    const name = `data-word-${attribute}`;
    for (const element of document.querySelectorAll(`[${name}]`)) mark(element, attribute, t(element.getAttribute(name)));
  }
}

// The waterfall, and what is said of its turn.

const waterfall = new Waterfall(byTestId("waterfall"), traced);
const recent = new Recent({
  list: byTestId("recent"),
  axis: part("recentAxis"),
  empty: part("recentEmpty"),
  note: part("recentNote"),
  show: (view, id) => shown(() => view, id),
});
let mine = null;

/** Draw a turn; one of the list (by its `id` there) until the reader goes back, or asks. */
function shown(source, id = null) {
  recent.choose(id);
  part("backToMine").hidden = id === null || mine === null;
  waterfall.show(source);
}

/** Draw the chat's turn. */
function mineShown(source) {
  mine = source && (() => turnView(source()));
  shown(mine);
}

function turnView(turn) {
  return turn && viewOfTurn(turn, elapsed(turn, seconds()));
}

/** Name the trace of the turn that is drawn, and lead to its viewers. */
function traced(id) {
  say(byTestId("trace-id"), id);
  byTestId("copy-trace").disabled = !id;
  for (const name of ["jaeger", "grafana"]) {
    const link = byTestId(`link-${name}`);
    link.hidden = !links[name] || !TRACE_ID.test(id);
    if (!link.hidden) mark(link, "href", webAddress(links[name].replaceAll("{trace_id}", id)));
  }
}

const webAddress = (address) => (/^https?:\/\//i.test(address) ? address : null);

function traceButtons() {
  const button = byTestId("copy-trace");
  button.addEventListener("click", async () => {
    const done = await copy(byTestId("trace-id").textContent);
    say(button, t(done ? "copied" : "not_copied"));
    setTimeout(() => say(button, t("copy")), 1500);
  });
  part("backToMine").addEventListener("click", () => {
    shown(mine);
    byTestId("copy-trace").focus();
  });
}

// The chat.

const chat = new Chat(
  {
    log: byTestId("log"),
    empty: part("logEmpty"),
    announcer: part("announcer"),
    form: part("composer"),
    ask: byTestId("ask"),
    send: byTestId("send"),
    stop: byTestId("stop"),
    keepOn: byTestId("continue"),
    token: byTestId("token"),
    pageKey: byTestId("page-key"),
    newChat: byTestId("new-chat"),
    noticeBox: part("noticeBox"),
    notice: part("notice"),
    noticeTrace: part("noticeTrace"),
    retry: part("retry"),
    dismiss: part("dismiss"),
  },
  mineShown,
);

// What the server tells of itself.

const opsToken = byTestId("ops-token");
/** What is sent: nothing half typed, and nothing again that was refused, for each counts against this address. */
let givenToken = "";
let tokenRefused = false;
const asker = () => ({ token: givenToken, language: language() });
const limiter = new Limiter(byTestId("limiter"), asker);
const health = new Health({ dependencies: byTestId("dependencies"), outbox: byTestId("outbox") });

function told(server, askedAt) {
  answeredAt = Date.now();
  last = null;
  links = server.links;
  reachable(true);
  limiter.take(server.limiter, askedAt);
  health.take(server);
  recent.take(server.turns);
  traced(waterfall.trace);
  if (server.auth === "dev") chat.offer("demo");
  mark(part("status"), "data-state", server.status);
  part("status").server = server;
  statusWords();
  opsWords();
}

function failed(error) {
  last = error;
  if (error.status === 401 && givenToken) {
    tokenRefused = true;
    giveToken("");
  }
  reachable(error.code !== "unreachable");
  statusWords();
  opsWords();
}

/** Say what stands between the reader and the figures: a token, a closed door, or nothing. */
function opsWords() {
  const asks = last?.status === 401;
  const closed = last?.status === 404;
  part("opsAsk").hidden = !(asks || opsToken.value);
  part("opsFigures").hidden = asks || closed;
  mark(opsToken, "aria-invalid", asks && tokenRefused ? "true" : null);
  say(part("opsSentence"), opsSentence(asks, closed));
  part("opsSentence").hidden = !part("opsSentence").textContent;
}

function opsSentence(asks, closed) {
  if (asks) return t(tokenRefused ? "ops_wrong" : "ops_ask");
  if (closed) return t("ops_closed");
  if (!last || last.code === "unreachable") return "";
  return t("ops_failed", { code: last.code, time: answeredAt ? clockTime(answeredAt) : "–" });
}

function giveToken(token) {
  givenToken = token;
  tab.set("opsToken", token || null);
}

/** Show whether the server is there: so the polls say. A browser without a network may still reach its own machine. */
function reachable(there) {
  const connection = byTestId("connection");
  const was = connection.dataset.state;
  mark(connection, "data-state", there ? "online" : "offline");
  say(connection.lastElementChild, t(there ? "online" : "offline"));
  part("offlineBanner").hidden = there;
  if (there && was !== "online") chat.back();
}

function statusWords() {
  const { server } = part("status");
  say(part("status").lastElementChild, server ? orAsIs("status_", server.status) : "");
  say(part("model"), server ? t("model_name", { model: server.model }) : "");
  say(part("process"), server ? t("process", { instance: server.instance }) : "");
}

function secrets() {
  opsToken.value = givenToken = tab.get("opsToken", "");
  opsToken.addEventListener("change", () => {
    tokenRefused = false;
    giveToken(opsToken.value.trim());
    askNow();
  });
  for (const [button, field, words] of [
    [part("showToken"), byTestId("token"), ["show_token", "hide_token"]],
    [part("showOpsToken"), opsToken, ["show_ops_token", "hide_ops_token"]],
  ]) {
    button.addEventListener("click", () => {
      const shows = field.type === "password";
      field.type = shows ? "text" : "password";
      mark(button, "aria-pressed", shows);
      mark(button, "title", t(words[Number(shows)]));
    });
  }
}

function redraw() {
  statusWords();
  opsWords();
  reachable(byTestId("connection").dataset.state !== "offline");
  for (const each of [waterfall, recent, limiter, health]) each.draw();
}

choices();
secrets();
traceButtons();
onSpeak(redraw);
chat.start();
const askNow = poll({ ask: (signal) => readServer({ ...asker(), signal }), told, failed });
addEventListener("offline", () => reachable(false));
addEventListener("online", askNow);
addEventListener("pagehide", () => chat.talk.leave());
addEventListener("pageshow", (event) => event.persisted && chat.start()); // back from the browser's own memory
