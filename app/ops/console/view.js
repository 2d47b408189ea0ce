// What a waterfall shows of a turn: its rows in order, and what each moment was spent on. Pure.
//
// Both a running turn and one of `/ops/console` are made into the same view:
//   {state, stages: [{stage, at, end, state}], firstToken, total, traceId, …}, times in seconds from the turn's start.

/** Each stage's colour, what it lies within, and what it runs beside; in the order of a turn. */
export const STAGES = {
  db_fetch: { kind: "database" },
  "fetch.earlier": { kind: "database", within: ["db_fetch"] },
  "fetch.conversation": { kind: "database", within: ["db_fetch"] },
  "fetch.project": { kind: "database", within: ["db_fetch"] },
  agent: { kind: "agent" },
  "agent.state": { kind: "agent", within: ["agent"] },
  "agent.plan": { kind: "agent", within: ["agent"] },
  "agent.support_type": { kind: "agent", within: ["agent"] },
  "agent.acts": { kind: "agent", within: ["agent"] },
  "llm.queue": { kind: "queue", within: ["agent"] },
  "agent.reply": { kind: "agent", within: ["agent"] },
  llm: { kind: "model", within: ["agent"] },
  "agent.study": { kind: "model", within: ["agent"], beside: "llm" },
  "save.user": { kind: "database", within: ["llm", "agent"], beside: "llm" },
  db_save: { kind: "database" },
};
const ORDER = Object.keys(STAGES);
const OTHER = { kind: "rest" };

/** Whose a moment is, when more than one stage runs: the first of these. */
const OWNERS = ["llm", "llm.queue", "db_fetch", "db_save", "save.user", "agent"];
const SPENT_ON = {
  llm: "model",
  "llm.queue": "queue",
  db_fetch: "fetch",
  db_save: "save",
  "save.user": "save",
  agent: "agent",
};

/** The stream begins when the conversation was read; till then that is what the turn does. */
const FIRST = [{ stage: "db_fetch", state: "running", at: 0 }];

/** Return the view of a turn that streams, or did; `at` is how far it is, in seconds. */
export function viewOfTurn(turn, at) {
  const running = turn.state === "running";
  const end = running ? at : (turn.total ?? at);
  const stages = running && !turn.stages.length ? FIRST : turn.stages;
  return {
    state: turn.state,
    traceId: turn.traceId,
    turnId: turn.turnId,
    stages: stages.map((stage) => ({
      stage: stage.stage,
      at: stage.at,
      end: stage.state === "running" ? Math.max(stage.at, end) : stage.at + (stage.seconds ?? 0),
      state: stage.state === "running" && !running ? "failed" : stage.state,
    })),
    firstToken: turn.firstToken,
    total: running ? at : turn.total,
    errorStage: turn.error?.stage ?? null,
  };
}

/** Return the view of a turn as `/ops/console` tells of it. */
export function viewOfRecent(recent) {
  const failed = stageOf(recent.error_type);
  return {
    state: STATES[recent.outcome] ?? "failed",
    traceId: recent.trace_id,
    turnId: recent.turn_id,
    stages: recent.stages.map(({ stage, at, seconds }) => ({
      stage,
      at,
      end: at + seconds,
      state: stage === failed ? "failed" : "done",
    })),
    firstToken: recent.time_to_first_token ?? null,
    total: recent.performance_metrics.total_time,
    errorStage: failed,
  };
}

const STATES = { ok: "done", degraded: "done", cancelled: "stopped" };

/** Return the stage that an error's name names, as in `timeout.db_fetch`; null when it names none. */
function stageOf(errorType) {
  const name = /^timeout\.(.+)$/.exec(errorType ?? "")?.[1] ?? null;
  const stage = name === "llm.first_token" || name === "llm.idle" ? "llm" : name;
  return stage && Object.hasOwn(STAGES, stage) ? stage : null;
}

/** Return the rows from top to bottom: each stage under the one that it lies within, by when it began. */
export function rows(view) {
  const byName = new Map(view.stages.map((stage) => [stage.stage, stage]));
  const parentOf = (name) => STAGES[name]?.within?.find((each) => byName.has(each)) ?? null;
  const within = (parent, depth) =>
    view.stages
      .filter((stage) => parentOf(stage.stage) === parent)
      .sort((one, other) => one.at - other.at || ORDER.indexOf(one.stage) - ORDER.indexOf(other.stage))
      .flatMap((stage) => [row(stage, depth, byName, view), ...within(stage.stage, depth + 1)]);
  return within(null, 0);
}

function row(stage, depth, byName, view) {
  const { kind, beside } = STAGES[stage.stage] ?? OTHER;
  return { ...stage, depth, kind, parts: partsOf(stage, kind, byName.get(beside), view.firstToken) };
}

/** Return a bar's parts: the model's before and after its first token, and what is hidden beside another stage. */
function partsOf({ stage, at, end }, kind, beside, firstToken) {
  if (stage === "llm") {
    const split = firstToken === null ? end : Math.min(Math.max(firstToken, at), end);
    return full([part("thinking", at, split), part("model", split, end)], at, end);
  }
  if (!beside) return [part(kind, at, end)];
  const from = Math.min(Math.max(beside.at, at), end);
  const to = Math.max(Math.min(beside.end, end), from);
  return full([part(kind, at, from), part(`${kind} hidden`, from, to), part(kind, to, end)], at, end);
}

const part = (kind, from, to) => ({ kind, from, to });

function full(parts, at, end) {
  const shown = parts.filter((each) => each.to > each.from);
  return shown.length ? shown : [part(parts[0].kind, at, end)];
}

/** Return what each moment of the turn was spent on, one after the other: the path that its length comes from. */
export function path(view) {
  const total = view.total ?? 0;
  const stages = OWNERS.map((name) => view.stages.find((stage) => stage.stage === name)).filter(Boolean);
  const inner = stages.flatMap((stage) => [stage.at, stage.end]);
  const cuts = [...new Set([0, ...inner, view.firstToken ?? 0, total])]
    .filter((at) => at >= 0 && at <= total)
    .sort((one, other) => one - other);
  const pieces = cuts.slice(1).map((to, index) => {
    const from = cuts[index];
    const owner = stages.find((stage) => stage.at <= from && stage.end >= to);
    return part(spentOn(owner, from, view.firstToken), from, to);
  });
  return pieces.reduce(joined, []);
}

function spentOn(owner, from, firstToken) {
  if (!owner) return "rest";
  const kind = SPENT_ON[owner.stage];
  return kind === "model" && (firstToken === null || from < firstToken) ? "thinking" : kind;
}

function joined(all, piece) {
  const last = all.at(-1);
  if (last?.kind !== piece.kind) return [...all, piece];
  return [...all.slice(0, -1), part(last.kind, last.from, piece.to)];
}

/** Return the seconds that went into each kind; the model's two parts are one. */
export function spent(view) {
  const sums = { model: 0, queue: 0, fetch: 0, save: 0, agent: 0, rest: 0 };
  for (const { kind, from, to } of path(view)) sums[kind === "thinking" ? "model" : kind] += to - from;
  return sums;
}
