// A block of code: its language, a button that copies it, and highlighted lines.
//
// Signs that turn the direction of text can make code read otherwise than it runs ("Trojan Source",
// CVE-2021-42574); they are shown by their number.

import { element } from "../element.js";
import { icon } from "../icons.js";
import { copyText } from "../clipboard.js";
import { highlight } from "../highlight/highlight.js";

const TURNS = /([\u202a-\u202e\u2066-\u2069\u200e\u200f])/;

/** Show code; `language` is the word after the fence, and may be empty. */
export function codeBlock(language, text) {
  const code = element("code", { dir: "ltr" }, colouredCode(language, text));
  const name = /^[\w+#.-]{1,24}$/.test(language) ? language : "";
  const copy = element("button", { type: "button", class: "quiet copy", "aria-label": "Copy code" }, icon("copy"), "Copy");
  copy.addEventListener("click", () => copyText(code.dataset.source, copy));
  code.dataset.source = text;
  return element("div", { class: "code", dir: "ltr" },
    element("div", { class: "code-head" }, element("span", {}, name || "text"), copy),
    element("pre", { tabindex: "0", role: "group", "aria-label": name ? `Code, ${name}` : "Code" }, code));
}

/** Give a shown code block its longer text; false when these are not two states of one code block. */
export function growCode(node, before, after) {
  if (before.kind !== "code" || after.kind !== "code" || before.language !== after.language) return false;
  if (!after.text.startsWith(before.text)) return false;
  const code = node.querySelector("code");
  code.replaceChildren(...colouredCode(after.language, after.text));
  code.dataset.source = after.text;
  return true;
}

/** Return highlighted nodes of some code. */
export function colouredCode(language, text) {
  return highlight(language, text).map(({ kind, text: piece }) => {
    const shown = piece.split(TURNS).map((part) => (TURNS.test(part) ? turn(part) : part)).filter((part) => part !== "");
    return kind ? element("span", { class: `hl-${kind}` }, shown) : shown;
  }).flat();
}

function turn(sign) {
  const number = `U+${sign.codePointAt(0).toString(16).toUpperCase()}`;
  return element("span", { class: "turned", title: "A sign that turns the direction of text" }, number);
}
