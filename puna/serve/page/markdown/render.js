// A tree of Markdown -> nodes of the page. The only place where a model's text meets the document.
//
// What it makes is a closed list of elements without ids, styles or listeners of the text's own. Links lead
// to http, https or mail and nowhere else; pictures become links, so that reading an answer asks no server
// for anything.

import { element } from "../element.js";
import { codeBlock } from "./code.js";
import { mathsNode } from "../maths/render.js";
import { parseBlocks } from "./blocks.js";
import { parseInline } from "./inline.js";

const DEEPEST = 40; // emphasis within emphasis

/** Render a whole text. */
export function renderMarkdown(text) {
  return parseBlocks(text).map(renderBlock);
}

/** Render one block of the tree. */
export function renderBlock(block) {
  return BLOCKS[block.kind](block);
}

const BLOCKS = {
  paragraph: ({ text }) => element("p", { dir: "auto" }, renderInline(text)),
  // The page's own heading is h1; those of an answer come below it.
  heading: ({ level, text }) => element(`h${Math.min(6, level + 1)}`, { class: `h${level}`, dir: "auto" }, renderInline(text)),
  rule: () => element("hr"),
  quote: ({ blocks }) => element("blockquote", { dir: "auto" }, blocks.map(renderBlock)),
  code: ({ language, text }) => codeBlock(language, text),
  maths: ({ text, closed }) => mathsNode(text, { isDisplay: true, isWhole: closed }),
  list: renderList,
  table: renderTable,
};

function renderList({ ordered, first, items, isLoose }) {
  const start = ordered && first !== 1 ? first : null;
  return element(ordered ? "ol" : "ul", { start, dir: "auto" }, items.map((item) => renderItem(item, isLoose)));
}

function renderItem({ blocks, isTask, isDone }, isLoose) {
  const inner = blocks.map((block) => (block.kind === "paragraph" && !isLoose ? renderInline(block.text) : renderBlock(block)));
  if (!isTask) return element("li", {}, inner);
  const state = isDone ? "done" : "open";
  return element("li", { class: `task ${state}` }, element("span", { class: "box", role: "img", "aria-label": state }), inner);
}

function renderTable({ align, head, rows }) {
  const cells = (tag, row) => row.map((text, at) => element(tag, { class: align[at] || null, dir: "auto" }, renderInline(text)));
  return element("div", { class: "table", tabindex: "0", role: "group", "aria-label": "Table" },
    element("table", {},
      element("thead", {}, element("tr", {}, cells("th", head))),
      element("tbody", {}, rows.map((row) => element("tr", {}, cells("td", row))))));
}

/** Render the text of one block. */
export function renderInline(text) {
  return parseInline(text).map((node) => renderNode(node, 0));
}

function renderNode(node, depth) {
  if (depth > DEEPEST) return textOf(node);
  const inner = () => node.nodes.map((child) => renderNode(child, depth + 1));
  switch (node.kind) {
    case "text": return node.text;
    case "break": return element("br");
    case "code": return element("code", { dir: "ltr" }, node.text);
    case "maths": return mathsNode(node.text, { isDisplay: node.isDisplay, isWhole: true });
    case "strong": return element("strong", {}, inner());
    case "emphasis": return element("em", {}, inner());
    case "strike": return element("del", {}, inner());
    case "link": return link(node.address, inner());
    case "image": return link(node.address, [textOf(node) || "picture"], "picture");
    default: throw new Error(`no inline node is called ${node.kind}`);
  }
}

function textOf(node) {
  return node.text ?? (node.nodes ?? []).map(textOf).join("");
}

function link(address, inner, kind = null) {
  const safe = safeAddress(address);
  if (!safe) return element("span", { class: "no-link", title: "This link leads to no web page and was left out." }, inner);
  const title = safe.length > 300 ? `${safe.slice(0, 300)}…` : safe; // the words of a link may say another address
  return element("a", { href: safe, title, class: kind, target: "_blank", rel: "noopener noreferrer nofollow" }, inner);
}

/** Return the address in full when it is one a click may follow, else null. */
export function safeAddress(address) {
  if (!/^(https?:\/\/|mailto:)/i.test(address)) return null; // also refuses addresses relative to this page
  const url = URL.canParse(address) ? new URL(address) : null;
  return url && ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
}
