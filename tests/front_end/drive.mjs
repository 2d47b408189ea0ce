// A front end: the AI SDK's real useChat, rendered without a browser, against a server. What its user would see comes
// out as JSON lines.
//
//   node drive.mjs SDK BASE TOKEN SCENARIO
//
// SDK        one of sdk.mjs
// SCENARIO   JSON: {api, chat, body?, history?, messages?, resume?, resume_on_reload?, steps}
//            last_only: of the chat's messages only the last two are sent
//            history: where the messages to start with are read; resume: whether the page is shown with useChat's resume
// steps      {do: "send", text | parts}   {do: "edit", index, text}   {do: "regenerate", index?}   {do: "again"}
//            {do: "resume"}   {do: "wait"} for a resume that began by itself   {do: "reload"} a new page, the history read
//            stop_after: stop() once the answer has so many characters; stop: this address is posted to instead
//
// Lines: {event: "request" | "answered" | "data" | "shown" | "finish" | "settled", ...}; "settled" ends each step.
import { writeSync } from "node:fs";
import { create, createElement, load } from "./sdk.mjs";

const [name, base, token, scenarioText] = process.argv.slice(2);
const scenario = JSON.parse(scenarioText);
const { DefaultChatTransport, useChat } = load(name);
const headers = { Authorization: `Bearer ${token}` };
const started = performance.now();
setTimeout(() => process.exit(3), 40_000).unref();

let page; // what useChat returned when it was rendered last
let answers = 0;
const reading = new Set(); // answers that are not read to their end

// As docs/STREAMING.md has it.
const lastOnly = ({ id, messages, trigger, messageId, body }) =>
  ({ body: { ...body, id, trigger, messageId, messages: messages.slice(-2) } });

function tell(event, facts) {
  writeSync(1, JSON.stringify({ event, at: performance.now() - started, ...facts }) + "\n");
}

function text(message) {
  return message.parts.filter((part) => part.type === "text").map((part) => part.text).join("|");
}

async function watchedFetch(url, options) {
  tell("request", {
    method: options.method,
    path: url.slice(base.length),
    headers: Object.fromEntries(new Headers(options.headers)),
    body: options.body == null ? null : JSON.parse(options.body),
  });
  const request = {};
  reading.add(request);
  try {
    const response = await fetch(url, options);
    tell("answered", { status: response.status, headers: Object.fromEntries(response.headers) });
    if (response.body == null || !response.ok) reading.delete(request);
    else return new Response(asBrowsersRead(response.body, request), { headers: response.headers });
    return response;
  } catch (error) {
    reading.delete(request);
    throw error;
  } finally {
    answers++;
  }
}

// A connection that breaks is "network error" in Chrome, which the SDK looks for, and "terminated" in Node.
function asBrowsersRead(body, request) {
  const reader = body.getReader();
  return new ReadableStream({
    async pull(controller) {
      try {
        const { done, value } = await reader.read();
        if (!done) return controller.enqueue(value);
        controller.close();
      } catch (error) {
        controller.error(error.name === "AbortError" ? error : new TypeError("network error"));
      }
      reading.delete(request);
    },
    cancel(reason) {
      reading.delete(request);
      return reader.cancel(reason);
    },
  });
}

let shown = "";
let stopAfter = Infinity;
let stopAddress = null;

function Page({ options }) {
  page = useChat(options);
  const last = page.messages.at(-1);
  const now = { status: page.status, role: last?.role, text: last && text(last), error: page.error?.message };
  if (JSON.stringify(now) !== shown) {
    shown = JSON.stringify(now);
    tell("shown", now);
  }
  if (last?.role === "assistant" && page.status === "streaming" && text(last).length >= stopAfter) {
    stopAfter = Infinity;
    const { stop } = page;
    setTimeout(() => (stopAddress ? fetch(base + stopAddress, { method: "POST", headers }) : stop()), 0);
  }
  return null;
}

let root;
async function show(resume) {
  let messages = scenario.messages ?? [];
  if (scenario.history) messages = await (await fetch(base + scenario.history, { headers })).json();
  root?.unmount();
  const { api, body, last_only } = scenario;
  const more = last_only ? { prepareSendMessagesRequest: lastOnly } : {};
  const transport = new DefaultChatTransport({ api: base + api, headers, body, fetch: watchedFetch, ...more });
  const onData = ({ type, data }) => tell("data", { type, data });
  const onFinish = ({ isAbort, isDisconnect, isError }) => tell("finish", { isAbort, isDisconnect, isError });
  const options = { id: scenario.chat, messages, transport, onData, onFinish, resume };
  root = create(createElement(Page, { options }));
}

const STEPS = {
  send: (step) => page.sendMessage(step.parts ? { parts: step.parts } : { text: step.text }),
  edit: (step) => page.sendMessage({ text: step.text, messageId: page.messages[step.index].id }),
  regenerate: (step) => page.regenerate(step.index == null ? {} : { messageId: page.messages[step.index].id }),
  again: () => page.sendMessage(),
  resume: () => page.resumeStream(),
  reload: () => show(scenario.resume_on_reload),
  wait: () => undefined,
};

const wakes = (step) => step.do === "wait" || (step.do === "reload" && scenario.resume_on_reload);

// A client that shows an error leaves the rest of the answer unread; the first version of all says "submitted" for ever
// once there was nothing to resume.
async function settled() {
  for (let quiet = 0; quiet < 10; ) {
    await new Promise((resolve) => setTimeout(resolve, 10));
    const over = page.status === "error" || reading.size === 0;
    quiet = over ? quiet + (page.status === "ready" || page.status === "error" ? 5 : 1) : 0;
  }
}

await show(scenario.resume);
for (const [number, step] of scenario.steps.entries()) {
  stopAfter = step.stop_after ?? Infinity;
  stopAddress = step.stop ?? null;
  const before = step.do === "wait" ? 0 : answers;
  if (step.do !== "wait") reading.clear();
  await STEPS[step.do](step);
  while (wakes(step) && answers === before) await new Promise((resolve) => setTimeout(resolve, 5));
  await settled();
  const { status, error, messages } = page;
  tell("settled", { step: number, status, error: error?.message, messages });
}
process.exit(0);
