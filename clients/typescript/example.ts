// How the client is used; compiled in a test, so that it stays true.

import { ChatClient, ProblemError } from "./client.js";

export async function example(show: (text: string) => void, baseUrl = "http://127.0.0.1:8000"): Promise<void> {
  const client = new ChatClient({ baseUrl, token: () => "demo" });
  try {
    for await (const part of client.chatStream({ message: "Why do leaves turn red?" })) {
      switch (part.type) {
        case "text-delta":
          show(part.delta);
          break;
        case "data-queue":
          show(`place ${part.data.position} in the queue`);
          break;
        case "error":
          show(part.errorText);
          break;
        case "finish":
          show(`in ${part.messageMetadata.performance_metrics.total_time} s`);
          break;
      }
    }
    const answer = await client.chat({ message: "And why not all of them?" }, { idempotencyKey: "leaves-2" });
    for (const warning of answer.warnings) show(warning.detail);
    let before: string | null = null;
    do {
      const page: Awaited<ReturnType<typeof client.history>> = await client.history({
        conversation_id: answer.conversation_id,
        ...(before === null ? {} : { before }),
      });
      for (const message of page.items) show(`${message.sender}: ${message.message}`);
      before = page.nextBefore;
    } while (before !== null);
    const { items } = await client.conversations({ q: "leaves", limit: 10 });
    show(items[0]?.title ?? "none");
  } catch (error) {
    if (!(error instanceof ProblemError)) throw error;
    show(error.message);
    if (error.code === "rate_limited") show(`again in ${error.problem?.retry_after ?? 1} s`);
  }
}
