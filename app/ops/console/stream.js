// Server-sent events out of bytes, as they come: a piece may end anywhere, even within a character. Pure.

const LINE_END = /\r\n|\n|\r/;

/** Return a reader: `take(bytes)` gives the data of each event that has become whole, `end()` forgets the rest. */
export function eventReader() {
  const decoder = new TextDecoder();
  let waiting = "";
  let data = [];

  function line(text, events) {
    if (text === "") {
      if (data.length) events.push(data.join("\n"));
      data = [];
      return;
    }
    if (text.startsWith("data:")) data.push(text.slice(text[5] === " " ? 6 : 5));
  }

  return {
    take(bytes) {
      waiting += decoder.decode(bytes, { stream: true });
      const events = [];
      // A \r at the very end may be the first half of \r\n, so it has to wait.
      const held = waiting.endsWith("\r") ? "\r" : "";
      const lines = waiting.slice(0, waiting.length - held.length).split(LINE_END);
      waiting = lines.pop() + held;
      for (const text of lines) line(text, events);
      return events;
    },
    end() {
      waiting = "";
      data = [];
    },
  };
}

/** Return a part of the stream from an event's data; null for `[DONE]` and for what is not ours to read. */
export function partOf(data) {
  if (data === "[DONE]") return null;
  try {
    const part = JSON.parse(data);
    return part && typeof part.type === "string" ? part : null;
  } catch {
    return null;
  }
}

/** Give `tell` every part of a response's body until it ends; rejects when the connection breaks. */
export async function readParts(body, tell) {
  const reader = body.getReader();
  const events = eventReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return events.end();
    for (const data of events.take(value)) {
      const part = partOf(data);
      if (part) tell(part);
    }
  }
}
