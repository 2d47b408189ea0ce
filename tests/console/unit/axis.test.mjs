import { assert, fact, load, near } from "./facts.mjs";

const { duration, eased, labelSide, niceEnd, percent, tickStep, tickText, ticks } = await load("axis.js");

for (const [seconds, end] of [[0, 0.02], [0.021, 0.025], [0.99, 1], [1, 1], [1.49, 1.5], [1.51, 2], [4.1, 5], [9.9, 10], [10.1, 12], [55, 60]]) {
  fact(`an axis for ${seconds} s ends at ${end} s`, () => near(niceEnd(seconds), end));
}

for (const [end, most, expected] of [
  [1.5, 6, [0, 0.5, 1, 1.5]],
  [2, 10, [0, 0.2, 0.4, 0.6, 0.8, 1, 1.2, 1.4, 1.6, 1.8, 2]],
  [0.12, 4, [0, 0.05, 0.1]],
  [60, 5, [0, 20, 40, 60]],
]) {
  fact(`the ticks of ${end} s with room for ${most} are round`, () => assert.deepEqual(ticks(end, most), expected));
}

fact("no axis has more ticks than there is room for, and each lies on it", () => {
  for (let end = 0.02; end < 100; end *= 1.37) {
    for (let most = 1; most < 14; most += 1) {
      const all = ticks(end, most);
      assert.ok(all.length <= most + 1 && all.at(-1) <= end * 1.000001, `${end} ${most}`);
    }
  }
});

fact("the ticks of an axis have one unit, and the digits that their step needs", () => {
  assert.deepEqual(ticks(1.5, 6).map((at) => tickText(at, tickStep(1.5, 6))), ["0", "0.5\u00a0s", "1.0\u00a0s", "1.5\u00a0s"]);
  assert.deepEqual([0, 0.02, 0.04].map((at) => tickText(at, 0.02)), ["0", "20\u00a0ms", "40\u00a0ms"]);
  assert.equal(tickText(20, 20), "20\u00a0s");
});

for (const [seconds, text] of [
  [null, "–"], [undefined, "–"], [NaN, "–"], [0, "0 ms"], [0.0004, "0.4 ms"], [0.00996, "10 ms"], [0.031, "31 ms"], [0.9994, "999 ms"],
  [0.9996, "1.00 s"], [1.494, "1.49 s"], [9.994, "9.99 s"], [9.996, "10.0 s"], [12.34, "12.3 s"], [119.9, "119.9 s"], [125, "2 min 05 s"], [119.97, "2 min 00 s"],
]) {
  fact(`${seconds} s is written ${text}`, () => assert.equal(duration(seconds).replaceAll("\u00a0", " "), text));
}

fact("a little is not nothing, and almost all is not all", () => {
  const told = [0, 0.004, 0.944, 0.996, 1].map((share) => percent(share).replace(/[\u00a0\u2009]/g, " "));
  assert.deepEqual(told, ["0 %", "< 1 %", "94 %", "> 99 %", "100 %"]);
});

fact("a figure stands after its bar, before it where there is no room, and inside where there is none at all", () => {
  assert.equal(labelSide(10, 100, 300, 50), "after");
  assert.equal(labelSide(250, 290, 300, 50), "before");
  assert.equal(labelSide(10, 290, 300, 50), "inside");
});

fact("the drawn end of the axis arrives, and never overshoots", () => {
  for (const wanted of [2, 0.5]) {
    let drawn = 1;
    for (let frames = 0; drawn !== wanted; frames += 1) {
      const next = eased(drawn, wanted, 1 / 60);
      assert.ok(wanted > 1 ? next >= drawn && next <= wanted : next <= drawn && next >= wanted);
      assert.ok(frames < 120);
      drawn = next;
    }
  }
});
