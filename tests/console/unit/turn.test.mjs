import { assert, fact, load, near } from "./facts.mjs";

const { cut, elapsed, newTurn, take } = await load("turn.js");
const stage = (stage, state, at, seconds) => ({ type: "data-stage", data: { stage, state, at, ...(seconds !== undefined && { seconds }) } });
const delta = (text) => ({ type: "text-delta", id: "text", delta: text });
const after = (parts, turn = newTurn()) => parts.reduce((state, [part, now]) => take(state, part, now), turn);
const start = { type: "start", messageId: "turn-1", messageMetadata: { conversation_id: "c", turn_id: "turn-1", trace_id: "t" } };

fact("a whole turn ends with its text, its ids and the server's own figures", () => {
  const metadata = {
    performance_metrics: { total_time: 1.49, time_to_first_token: 0.42 },
    warnings: [{ code: "fallback", detail: "stand-in" }],
    saved: "outbox",
    fallback_used: "model",
    token_usage: null,
  };
  const turn = after([
    [start, 10],
    [stage("db_fetch", "done", 0, 0.031), 10],
    [stage("llm", "running", 0.04), 10.01],
    [delta("一"), 10.5],
    [delta("二"), 10.6],
    [stage("llm", "done", 0.04, 1.4), 11.5],
    [{ type: "finish", messageMetadata: metadata }, 11.6],
  ]);
  assert.deepEqual([turn.state, turn.text, turn.turnId, turn.traceId], ["done", "一二", "turn-1", "t"]);
  assert.deepEqual([turn.total, turn.firstToken, turn.saved, turn.fallback], [1.49, 0.42, "outbox", "model"]);
  assert.equal(turn.warnings[0].detail, "stand-in");
});

fact("the clock is the fastest part's, and never runs backwards", () => {
  let turn = after([[stage("db_fetch", "done", 0, 0.2), 5.3]]); // 0.1 s on its way
  near(elapsed(turn, 5.3), 0.2);
  turn = take(turn, stage("llm", "running", 0.45), 5.45); // at once
  near(elapsed(turn, 5.45), 0.45);
  const before = elapsed(turn, 6);
  turn = take(turn, stage("save.user", "done", 0.45, 0.05), 6); // half a second late
  near(elapsed(turn, 6), before);
});

fact("what was presumed of the clock goes as soon as the server says better", () => {
  const turn = newTurn(-5, true);
  near(elapsed(turn, 5.5), 0.5);
  near(elapsed(take(turn, stage("db_fetch", "done", 0, 0.1), 5.5), 5.5), 0.1);
});

fact("the first text marks the first token, until the end knows it exactly", () => {
  const turn = after([[stage("llm", "running", 0.1), 1], [delta("a"), 1.4], [delta("b"), 1.9]]);
  near(turn.firstToken, 0.5);
});

fact("a stage that is told again takes its latest state", () => {
  const turn = after([[stage("llm", "running", 0.1), 1], [stage("llm", "failed", 0.1, 0.3), 2]]);
  assert.deepEqual(turn.stages, [{ stage: "llm", state: "failed", at: 0.1, seconds: 0.3 }]);
});

fact("the place in the queue is shown as long as the turn waits", () => {
  const queue = { type: "data-queue", data: { position: 2, estimated_wait: 3 } };
  let turn = after([[stage("llm.queue", "running", 0.1), 1], [queue, 1.1]]);
  assert.deepEqual(turn.queue, { position: 2, wait: 3 });
  turn = take(turn, stage("fetch.project", "done", 0, 0.1), 1.2);
  assert.equal(turn.queue.position, 2);
  assert.equal(take(turn, stage("llm.queue", "done", 0.1, 2), 3).queue, null);
  assert.equal(take(turn, stage("llm", "running", 2.1), 3).queue, null);
});

fact("a failure keeps what its metadata said before it", () => {
  const error = { code: "overloaded", retryable: true, retry_after: 3, stage: "llm.queue" };
  const turn = after([
    [start, 1],
    [{ type: "message-metadata", messageMetadata: { error, performance_metrics: { total_time: 2 } } }, 1],
    [{ type: "error", errorText: "Busy." }, 1],
  ]);
  assert.equal(turn.state, "failed");
  assert.deepEqual(turn.error, { sentence: "Busy.", code: "overloaded", stage: "llm.queue", retryable: true, retryAfter: 3 });
  assert.equal(turn.total, 2);
});

for (const [state, end] of [["stopped", (turn) => take(turn, { type: "abort" }, 3)], ["cut", cut]]) {
  fact(`a turn that was ${state} keeps its half text, and ends where its last stage did`, () => {
    const turn = end(after([[stage("llm", "failed", 0.5, 1), 2], [delta("half"), 2]]));
    assert.deepEqual([turn.state, turn.text, turn.total], [state, "half", 1.5]);
  });
}

fact("after the end nothing changes any more", () => {
  const turn = take(newTurn(), { type: "abort" }, 1);
  for (const part of [delta("x"), start, { type: "finish" }]) assert.equal(take(turn, part, 2), turn);
  assert.equal(cut(turn), turn);
});

fact("parts that this page does not know are passed over", () => {
  const turn = newTurn();
  for (const type of ["reasoning-delta", "toString", "__proto__"]) assert.equal(take(turn, { type }, 1), turn);
});

fact("4,000 pieces are taken without copying the text each time", () => {
  const began = performance.now();
  const turn = after(Array.from({ length: 4000 }, () => [delta("Words "), 1]));
  assert.equal(turn.text.length, 24_000);
  assert.ok(performance.now() - began < 2_000); // it takes a few milliseconds
});
