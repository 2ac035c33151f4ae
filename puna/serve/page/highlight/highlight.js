// Source text -> coloured pieces, in one pass and without an idea of grammar.
//
// Comments, strings, numbers, words and called names are what the eye needs; each is found by a rule that
// reads forward only. Markup and differences have their own small rules. Very long code stays plain.

import { languageOf } from "./languages.js";

const LONGEST = 60_000; // characters; longer code would slow the page down while it streams

/** Return pieces `{kind, text}`; joined, their texts are the given text. */
export function highlight(name, text) {
  if (text.length > LONGEST) return [{ kind: "", text }];
  if (name === "diff" || name === "patch") return text.split(/(?<=\n)/).map((line) => ({ kind: lineKind(line), text: line }));
  if (["html", "xml", "svg", "vue", "xhtml"].includes(name)) return markup(text);
  const language = languageOf(name);
  return language ? pieces(language, text) : [{ kind: "", text }];
}

function lineKind(line) {
  if (line.startsWith("@@") || line.startsWith("diff ")) return "function";
  return { "+": "added", "-": "removed" }[line[0]] ?? "";
}

function pieces(language, text) {
  const out = [];
  const push = (kind, piece) => {
    if (out.at(-1)?.kind === kind) out.at(-1).text += piece;
    else out.push({ kind, text: piece });
  };
  let isLineStart = true;
  for (let at = 0; at < text.length; ) {
    const [kind, end] = pieceAt(language, text, at, isLineStart);
    const piece = text.slice(at, end);
    push(kind, piece);
    isLineStart = piece === "\n" || (isLineStart && !piece.trim());
    at = end;
  }
  return out;
}

const WORD = /[A-Za-z_$][\w$]*/y;
const NUMBER = /(?:0[xob][\da-f_]+|\d[\d_]*(?:\.[\d_]+)?(?:e[+-]?\d+)?)[a-z]{0,4}/iy;
const VARIABLE = /\$(?:\w+|\{[^}\n]{0,100}\}|[@#?!*])/y;
const BLANK = /[^\S\n]+|\n/y;
const PROPERTY = /[\w-]+(?=[^\S\n]{0,9}[:=])/y;
const SECTION = /\[[^\]\n]{0,200}\]+/y;
const DIRECTIVE = /#[^\S\n]{0,9}[a-z]+/y;

function match(rule, text, at) {
  rule.lastIndex = at;
  return rule.test(text) ? rule.lastIndex : -1;
}

function pieceAt(language, text, at, isLineStart) {
  const blank = match(BLANK, text, at);
  if (blank > 0) return ["", blank];
  const comment = commentEnd(language, text, at);
  if (comment > 0) return ["comment", comment];
  const quote = language.quotes.find((mark) => text.startsWith(mark, at));
  if (quote) {
    const end = stringEnd(text, at, quote);
    const isName = language.properties && /^[^\S\n]{0,9}:/.test(text.slice(end, end + 10));
    return [isName ? "property" : "string", end];
  }
  const special = specialEnd(language, text, at, isLineStart);
  if (special) return special;
  const number = match(NUMBER, text, at);
  if (number > 0) return ["number", number];
  const word = match(WORD, text, at);
  if (word > 0) return [wordKind(language, text, at, word), word];
  return ["", at + (text.codePointAt(at) > 0xffff ? 2 : 1)];
}

function commentEnd(language, text, at) {
  for (const [open, close] of language.block) {
    if (!text.startsWith(open, at)) continue;
    const end = text.indexOf(close, at + open.length);
    return end < 0 ? text.length : end + close.length;
  }
  const isLine = language.line.some((mark) => text.startsWith(mark, at));
  const isPart = text[at] === "#" && /\S/.test(text[at - 1] ?? " "); // $#, a#b
  if (!isLine || isPart) return -1;
  const end = text.indexOf("\n", at);
  return end < 0 ? text.length : end;
}

function stringEnd(text, at, quote) {
  const isLong = quote.length === 3 || quote === "`";
  for (let end = at + quote.length; end < text.length; end += 1) {
    if (text[end] === "\\") end += 1;
    else if (text.startsWith(quote, end)) return end + quote.length;
    else if (text[end] === "\n" && !isLong) return end;
  }
  return text.length;
}

function specialEnd(language, text, at, isLineStart) {
  const rules = [
    [language.variables, VARIABLE, "property"],
    [language.directives && isLineStart, DIRECTIVE, "word"],
    [language.sections && isLineStart, SECTION, "function"],
    [language.properties, PROPERTY, "property"],
  ];
  for (const [isOn, rule, kind] of rules) {
    const end = isOn ? match(rule, text, at) : -1;
    if (end > 0) return [kind, end];
  }
  return null;
}

function wordKind(language, text, at, end) {
  const word = text.slice(at, end);
  if (language.words.has(language.foldsCase ? word.toLowerCase() : word) && text[at - 1] !== ".") return "word";
  if (text[end] === "(") return "function";
  return /^[A-Z]/.test(word) && /[a-z]/.test(word) ? "type" : "";
}

const MARKUP = /(<!--[^]*?(?:-->|$))|(<\/?[A-Za-z][\w:-]*|\/?>)|(?<==)("[^"<>]*"|'[^'<>]*')|(&#?\w{1,10};)|([\w:-]+(?==))/g;

function markup(text) {
  const out = [];
  let at = 0;
  for (const found of text.matchAll(MARKUP)) {
    if (found.index > at) out.push({ kind: "", text: text.slice(at, found.index) });
    const kind = ["comment", "word", "string", "number", "property"][found.slice(1).findIndex((part) => part !== undefined)];
    out.push({ kind, text: found[0] });
    at = found.index + found[0].length;
  }
  if (at < text.length) out.push({ kind: "", text: text.slice(at) });
  return out;
}
