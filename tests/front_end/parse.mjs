// The AI SDK's own parsers. Each line of stdin, a JSON string, is a UI message stream; each line of stdout tells, by
// version, the message that came of it and what went wrong: {sdk5: {message, error, chunks}, ...}. "validate" as an
// argument: each line is a UIMessage[], and the answer tells what is wrong with it.
import { createInterface } from "node:readline";
import { writeSync } from "node:fs";
import { load, NAMES } from "./sdk.mjs";

const versions = Object.fromEntries(NAMES.map((name) => [name, load(name)]));

async function parse({ DefaultChatTransport, readUIMessageStream }, text) {
  const transport = new DefaultChatTransport({ fetch: async () => new Response(text) });
  const chunks = await transport.sendMessages({ chatId: "c", messages: [], trigger: "submit-message" });
  const result = { message: null, error: null, chunks: 0 };
  const counted = chunks.pipeThrough(new TransformStream({
    transform(chunk, controller) {
      result.chunks++;
      controller.enqueue(chunk);
    },
  }));
  const onError = (error) => { result.error ??= String(error?.message ?? error).slice(0, 200); };
  for await (const message of readUIMessageStream({ stream: counted, onError })) result.message = message;
  return result;
}

async function validate(version, text) {
  const { validateUIMessages } = version;
  const messages = JSON.parse(text);
  try {
    if (validateUIMessages) await validateUIMessages({ messages });
    await version.convertToModelMessages(messages);
    return { error: null };
  } catch (error) {
    return { error: String(error?.message ?? error).slice(0, 200) };
  }
}

const judge = process.argv[2] === "validate" ? validate : parse;
for await (const line of createInterface({ input: process.stdin })) {
  const verdicts = {};
  for (const [name, version] of Object.entries(versions)) verdicts[name] = await judge(version, JSON.parse(line));
  writeSync(1, JSON.stringify(verdicts) + "\n");
}
