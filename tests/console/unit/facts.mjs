// How each fact is written here: a sentence, and what shows it. Node's own runner counts them.
import assert from "node:assert/strict";
import { test } from "node:test";

export const ROOT = new URL("../../../app/ops/console/", import.meta.url);
export const load = (name) => import(new URL(name, ROOT));
export const fact = (sentence, show) => test(sentence, show);
export const near = (one, other, by = 1e-9) => assert.ok(Math.abs(one - other) <= by, `${one} is not ${other}`);
export { assert };
