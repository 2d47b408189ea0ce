import { assert, fact, load } from "./facts.mjs";

const { LANGUAGES, WORDS, language, onSpeak, orAsIs, speak, t, whereTimeWent } = await load("words.js");
const nothing = { model: 0, queue: 0, fetch: 0, save: 0, agent: 0, rest: 0 };
const plain = (text) => text.replace(/[\u00a0\u2009]/g, " ");

fact("each language says the same things, with the same gaps", () => {
  const gaps = (text) => [...text.matchAll(/\{(\w+)\}/g)].map(([, name]) => name).sort().join();
  for (const name of LANGUAGES) {
    assert.deepEqual(Object.keys(WORDS[name]), Object.keys(WORDS.en));
    for (const [key, text] of Object.entries(WORDS[name])) assert.equal(gaps(text), gaps(WORDS.en[key]), `${name} ${key}`);
  }
});

fact("the sentence says where the time went, and what came before and after", () => {
  speak("en");
  const sums = { ...nothing, model: 1.4, fetch: 0.031, save: 0.004, queue: 0.0001 };
  assert.equal(
    plain(whereTimeWent(sums, 1.49, "done")),
    "The model took 94 % of 1.49 s; 31 ms went on reading before it, 4.0 ms were spent on the database after it.",
  );
  speak("ja");
  assert.equal(
    plain(whereTimeWent(sums, 1.49, "done")),
    "1.49 s のうち 94 % がモデルの時間でした（その前の読み込みに 31 ms、その後のデータベースに 4.0 ms）。",
  );
});

for (const name of ["en", "ja"]) {
  fact(`whatever took longest, the sentence is whole (${name})`, () => {
    speak(name);
    for (const kind of Object.keys(nothing)) {
      assert.match(whereTimeWent({ ...nothing, [kind]: 2 }, 2, "done"), name === "en" ? /^[A-Z][^{};]+[^;]\.$/ : /^[^{}（）]+。$/);
    }
    for (const state of ["failed", "stopped", "cut"]) assert.match(whereTimeWent(nothing, 0, state), /[.。]$/);
  });
}

fact("another language is told to who draws words, and one that is not known is English", () => {
  let heard = 0;
  onSpeak(() => (heard += 1));
  speak("ja");
  assert.deepEqual([language(), t("send"), heard], ["ja", "送信", 1]);
  speak("de");
  assert.deepEqual([language(), t("send")], ["en", "Send"]);
});

fact("what a newer server says is shown as it is, and no sentence is looked up by a stranger's name", () => {
  assert.equal(orAsIs("stage.", "safety"), "safety");
  assert.equal(orAsIs("", "toString"), "toString");
});
