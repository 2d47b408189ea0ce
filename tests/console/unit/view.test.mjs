import { assert, fact, load, near } from "./facts.mjs";

const { STAGES, path, rows, spent, viewOfRecent, viewOfTurn } = await load("view.js");
const { newTurn, take } = await load("turn.js");

const view = {
  state: "done",
  stages: [
    { stage: "db_fetch", at: 0, end: 0.03, state: "done" },
    { stage: "fetch.project", at: 0.001, end: 0.02, state: "done" },
    { stage: "fetch.conversation", at: 0.001, end: 0.03, state: "done" },
    { stage: "llm.queue", at: 0.03, end: 0.23, state: "done" },
    { stage: "llm", at: 0.23, end: 1.23, state: "done" },
    { stage: "save.user", at: 0.24, end: 0.3, state: "done" },
    { stage: "db_save", at: 1.24, end: 1.25, state: "done" },
  ],
  firstToken: 0.73,
  total: 1.25,
};

fact("each stage has a row, under the one that it lies within", () => {
  assert.deepEqual(
    rows(view).map(({ stage, depth }) => [stage, depth]),
    [["db_fetch", 0], ["fetch.conversation", 1], ["fetch.project", 1], ["llm.queue", 0], ["llm", 0], ["save.user", 1], ["db_save", 0]],
  );
});

fact("an agent's stages lie within it, the model's among them", () => {
  const agent = { stage: "agent", at: 0.03, end: 1.24, state: "done" };
  const inner = { stage: "agent.plan", at: 0.031, end: 0.032, state: "done" };
  const depths = Object.fromEntries(rows({ ...view, stages: [...view.stages, inner, agent] }).map(({ stage, depth }) => [stage, depth]));
  assert.deepEqual([depths.agent, depths["agent.plan"], depths.llm, depths["save.user"], depths.db_save], [0, 1, 1, 2, 0]);
});

fact("a stage that this page does not know still has its row", () => {
  const [row] = rows({ ...view, stages: [{ stage: "safety", at: 0, end: 1, state: "done" }] });
  assert.deepEqual([row.stage, row.depth, row.kind], ["safety", 0, "rest"]);
});

fact("the model's bar is paler before its first token", () => {
  const { parts } = rows(view).find(({ stage }) => stage === "llm");
  assert.deepEqual(parts, [{ kind: "thinking", from: 0.23, to: 0.73 }, { kind: "model", from: 0.73, to: 1.23 }]);
});

fact("what runs beside the model is hidden, as far as it does not outlast it", () => {
  const parts = (end) =>
    rows({ ...view, stages: view.stages.map((stage) => (stage.stage === "save.user" ? { ...stage, end } : stage)) })
      .find(({ stage }) => stage === "save.user").parts.map(({ kind }) => kind);
  assert.deepEqual(parts(0.3), ["database hidden"]);
  assert.deepEqual(parts(1.5), ["database hidden", "database"]);
});

fact("each moment is spent on one thing, and the moments add up to the whole", () => {
  const kinds = path(view).map(({ kind }) => kind);
  assert.deepEqual(kinds, ["fetch", "queue", "thinking", "model", "rest", "save"]);
  const sums = spent(view);
  near(sums.model, 1);
  near(sums.queue, 0.2);
  near(sums.rest, 0.01);
  near(Object.values(sums).reduce((one, other) => one + other), 1.25);
});

fact("any turn's path goes from 0 to its total without a gap", () => {
  let seed = 7;
  const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
  for (let round = 0; round < 300; round += 1) {
    const names = Object.keys(STAGES).filter(() => random() < 0.5);
    const stages = names.map((stage) => {
      const at = random();
      return { stage, at, end: at + random(), state: "done" };
    });
    const total = Math.max(0.1, ...stages.map(({ end }) => end)) * (0.8 + random() / 2);
    const pieces = path({ state: "done", stages, firstToken: random() < 0.5 ? null : random(), total });
    assert.equal(pieces[0].from, 0);
    pieces.forEach((piece, index) => assert.equal(piece.to, pieces[index + 1]?.from ?? total));
    assert.equal(rows({ stages, firstToken: null }).length, stages.length);
  }
});

fact("while a turn runs its open bars end now; once it is over, where it was cut", () => {
  const running = take(newTurn(), { type: "data-stage", data: { stage: "llm", state: "running", at: 0.5 } }, 1);
  assert.equal(viewOfTurn(running, 2).stages[0].end, 2);
  const stopped = viewOfTurn(take(running, { type: "abort" }, 3), 9);
  assert.deepEqual([stopped.stages[0].state, stopped.stages[0].end, stopped.state], ["failed", 0.5, "stopped"]);
});

fact("before the first part the turn reads, for that is how each begins", () => {
  assert.deepEqual(viewOfTurn(newTurn(), 0.2).stages, [{ stage: "db_fetch", at: 0, end: 0.2, state: "running" }]);
});

const recent = {
  turn_id: "1", trace_id: "t", outcome: "ok", error_type: null, time_to_first_token: null,
  performance_metrics: { total_time: 2 }, stages: [{ stage: "llm", at: 1, seconds: 0.5 }],
};

fact("a turn of the server's list is drawn like one of ours", () => {
  const shown = viewOfRecent(recent);
  assert.deepEqual([shown.state, shown.total, shown.firstToken], ["done", 2, null]);
  assert.deepEqual(shown.stages, [{ stage: "llm", at: 1, end: 1.5, state: "done" }]);
});

for (const [outcome, error, state, failed] of [
  ["degraded", null, "done", null], ["cancelled", "stopped", "stopped", null], ["shed", "overloaded", "failed", null],
  ["timeout", "timeout.db_fetch", "failed", "db_fetch"], ["timeout", "timeout.llm.idle", "failed", "llm"], ["timeout", "timeout.chat.turn", "failed", null],
]) {
  fact(`a turn that ended as ${outcome} by ${error} is shown as ${state}, and blames ${failed}`, () => {
    const shown = viewOfRecent({ ...recent, outcome, error_type: error });
    assert.deepEqual([shown.state, shown.errorStage], [state, failed]);
  });
}
