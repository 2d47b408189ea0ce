import { assert, fact, load } from "./facts.mjs";

const { areaPath, ceiling, recent, stepPath } = await load("sparkline.js");
const box = { now: 100, span: 100, width: 100, height: 10, top: 10 };
const pick = (sample) => sample.used;

fact("a figure holds until the next sample, in steps", () => {
  const samples = [{ at: 95, used: 2 }, { at: 97, used: 5 }, { at: 100, used: 5 }];
  assert.equal(stepPath(samples, pick, box), "M95 8H97V5H100V5");
});

fact("the last figure holds until now", () => {
  assert.equal(stepPath([{ at: 99, used: 1 }], pick, box), "M99 9H100");
});

fact("nothing is drawn where nothing was known", () => {
  const samples = [{ at: 10, used: 1 }, { at: 11, used: 1 }, { at: 98, used: 1 }];
  assert.equal(stepPath(samples, pick, box), "M10 9H11V9M98 9H100");
});

fact("the area is closed down to the axis", () => {
  assert.equal(areaPath([{ at: 98, used: 4 }, { at: 100, used: 4 }], pick, box), "M98 6H100V6H100V10H98Z");
});

fact("of what is too old, the last is kept for the left edge", () => {
  const samples = [1, 2, 3, 60, 90].map((at) => ({ at, used: 0 }));
  assert.deepEqual(recent(samples, 100, 50).map(({ at }) => at), [3, 60, 90]);
  assert.deepEqual(recent([{ at: 1 }], 1000, 50), []);
  assert.ok(stepPath([{ at: -50, used: 3 }, { at: -46, used: 3 }], pick, box).startsWith("M0 7"));
});

for (const [figures, top] of [[[], 1], [[1], 1], [[3, 2], 4], [[10], 10], [[11], 20], [[64], 80], [[150], 200]]) {
  fact(`an axis for ${figures} ends at ${top}`, () => assert.equal(ceiling(figures), top));
}
