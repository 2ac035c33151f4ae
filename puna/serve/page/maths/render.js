// A tree of mathematics -> MathML Core, which the browser itself sets and reads aloud.
//
// The source stays inside as an annotation, so that copying a formula gives its LaTeX back.

import { element } from "../element.js";
import { inAlphabet } from "./letters.js";
import { MathsError, parseMaths } from "./parse.js";

const MATHML = "http://www.w3.org/1998/Math/MathML";

function m(tag, attributes = {}, ...children) {
  const node = document.createElementNS(MATHML, tag);
  for (const [name, value] of Object.entries(attributes)) if (value) node.setAttribute(name, String(value));
  node.append(...children.flat());
  return node;
}

/** Return a node for a source; a source that is not understood, or not yet whole, is shown as it is. */
export function mathsNode(source, { isDisplay, isWhole }) {
  const host = element(isDisplay ? "div" : "span", { class: isDisplay ? "maths display" : "maths", dir: "ltr" });
  if (isDisplay) for (const [name, value] of [["tabindex", "0"], ["role", "group"], ["aria-label", "Formula"]]) host.setAttribute(name, value);
  const tree = isWhole ? tryParse(source) : null;
  if (!tree) {
    host.classList.add(isWhole ? "source" : "pending");
    host.append(element("code", {}, source.trim()));
    return host;
  }
  const annotation = m("annotation", { encoding: "application/x-tex" }, source.trim());
  const style = isDisplay ? { display: "block" } : {};
  host.append(m("math", style, m("semantics", {}, m("mrow", {}, show(tree, { isDisplay })), annotation)));
  return host;
}

function tryParse(source) {
  try {
    return parseMaths(source);
  } catch (error) {
    if (error instanceof MathsError) return null;
    throw error;
  }
}

function show(node, style) {
  return SHOWN[node.kind](node, style);
}

const shown = (inner, style) => m("mrow", {}, show(inner, style));
const empty = () => m("mrow");
const inner = (style) => ({ ...style, isDisplay: false });

function letter({ text, isUpright }, style) {
  const name = style.alphabet;
  if (name && name !== "upright" && name !== "italic") return m("mi", { mathvariant: "normal" }, inAlphabet(text, name));
  return m("mi", { mathvariant: name === "upright" || isUpright ? "normal" : null }, text);
}

const FENCES = new Set("()[]{}|‖⟨⟩⌈⌉⌊⌋⟦⟧");

function operator({ text, isFence, isBig }) {
  const isBare = FENCES.has(text) && !isFence; // only \left and \right grow
  const isBar = isBare && "|‖".includes(text); // an infix bar would stand apart from what it measures
  const size = isBig ? { minsize: "1.6em", maxsize: "1.6em", symmetric: "true" } : {};
  return m("mo", { stretchy: isBare ? "false" : isFence ? "true" : null, lspace: isBar ? "0" : null, rspace: isBar ? "0" : null, ...size }, text);
}

function fraction({ above, below, isBare, style: size }, style) {
  const attributes = { linethickness: isBare ? "0" : null, displaystyle: size ? String(size === "display") : null };
  const within = inner(style);
  const made = m("mfrac", { linethickness: attributes.linethickness }, shown(above, within), shown(below, within));
  return size ? m("mstyle", { displaystyle: attributes.displaystyle, scriptlevel: "0" }, made) : made;
}

function scripts({ inner: start, below, above, placing }, style) {
  const isUnder = placing === "under" || (placing === "auto" && (style.isDisplay || start.kind === "over" || start.kind === "under"));
  const kinds = isUnder ? ["munder", "mover", "munderover"] : ["msub", "msup", "msubsup"];
  const parts = [below, above].filter(Boolean).map((part) => shown(part, inner(style)));
  return m(kinds[below && above ? 2 : above ? 1 : 0], {}, show(start, style), parts);
}

function over({ inner: start, mark, isStretched }, style) {
  return m("mover", { accent: "true" }, shown(start, style), m("mo", { stretchy: isStretched ? "true" : "false" }, mark));
}

function alphabet({ name, inner: start }, style) {
  return shown(start, { ...style, alphabet: name });
}

function words({ text, style: name }) {
  const kind = { textbf: "bold", textit: "italic", texttt: "mono" }[name] ?? null;
  const parts = text.split("$"); // \text may hold mathematics between dollars
  if (parts.length % 2 === 0 || parts.length === 1) return m("mtext", { class: kind }, kept(text));
  return m("mrow", {}, parts.map((part, at) => (at % 2 ? show(parseMaths(part), { isDisplay: false }) : m("mtext", { class: kind }, kept(part)))));
}

/** Spaces at the ends of text would be dropped by the browser. */
function kept(text) {
  return text.replace(/\\([{}%$#&_ ])/g, "$1").replace(/^\s+|\s+$/g, "\u00a0");
}

function table({ rows, fences, style: kind, columns }, style) {
  const within = { ...style, isDisplay: kind === "aligned" };
  const cell = (node, at) => m("mtd", { class: sideOf(kind, columns, at) }, show(node, within));
  const body = m("mtable", { class: kind, displaystyle: kind === "aligned" ? "true" : null }, rows.map((cells) => m("mtr", {}, cells.map(cell))));
  const [open, close] = fences;
  if (!open && !close) return body;
  return m("mrow", {}, fence(open, "prefix"), body, fence(close, "postfix"));
}

function sideOf(kind, columns, at) {
  if (columns) return { l: "left", r: "right" }[columns[at]] ?? null;
  if (kind === "aligned") return at % 2 ? "left" : "right";
  return kind === "cases" ? "left" : null;
}

function fence(text, form) {
  return text ? m("mo", { form, fence: "true", stretchy: "true", symmetric: "true" }, text) : empty();
}

/** A thin space stands beside the name of a function where no sign or fence does. */
function apart(items, at) {
  const isName = (node) => node?.kind === "function" || (node?.kind === "scripts" && node.inner.kind === "function");
  const isWord = (node) => node && !["operator", "fenced", "space"].includes(node.kind);
  const isNeeded = (isName(items[at - 1]) && isWord(items[at])) || (isName(items[at]) && isWord(items[at - 1]) && items[at - 1].kind !== "large");
  return isNeeded ? [m("mspace", { width: "0.167em" })] : [];
}

const SHOWN = {
  row: ({ items }, style) => m("mrow", {}, items.map((item, at) => [...apart(items, at), show(item, style)]).flat()),
  letter, operator, fraction, scripts, over, alphabet, table,
  number: ({ text }, style) => m("mn", {}, style.alphabet ? inAlphabet(text, style.alphabet) : text),
  large: ({ text }) => m("mo", { largeop: "true", movablelimits: "false" }, text),
  function: ({ text }) => m("mi", { mathvariant: "normal" }, text),
  under: ({ inner: start, mark }, style) => m("munder", { accentunder: "true" }, shown(start, style), m("mo", { stretchy: "true" }, mark)),
  text: words,
  space: ({ width }) => m("mspace", { width: `${width}em` }),
  fenced: ({ open, close, inner: start }, style) => m("mrow", {}, fence(open, "prefix"), shown(start, style), fence(close, "postfix")),
  root: ({ inner: start, index }, style) => (index ? m("mroot", {}, shown(start, style), shown(index, style)) : m("msqrt", {}, show(start, style))),
  boxed: ({ inner: start }, style) => m("mrow", { class: "boxed" }, show(start, style)),
  struck: ({ inner: start }, style) => m("mrow", { class: "struck" }, show(start, style)),
  phantom: ({ inner: start }, style) => m("mphantom", {}, show(start, style)),
};
