// Asks again and again while somebody looks: each second, less often while it fails, one request at a time.

const EVERY_MS = 1_000;
const MOST_MS = 5_000;

/**
 * Begin; returns `now()`, which asks at once.
 *
 * `ask(signal)` asks, `told(answer, askedAt)` and `failed(error)` hear of it.
 */
export function poll({ ask, told, failed }) {
  let timer = 0;
  let wait = EVERY_MS;
  let running = null;

  async function once() {
    const abort = new AbortController();
    running = abort;
    const askedAt = performance.now() / 1000;
    try {
      const answer = await ask(abort.signal);
      if (running !== abort) return;
      wait = EVERY_MS;
      told(answer, askedAt);
    } catch (error) {
      if (running !== abort) return;
      wait = Math.min(MOST_MS, wait * 1.5);
      failed(error);
    }
    running = null;
    later();
  }

  function later() {
    clearTimeout(timer);
    if (document.visibilityState === "visible") timer = setTimeout(once, wait);
  }

  function now() {
    clearTimeout(timer);
    running?.abort();
    once();
  }

  document.addEventListener("visibilitychange", () => {
    if (document.visibilityState === "visible") now();
    else clearTimeout(timer);
  });
  now();
  return now;
}
