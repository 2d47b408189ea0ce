// The versions of the AI SDK that are installed: the newest and the first of lines 5 and 6, each with its own `ai`.
import { createRequire } from "node:module";

const require = createRequire(new URL("./npm/package.json", import.meta.url));
export const NAMES = ["sdk5", "sdk5first", "sdk6", "sdk6first"];

export function load(name) {
  const ai = createRequire(require.resolve(name))("ai");
  return { ...ai, useChat: require(name).useChat };
}

export const { createElement } = require("react");
export const { create } = require("react-test-renderer");
