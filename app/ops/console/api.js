// The server's addresses, relative to the page's own, and what their answers mean.

/** Why a request was refused, or did not come through: `code` is the server's, or "unreachable". */
export class Refusal extends Error {
  constructor(code, { status = 0, sentence = "", errors = [], retryAfter = null, traceId = null } = {}) {
    super(sentence || code);
    Object.assign(this, { code, status, sentence, errors, retryAfter, traceId });
  }
}

const PATIENCE_MS = 15_000;
/** What a header can hold; fetch would say of anything else that the server cannot be reached. */
const SENDABLE = /^[\x20-\x7e\x80-\xff]*$/;

/** Ask, and return the answer if it is a good one. Throws a `Refusal`; an aborted request throws what fetch does. */
async function asked(address, { token = "", language, signal, patience = PATIENCE_MS, headers = {}, ...options } = {}) {
  if (!SENDABLE.test(token)) throw new Refusal("unauthenticated", { status: 401 });
  const limits = [signal, patience && AbortSignal.timeout(patience)].filter(Boolean);
  const head = { ...headers, ...(token && { authorization: `Bearer ${token}` }) };
  if (language) head["accept-language"] = language;
  if (options.body) head["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(address, { ...options, headers: head, cache: "no-store", signal: AbortSignal.any(limits) });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refusal("unreachable");
  }
  if (!response.ok) throw await refusalOf(response);
  return response;
}

/** Return what an answer says. One that is cut short, or a network's own page, is no word of the server's. */
async function saidIn(response, signal) {
  try {
    return await response.json();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refusal("unreachable");
  }
}

async function refusalOf(response) {
  const text = await response.text().catch(() => "");
  const problem = problemIn(text);
  return new Refusal(problem.code ?? response.headers.get("x-error-code") ?? `http_${response.status}`, {
    status: response.status,
    sentence: problem.detail ?? "",
    errors: problem.errors ?? [],
    retryAfter: waitOf(response.headers.get("retry-after")) ?? problem.retry_after ?? null,
    traceId: problem.trace_id ?? response.headers.get("x-trace-id"),
  });
}

function problemIn(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {}; // a proxy's page
  }
}

/** Return the seconds that a `Retry-After` names, as a number or as a date. */
export function waitOf(value, now = Date.now()) {
  if (!value) return null;
  const seconds = Number(value);
  if (Number.isFinite(seconds)) return Math.max(0, seconds);
  const date = Date.parse(value);
  return Number.isNaN(date) ? null : Math.max(0, Math.ceil((date - now) / 1000));
}

/** Return the header by which a proxy sends a page's requests to the process that has its running turn. */
const named = (page) => ({ "x-chat-id": encodeURIComponent(page) });

/** Ask a question; the answer is the stream's response. It may take as long as it takes. */
export function askQuestion({ key, ...body }, options) {
  const headers = { "idempotency-key": key, ...named(body.page_id) };
  return asked("chat/stream", { ...options, method: "POST", headers, body: JSON.stringify(body), patience: 0 });
}

/** Come back to a page's running turn; null when there is none. */
export async function resumeTurn(page, options) {
  const asking = { ...options, headers: named(page), patience: 0 };
  const response = await asked(`chat/${encodeURIComponent(page)}/stream`, asking);
  return response.status === 204 ? null : response;
}

/** Stop a page's turns; tells whether any ran. */
export async function stopTurn(page, options) {
  const asking = { ...options, method: "POST", headers: named(page) };
  const response = await asked(`chat/${encodeURIComponent(page)}/stop`, asking);
  return (await saidIn(response, options.signal)).stopped;
}

/** Return a page's messages, oldest first. */
export async function readHistory(page, options) {
  const asking = { ...options, headers: named(page) };
  const response = await asked(`chat/history?format=ui&page_id=${encodeURIComponent(page)}`, asking);
  return saidIn(response, options.signal);
}

/** Return what the console shows of the server now. */
export async function readServer(options) {
  const response = await asked("ops/console", { ...options, patience: 4_000 });
  return saidIn(response, options.signal);
}

/** Change the limiter; returns it as it is then. */
export async function changeLimiter(wish, options) {
  const response = await asked("ops/limiter", { ...options, method: "PUT", body: JSON.stringify(wish) });
  return saidIn(response, options.signal);
}
