// What a page remembers: of this tab until it is closed, of this browser for good. A browser that keeps nothing is fine.

const PREFIX = "console.";

function store(area) {
  const open = () => {
    try {
      return globalThis[area] ?? null;
    } catch {
      return null; // storage that is forbidden throws when it is only looked at
    }
  };
  return {
    get(name, otherwise = null) {
      try {
        const text = open()?.getItem(PREFIX + name);
        return text === null || text === undefined ? otherwise : JSON.parse(text);
      } catch {
        return otherwise;
      }
    },
    set(name, value) {
      try {
        if (value === null) open()?.removeItem(PREFIX + name);
        else open()?.setItem(PREFIX + name, JSON.stringify(value));
      } catch {
        // full, or forbidden: then it is not remembered
      }
    },
  };
}

/** Of this tab: tokens, the page's key, what was typed. */
export const tab = store("sessionStorage");

/** Of this browser: language and colours. */
export const browser = store("localStorage");

/** Return a random name of so many hex digits; `crypto.randomUUID` is for pages that came over TLS only. */
export function randomName(digits) {
  const bytes = crypto.getRandomValues(new Uint8Array(Math.ceil(digits / 2)));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("").slice(0, digits);
}
