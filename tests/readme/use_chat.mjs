// The useChat example of a document, as it is written: compiled, rendered without a browser, typed into and submitted.
//
//   node use_chat.mjs SDK FILE TYPESCRIPT QUESTION
//
// Prints JSON: {growth: the texts that were on the page, in order; left: what is in the input at the end}.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { create, createElement, load } from "../front_end/sdk.mjs";

const [name, file, typescript, question] = process.argv.slice(2);
const ours = createRequire(new URL("../front_end/npm/package.json", import.meta.url));
const ts = createRequire(import.meta.url)(typescript);
const sdk = load(name);
const modules = { ai: sdk, "@ai-sdk/react": sdk };
setTimeout(() => process.exit(3), 40_000).unref();

// So that the end of an answer is known, however long the machine takes.
const reading = new Set();
let asked = 0;
const { fetch } = globalThis;
globalThis.fetch = async (...request) => {
  const number = ++asked;
  reading.add(number);
  const response = await fetch(...request);
  const seen = new TransformStream({ flush: () => reading.delete(number) });
  return new Response(response.body.pipeThrough(seen), response);
};

function compiled(path) {
  const { JsxEmit, ModuleKind, ScriptTarget } = ts;
  const options = { jsx: JsxEmit.ReactJSX, module: ModuleKind.CommonJS, target: ScriptTarget.ES2022 };
  const { outputText } = ts.transpileModule(readFileSync(path, "utf8"), { compilerOptions: options, fileName: path });
  const module = { exports: {} };
  new Function("require", "module", "exports", outputText)((want) => modules[want] ?? ours(want), module, module.exports);
  return module.exports.default;
}

// All text that the page shows, one line for each piece.
function shown(node) {
  if (node == null) return "";
  if (typeof node === "string") return node;
  return Array.isArray(node) ? node.map(shown).join("\n") : shown(node.children);
}

const pause = () => new Promise((resolve) => setTimeout(resolve, 5));
const page = create(createElement(compiled(file)));
const input = () => page.root.find((node) => node.type === "input" || node.type === "textarea");

async function until(holds) {
  while (!holds()) await pause();
}

input().props.onChange({ target: { value: question } });
await until(() => input().props.value === question);
page.root.findByType("form").props.onSubmit({ preventDefault() {} });
const growth = [];
for (let quiet = 0; quiet < 10; await pause()) {
  const text = shown(page.toJSON());
  if (text !== growth.at(-1)) growth.push(text);
  quiet = asked > 0 && reading.size === 0 ? quiet + 1 : 0;
}
process.stdout.write(JSON.stringify({ growth, left: input().props.value }) + "\n");
process.exit(0);
