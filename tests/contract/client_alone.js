// What the typed client makes of answers, told as JSON; copied beside client.js and run by test_client.

import { ChatClient, CutOffError, ProblemError } from "./client.js";

const [scene, baseUrl = "http://chat.example"] = process.argv.slice(2);
const JSON_TYPE = "application/problem+json";
const PROBLEM = { type: "urn:nursery-chat:problem:not_found", title: "a", status: 404, detail: "It is gone.", code: "not_found" };
const PARTS = [{ type: "start-step" }, { type: "text-delta", id: "t", delta: "葉\r\n\r\nred" }, { type: "finish-step" }];

const clientOf = (fetch) => new ChatClient({ baseUrl, token: () => "demo", ...(fetch ? { fetch } : {}) });
const answering = (...given) => clientOf(async () => new Response(...given));

async function told(action) {
  try {
    return await action();
  } catch (error) {
    if (error instanceof CutOffError) return "cut off";
    if (!(error instanceof ProblemError)) return `${error.name}: ${error.message}`;
    return { status: error.status, code: error.code, message: error.message, problem: error.problem?.code ?? null };
  }
}

async function refused(body, type, code) {
  const headers = { ...(type ? { "content-type": type } : {}), ...(code ? { "x-error-code": code } : {}) };
  return told(() => answering(body, { status: 404, headers }).conversations());
}

const broken = () => new ReadableStream({ pull: (stream) => stream.error(new TypeError("terminated")) });

async function parts(chunks) {
  const body = new ReadableStream({
    start(stream) {
      for (const chunk of chunks) stream.enqueue(chunk);
      stream.close();
    },
  });
  const found = [];
  const end = await told(async () => {
    for await (const part of answering(body).chatStream({ message: "a" })) found.push(part);
    return "done";
  });
  return JSON.stringify([found, end]);
}

const SCENES = {
  async query() {
    delete URLSearchParams.prototype.size; // as in a browser of 2022
    const asked = [];
    const client = clientOf(async (url) => (asked.push(url), new Response("[]")));
    await client.conversations({ q: "a&b", limit: 2 });
    await client.conversations();
    return asked;
  },
  async caller() {
    const seen = [];
    await clientOf(async function () {
      seen.push(this === undefined || this === globalThis); // a browser's own fetch refuses any other
      return new Response("[]");
    }).conversations();
    return seen;
  },
  async refusals() {
    return {
      problem: await refused(JSON.stringify(PROBLEM), JSON_TYPE, "not_found"),
      sentence: await refused("消えました。", "text/plain; charset=utf-8", "not_found"),
      "cut problem": await refused('{"type": "urn:nurs', JSON_TYPE, "not_found"),
      "broken off": await refused(broken(), JSON_TYPE, "not_found"),
      "another's page": await refused("<h1>404</h1>", "text/html"),
      "nothing at all": await refused(null),
      "no object": await refused("null", JSON_TYPE),
    };
  },
  async borders() {
    const found = {};
    for (const [name, end] of [["LF", "\n\n"], ["CR LF", "\r\n\r\n"]]) {
      const text = [":", ...PARTS.map((part) => `data: ${JSON.stringify(part)}`), "data: [DONE]"].join(end) + end;
      const bytes = new TextEncoder().encode(text);
      const ways = [[bytes], Array.from(bytes, (byte) => Uint8Array.of(byte))];
      for (let at = 0; at <= bytes.length; at++) ways.push([bytes.slice(0, at), bytes.slice(at)]);
      found[name] = { ways: ways.length, outcomes: [...new Set(await Promise.all(ways.map(parts)))] };
      found[`${name}, cut`] = await parts([bytes.slice(0, bytes.length - end.length)]);
    }
    return { found, wanted: [PARTS, "done"], cut: [PARTS, "cut off"] };
  },
  async real() {
    const stranger = new ChatClient({ baseUrl, token: () => "" });
    return told(async () => {
      for await (const part of stranger.resume("a-chat", { language: "ja" })) return part;
    });
  },
};

console.log(JSON.stringify(await SCENES[scene]()));
