// A small client on the types of docs/openapi.json: fetch, and nothing else. `npm run generate` makes schema.d.ts.

import type { components, operations } from "./schema.js";

type Schemas = components["schemas"];
export type ChatRequest = Schemas["ChatPayload"];
export type ChatAnswer = Schemas["ChatAnswer"];
export type StreamPart = Schemas["StreamPart"];
export type StoredMessage = Schemas["StoredMessage"];
export type UiMessage = Schemas["UiMessage"];
export type Conversation = Schemas["Conversation"];
export type Problem = Schemas["Problem"];
export type ErrorCode = Schemas["ErrorCode"];
type HistoryQuery = NonNullable<operations["history"]["parameters"]["query"]>;
type ConversationsQuery = NonNullable<operations["conversations"]["parameters"]["query"]>;

/** A page of a list; `nextBefore` is what `before` is for the next one, null on the last. */
export interface Page<T> {
  items: T[];
  nextBefore: string | null;
}

/** What every call may be given besides. */
export interface CallOptions {
  signal?: AbortSignal;
  idempotencyKey?: string;
  language?: "en" | "ja";
}

/**
 * The server refused, or failed: `message` may be shown, `code` is what to go by; null when it is none of this server's.
 * `problem` has the rest, unless the answer was the sentence alone, or broke off.
 */
export class ProblemError extends Error {
  constructor(
    message: string,
    readonly status: number,
    readonly code: ErrorCode | null,
    readonly problem: Problem | null,
    readonly traceId: string | null,
  ) {
    super(message);
    this.name = "ProblemError";
  }
}

/** The stream ended before `[DONE]`: what came of the answer is not all of it. */
export class CutOffError extends Error {
  constructor() {
    super("the stream was cut off");
    this.name = "CutOffError";
  }
}

/** Where the server is, and who asks: `token` is asked before each request, so it may be renewed. */
export interface ClientOptions {
  baseUrl: string;
  token: () => string | Promise<string>;
  fetch?: typeof fetch;
}

export class ChatClient {
  private readonly send: typeof fetch;

  constructor(private readonly options: ClientOptions) {
    this.send = (options.fetch ?? fetch).bind(globalThis); // as a method of anything else a browser's refuses
  }

  /** Ask, and return the whole answer. */
  async chat(request: ChatRequest, options: CallOptions = {}): Promise<ChatAnswer> {
    const response = await this.call("POST", "/chat", options, request);
    return (await response.json()) as ChatAnswer;
  }

  /** Ask, and yield the parts of the answer as they come; leaving the loop ends the turn, unless it is to go on. */
  async *chatStream(request: ChatRequest, options: CallOptions = {}): AsyncGenerator<StreamPart, void, void> {
    const response = await this.call("POST", "/chat/stream", options, request);
    yield* partsOf(response);
  }

  /** Come back to a chat's turn: its parts from the start on; none when there is no such turn. */
  async *resume(chatId: string, options: CallOptions = {}): AsyncGenerator<StreamPart, void, void> {
    const response = await this.call("GET", `/chat/${encodeURIComponent(chatId)}/stream`, options);
    if (response.status !== 204) yield* partsOf(response);
  }

  /** Stop a chat's turn; return whether there was one. */
  async stop(chatId: string, options: CallOptions = {}): Promise<boolean> {
    const response = await this.call("POST", `/chat/${encodeURIComponent(chatId)}/stop`, options);
    return ((await response.json()) as Schemas["Stopped"]).stopped;
  }

  /** Return a page of a conversation's messages, oldest first. */
  async history(query: Omit<HistoryQuery, "format"> = {}, options: CallOptions = {}): Promise<Page<StoredMessage>> {
    return this.page<StoredMessage>("/chat/history", query, options);
  }

  /** Return a page of a conversation's messages as the AI SDK's `useChat` begins with them. */
  async uiHistory(query: Omit<HistoryQuery, "format"> = {}, options: CallOptions = {}): Promise<Page<UiMessage>> {
    return this.page<UiMessage>("/chat/history", { ...query, format: "ui" }, options);
  }

  /** Return a page of the user's conversations, newest activity first. */
  async conversations(query: ConversationsQuery = {}, options: CallOptions = {}): Promise<Page<Conversation>> {
    return this.page<Conversation>("/conversations", query, options);
  }

  /** Make a conversation, or return the one that has this page key. */
  async makeConversation(wanted: Schemas["NewConversation"] = {}, options: CallOptions = {}): Promise<Conversation> {
    const response = await this.call("POST", "/conversations", options, wanted);
    return (await response.json()) as Conversation;
  }

  /** Rename a conversation. */
  async rename(id: string, title: string, options: CallOptions = {}): Promise<Conversation> {
    const response = await this.call("PATCH", `/conversations/${encodeURIComponent(id)}`, options, { title });
    return (await response.json()) as Conversation;
  }

  /** Delete a conversation. */
  async remove(id: string, options: CallOptions = {}): Promise<void> {
    await this.call("DELETE", `/conversations/${encodeURIComponent(id)}`, options);
  }

  private async page<T>(path: string, query: object, options: CallOptions): Promise<Page<T>> {
    const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null);
    const search = String(new URLSearchParams(given.map(([name, value]) => [name, String(value)])));
    const response = await this.call("GET", search ? `${path}?${search}` : path, options);
    return { items: (await response.json()) as T[], nextBefore: response.headers.get("x-next-before") };
  }

  private async call(method: string, path: string, options: CallOptions, body?: unknown): Promise<Response> {
    const headers: Record<string, string> = { authorization: `Bearer ${await this.options.token()}` };
    if (options.language) headers["accept-language"] = options.language;
    if (options.idempotencyKey) headers["idempotency-key"] = options.idempotencyKey;
    if (body !== undefined) headers["content-type"] = "application/json";
    const response = await this.send(this.options.baseUrl.replace(/\/$/, "") + path, {
      method,
      headers,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      ...(options.signal ? { signal: options.signal } : {}),
    });
    if (!response.ok) throw await failure(response);
    return response;
  }
}

async function failure(response: Response): Promise<ProblemError> {
  const type = response.headers.get("content-type") ?? "";
  const text = await response.text().catch(() => ""); // it may break off
  const problem = type.startsWith("application/problem+json") ? problemIn(text) : null;
  const sentence = problem?.detail ?? (type.startsWith("text/plain") ? text : "");
  const code = problem?.code ?? (response.headers.get("x-error-code") as ErrorCode | null);
  const traceId = response.headers.get("x-trace-id");
  return new ProblemError(sentence || `HTTP ${response.status}`, response.status, code, problem, traceId);
}

function problemIn(text: string): Problem | null {
  try {
    return JSON.parse(text) as Problem | null;
  } catch {
    return null;
  }
}

/** Yield the parts of a stream; comments and what the stream is cut into are nobody's business. */
async function* partsOf(response: Response): AsyncGenerator<StreamPart, void, void> {
  if (response.body === null) throw new CutOffError();
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) throw new CutOffError();
      text += decoder.decode(value, { stream: true });
      const events = text.split(/\r?\n\r?\n/); // a border that is cut in two waits in `text` for its other half
      text = events.pop() ?? "";
      for (const event of events) {
        if (!event.startsWith("data: ")) continue;
        const data = event.slice("data: ".length);
        if (data === "[DONE]") return;
        yield JSON.parse(data) as StreamPart;
      }
    }
  } finally {
    await reader.cancel();
  }
}
