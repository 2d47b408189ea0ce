import { assert, fact, load } from "./facts.mjs";

const { Refusal, askQuestion, readHistory, resumeTurn, stopTurn, waitOf } = await load("api.js");

async function asked(response, act) {
  const sent = [];
  globalThis.fetch = async (address, options) => {
    sent.push({ address, ...options });
    if (response instanceof Error) throw response;
    return response;
  };
  const answer = await act().catch((error) => error);
  return { sent: sent[0], answer };
}

const options = { token: "secret", language: "ja" };
const ok = (body) => new Response(JSON.stringify(body), { status: 200 });

fact("a question goes out with its key and its token in headers, and neither in the address", async () => {
  const { sent } = await asked(ok({}), () => askQuestion({ key: "k1", message: "なぜ?", page_id: "p" }, options));
  assert.equal(sent.address, "chat/stream");
  assert.deepEqual(sent.headers, { "idempotency-key": "k1", "x-chat-id": "p", authorization: "Bearer secret", "accept-language": "ja", "content-type": "application/json" });
  assert.deepEqual(JSON.parse(sent.body), { message: "なぜ?", page_id: "p" });
});

fact("addresses are relative, so that a proxy may put a prefix before them, and a page's key is one piece of them", async () => {
  for (const act of [() => stopTurn("a/b?c", options), () => resumeTurn("a/b?c", options), () => readHistory("a/b?c", options)]) {
    const { sent } = await asked(ok({ stopped: true }), act);
    assert.match(sent.address, /^chat\/.*a%2Fb%3Fc/);
    assert.equal(sent.headers["x-chat-id"], "a%2Fb%3Fc"); // by which a proxy finds the process
    assert.equal(sent.headers["x-chat-id"], "a%2Fb%3Fc", "for a proxy that looks for the process of a chat");
  }
});

fact("that nothing runs is no answer, and no fault", async () => {
  const { answer } = await asked(new Response(null, { status: 204 }), () => resumeTurn("p", options));
  assert.equal(answer, null);
});

fact("a refusal says what the server said, and when to come back", async () => {
  const body = JSON.stringify({ code: "overloaded", detail: "Many people.", errors: ["x: no"], trace_id: "t" });
  const refused = new Response(body, { status: 503, headers: { "retry-after": "7" } });
  const { answer } = await asked(refused, () => readHistory("p", options));
  assert.ok(answer instanceof Refusal);
  assert.deepEqual(
    [answer.code, answer.status, answer.sentence, answer.errors, answer.retryAfter, answer.traceId],
    ["overloaded", 503, "Many people.", ["x: no"], 7, "t"],
  );
});

fact("a proxy's page is a refusal too, by its status", async () => {
  const { answer } = await asked(new Response("<html>", { status: 502 }), () => readHistory("p", options));
  assert.deepEqual([answer.code, answer.sentence], ["http_502", ""]);
});

fact("a server that is not there is unreachable", async () => {
  const { answer } = await asked(new TypeError("Failed to fetch"), () => readHistory("p", options));
  assert.equal(answer.code, "unreachable");
});

for (const [value, seconds] of [[null, null], ["", null], ["5", 5], ["0", 0], ["2.5", 2.5], ["-3", 0], ["Thu, 01 Jan 1970 00:00:09 GMT", 9], ["soon", null]]) {
  fact(`Retry-After ${JSON.stringify(value)} means ${seconds}`, () => assert.equal(waitOf(value, 0), seconds));
}

fact("somebody else's page, or an answer that is cut short, is no word of the server's", async () => {
  for (const body of ["<html>Sign in to this network", '[{"role":']) {
    const { answer } = await asked(new Response(body, { status: 200 }), () => readHistory("p", options));
    assert.ok(answer instanceof Refusal);
    assert.equal(answer.code, "unreachable");
  }
});

fact("a token that no header can hold is refused here, and nothing is sent", async () => {
  const { answer, sent } = await asked(ok([]), () => readHistory("p", { token: "合言葉" }));
  assert.deepEqual([answer.code, answer.status, sent], ["unauthenticated", 401, undefined]);
});
