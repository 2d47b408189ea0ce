// The state of one turn, out of the parts of its stream. Pure: `take` returns a new state and changes none.
//
// Times are seconds from the turn's start, on the server's clock. What is known of that clock here is that each part
// was written before it came: so it is ahead of ours by at least what the part says less when it came, and the largest
// of these is the best guess. It only ever grows, so nothing that is drawn by it goes backwards.

/**
 * How a turn is before its first part. `ahead` is the server's clock less ours, in seconds; a `presumed` one, that the
 * turn begins when it is asked for, holds until the server says better.
 */
export function newTurn(ahead = null, presumed = false) {
  return {
    state: "running",
    presumed,
    turnId: null,
    traceId: null,
    conversationId: null,
    text: "",
    stages: [],
    queue: null,
    ahead,
    firstToken: null,
    total: null,
    error: null,
    warnings: [],
    saved: null,
    fallback: null,
    model: null,
    usage: null,
    replayed: false,
  };
}

/** Return how far the turn is now, in seconds; `now` is our clock, in seconds. */
export function elapsed(turn, now) {
  return turn.ahead === null ? 0 : Math.max(0, turn.ahead + now);
}

const ENDS = {
  finish: (turn, part) => ended({ ...turn, ...figures(part.messageMetadata) }, "done"),
  abort: (turn) => ended(turn, "stopped"),
  error: (turn, part) => ended({ ...turn, error: { sentence: part.errorText, ...turn.error } }, "failed"),
};

const TAKES = {
  start: (turn, part) => ({ ...turn, ...named(part.messageMetadata ?? {}), turnId: part.messageId }),
  "text-delta": told,
  "message-metadata": (turn, part) => ({ ...turn, ...figures(part.messageMetadata) }),
  "data-stage": (turn, part, now) => staged(turn, part.data, now),
  "data-queue": (turn, part) => ({ ...turn, queue: { position: part.data.position, wait: part.data.estimated_wait } }),
  ...ENDS,
};

/** Return the turn after a part that came at `now`, in seconds of our clock. */
export function take(turn, part, now) {
  const taken = turn.state === "running" && Object.hasOwn(TAKES, part.type);
  return taken ? TAKES[part.type](turn, part, now) : turn;
}

/** Return the turn after its stream ended without an end: what came stays, and what ran is not known. */
export function cut(turn) {
  return turn.state === "running" ? ended(turn, "cut") : turn;
}

function named(metadata) {
  return { traceId: metadata.trace_id ?? null, conversationId: metadata.conversation_id ?? null };
}

function told(turn, part, now) {
  const firstToken = turn.firstToken ?? (turn.ahead === null ? null : elapsed(turn, now));
  return { ...turn, text: turn.text + part.delta, firstToken };
}

function staged(turn, data, now) {
  const stages = [...turn.stages.filter((stage) => stage.stage !== data.stage), { ...data }];
  const known = turn.presumed ? -Infinity : (turn.ahead ?? -Infinity);
  const ahead = Math.max(known, data.at + (data.seconds ?? 0) - now);
  const waits = turn.queue !== null && data.stage !== "llm" && !(data.stage === "llm.queue" && data.state !== "running");
  return { ...turn, stages, ahead, presumed: false, queue: waits ? turn.queue : null };
}

function figures(metadata) {
  const { performance_metrics: times, error, warnings, saved, fallback_used: fallback } = metadata ?? {};
  const known = {
    total: times?.total_time || undefined,
    firstToken: times?.time_to_first_token,
    warnings,
    saved,
    fallback,
    model: metadata?.context_metadata?.model,
    usage: metadata?.token_usage,
    replayed: metadata?.replayed ? true : undefined,
    conversationId: metadata?.conversation_id,
    error: error && {
      code: error.code,
      stage: error.stage ?? null,
      retryable: error.retryable ?? true,
      retryAfter: error.retry_after ?? null,
    },
  };
  return Object.fromEntries(Object.entries(known).filter(([, value]) => value !== undefined));
}

function ended(turn, state) {
  const last = Math.max(0, ...turn.stages.map((stage) => stage.at + (stage.seconds ?? 0)));
  return { ...turn, state, queue: null, total: turn.total ?? last };
}
