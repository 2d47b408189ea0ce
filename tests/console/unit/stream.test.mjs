import { assert, fact, load } from "./facts.mjs";

const { eventReader, partOf, readParts } = await load("stream.js");
const encoder = new TextEncoder();
const parts = [
  { type: "start", messageId: "1" },
  { type: "text-delta", id: "text", delta: "暗いところでも\u2028🌱 育ちます\n\n" },
  { type: "finish" },
];
const wire = parts.map((part) => `data: ${JSON.stringify(part)}\n\n`).join(": ping\n\n") + "data: [DONE]\n\n";

function fed(bytes, size) {
  const reader = eventReader();
  const events = [];
  for (let at = 0; at < bytes.length; at += size) events.push(...reader.take(bytes.slice(at, at + size)));
  return events.map(partOf).filter(Boolean);
}

for (const size of [1, 2, 3, 5, 7, 1000]) {
  fact(`the same parts come out of pieces of ${size} bytes, also when one cuts a character in two`, () => {
    assert.deepEqual(fed(encoder.encode(wire), size), parts);
  });
}

for (const [name, end] of [["CR LF", "\r\n"], ["CR", "\r"]]) {
  fact(`lines may end with ${name}, cut anywhere`, () => {
    const bytes = encoder.encode(`${wire.replaceAll("\n", end)}`);
    for (const size of [1, 2, 1000]) assert.deepEqual(fed(bytes, size), parts);
  });
}

fact("the lines of one event are joined, and fields that are not data are left out", () => {
  const events = eventReader().take(encoder.encode("event: x\nid: 3\ndata: {\ndata:}\nretry: 1\n\n"));
  assert.deepEqual(events, ["{\n}"]);
});

fact("an end of line that is cut in two is one, also between the lines of one event", () => {
  const reader = eventReader();
  const events = [..."data: a\r\ndata: b\r\n\r\n"].flatMap((letter) => reader.take(encoder.encode(letter)));
  assert.deepEqual(events, ["a\nb"]);
});

fact("an event that the end cut off is none, and leaves nothing for the next", () => {
  const reader = eventReader();
  assert.deepEqual(reader.take(encoder.encode('data: {"a"')), []);
  reader.end();
  assert.deepEqual(reader.take(encoder.encode('data: {"b":1}\n\n')), ['{"b":1}']);
});

fact("what is not a part is not taken for one", () => {
  for (const data of ["[DONE]", "", "null", "7", "{", "{}", '{"type":3}']) assert.equal(partOf(data), null);
});

fact("a body is read to its end, and a break of the line is told", async () => {
  const told = [];
  const whole = new Response(encoder.encode(wire)).body;
  await readParts(whole, (part) => told.push(part.type));
  assert.deepEqual(told, ["start", "text-delta", "finish"]);
  const broken = new ReadableStream({
    start(controller) {
      controller.enqueue(encoder.encode(wire.slice(0, 60)));
      controller.error(new TypeError("network"));
    },
  });
  await assert.rejects(readParts(broken, () => {}), TypeError);
});
