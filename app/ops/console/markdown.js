// An answer's Markdown as elements. What a model says is a stranger's text: no markup of its own passes, no picture is
// loaded, and a link leads to the web or to a letter, and tells nobody where it was followed from.

import markdownIt from "./vendor/markdown-it.esm.min.js";

/** What is nested deeper is no writing; the parser would leave it out, so the text is shown as it came. */
const DEEPEST = 60;
const SAFE_LINK = /^(?:https?:|mailto:)/i;

/** Return the parser, with everything off that could fetch, or be, something. */
function parser() {
  const made = markdownIt({ html: false, linkify: false, typographer: false, breaks: true });
  made.validateLink = (address) => SAFE_LINK.test(address.trim());
  made.renderer.rules.link_open = (tokens, index, options, _env, self) => {
    const token = tokens[index];
    token.attrSet("target", "_blank");
    token.attrSet("rel", "noopener noreferrer nofollow");
    return self.renderToken(tokens, index, options);
  };
  made.renderer.rules.th_open = made.renderer.rules.td_open = aligned;
  made.renderer.rules.image = (tokens, index, options, env, self) => {
    const token = tokens[index];
    const text = made.utils.escapeHtml(self.renderInlineAsText(token.children ?? [], options, env) || token.attrGet("src"));
    if (isInLink(tokens, index)) return text;
    const address = made.utils.escapeHtml(token.attrGet("src"));
    return `<a href="${address}" target="_blank" rel="noopener noreferrer nofollow">${text}</a>`;
  };
  return made;
}

/** A cell's side is written as a style, which the page's policy forbids; as a class it is allowed. */
function aligned(tokens, index, options, _env, self) {
  const token = tokens[index];
  const side = /text-align:\s*(right|center|left)/.exec(token.attrGet("style") ?? "")?.[1];
  token.attrs = side ? [["class", `to-${side}`]] : null;
  return self.renderToken(tokens, index, options);
}

function isInLink(tokens, index) {
  const before = tokens.slice(0, index).map((token) => token.type);
  return before.lastIndexOf("link_open") > before.lastIndexOf("link_close");
}

/** Return the HTML of each block of a text, in order: a paragraph, a list, a table, a piece of code. */
export function blocks(text, made = shared) {
  const env = {};
  const tokens = made.parse(text, env);
  if (tokens.some(({ level }) => level >= DEEPEST)) return [`<p class="plain-text">${made.utils.escapeHtml(text)}</p>`];
  const html = [];
  for (let from = 0, index = 0; index < tokens.length; index += 1) {
    if (tokens[index].level === 0 && tokens[index].nesting <= 0) {
      html.push(made.renderer.render(tokens.slice(from, index + 1), made.options, env));
      from = index + 1;
    }
  }
  return html;
}

const shared = parser();

// The one place where a text becomes elements; only what `blocks` made comes here.
const policy = globalThis.trustedTypes?.createPolicy("console", { createHTML: (html) => html });
const trusted = (html) => (policy ? policy.createHTML(html) : html);

/**
 * Show a text in an element. Blocks that are as they were stay as they are, so what is selected stays selected, and a
 * long answer costs the browser no more at its end than at its start.
 */
export function showMarkdown(element, text) {
  const wanted = blocks(text);
  const shown = (element.shownBlocks ??= []);
  wanted.forEach((html, index) => {
    if (shown[index] === html) return;
    const block = element.children[index] ?? element.appendChild(document.createElement("div"));
    block.innerHTML = trusted(html);
    if (block.querySelector("pre, table")) block.tabIndex = 0; // wide ones scroll by themselves, by keyboard too
    else block.removeAttribute("tabindex");
  });
  while (element.children.length > wanted.length) element.lastElementChild.remove();
  element.shownBlocks = wanted;
}
