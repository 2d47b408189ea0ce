import { assert, fact, load } from "./facts.mjs";

const { blocks } = await load("markdown.js");
const html = (text) => blocks(text).join("");
const REL = 'target="_blank" rel="noopener noreferrer nofollow"';

fact("markup of the model's own is text", () => {
  for (const text of ["<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "a <b onclick=x>c</b>", "<!-- x -->", "```\n</code><script>\n```"]) {
    assert.doesNotMatch(html(text), /<(?!\/?(?:p|pre|code)>)/);
  }
});

for (const address of ["javascript:alert(1)", "JaVaScRiPt:alert(1)", "vbscript:x", "data:text/html,x", "data:image/png;base64,x", "file:///etc/passwd", "/ops/settings", "//evil.example", "#x", "&#106;avascript:alert(1)", "java\tscript:x"]) {
  fact(`${JSON.stringify(address)} is no link, and no picture's either`, () => {
    for (const text of [`[x](${address})`, `![x](${address})`, `<${address}>`, `[x]\n\n[x]: ${address}`]) assert.doesNotMatch(html(text), /<a|<img/);
  });
}

for (const address of ["https://example.org/?a=1&b=2", "http://example.org", "mailto:ann@example.org"]) {
  fact(`${address} is a link that tells nobody where it was followed from`, () => {
    const escaped = address.replaceAll("&", "&amp;");
    assert.equal(html(`[x](${address})`), `<p><a href="${escaped}" ${REL}>x</a></p>\n`);
  });
}

fact("a bare address stays text", () => assert.doesNotMatch(html("see https://example.org"), /<a/));

fact("a picture is shown as a link to it, and within a link as its text", () => {
  assert.equal(html("![a cat](https://example.org/cat.png)"), `<p><a href="https://example.org/cat.png" ${REL}>a cat</a></p>\n`);
  assert.match(html("![](https://e.org/?a=1&lt=2)"), /<a href="https:\/\/e.org\/\?a=1&amp;lt=2" [^>]+>https:.*&amp;lt=2<\/a>/);
  assert.equal(html("[![a cat](https://e.org/c.png)](https://e.org)"), `<p><a href="https://e.org" ${REL}>a cat</a></p>\n`);
  assert.doesNotMatch(html('![" onerror="x](https://e.org/"x)'), /<img|" onerror/);
});

fact("a table's cells are put to their side by a class, for a style the page's policy forbids", () => {
  const table = html("| a | b | c |\n|:--|--:|:-:|\n| 1 | 2 | 3 |");
  assert.match(table, /<th class="to-left">a.*<td class="to-right">2.*<td class="to-center">3/s);
  assert.doesNotMatch(table, /style/);
});

fact("each block comes by itself, so that what is done needs no drawing again", () => {
  const text = "One\n\n- two\n- three\n\n```py\nfour()\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n---\n\n> five";
  assert.deepEqual(blocks(text).map((block) => /^<(\w+)/.exec(block)[1]), ["p", "ul", "pre", "table", "hr", "blockquote"]);
  const more = blocks(`${text}\n\nsix`);
  assert.deepEqual(more.slice(0, -1), blocks(text));
});

fact("what is nested beyond all measure is shown as it came, with nothing left out", () => {
  assert.deepEqual(blocks(`${"> ".repeat(2000)}<deep>`), [`<p class="plain-text">${"&gt; ".repeat(2000)}&lt;deep&gt;</p>`]);
});

fact("links that are explained elsewhere in the text are found, whatever block they are in", () => {
  assert.match(html("see [x]\n\n[x]: https://example.org"), /<a href="https:\/\/example.org"/);
});

fact("an answer of 20,000 characters is parsed in far less time than it takes to come", () => {
  const text = "Some *words* with `code`, and a [link](https://example.org). ".repeat(340);
  const began = performance.now();
  blocks(text);
  assert.ok(performance.now() - began < 2_000); // it takes some 10 ms
});
