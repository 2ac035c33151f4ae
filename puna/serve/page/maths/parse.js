// Signs of LaTeX -> a tree of mathematics: a small recursive descent over a bounded source.
//
// It never fails half-way: whatever it does not understand throws `MathsError`, and the caller shows the
// source instead. Nodes are plain objects; render.js turns them into MathML.

import * as symbols from "./symbols.js";
import { readSigns } from "./read.js";

const DEEPEST = 100;
const LONGEST = 8_000; // characters

/** The source is not mathematics that this page can set. */
export class MathsError extends Error {}

/** Return the tree of a source. */
export function parseMaths(source) {
  if (source.length > LONGEST) throw new MathsError("too long");
  const reader = { source, signs: readSigns(source), at: 0, depth: 0 };
  const rows = readRows(reader, () => false);
  if (reader.at < reader.signs.length) throw new MathsError("a brace closes what was not opened");
  return rows.length === 1 && rows[0].length === 1 ? rows[0][0] : { kind: "table", rows, fences: ["", ""], style: "aligned" };
}

function peek(reader) {
  while (reader.signs[reader.at]?.kind === "space") reader.at += 1;
  return reader.signs[reader.at];
}

function take(reader) {
  const sign = peek(reader);
  if (!sign) throw new MathsError("the source ends too early");
  reader.at += 1;
  return sign;
}

const isCommand = (sign, name) => sign?.kind === "command" && sign.text === name;
const isSign = (sign, text) => sign?.kind === "sign" && sign.text === text;

/** Read rows (`\\`) of cells (`&`) until `isEnd`, which stays unread. */
function readRows(reader, isEnd) {
  const rows = [[]];
  const stops = (sign) => isEnd(sign) || isSign(sign, "&") || isCommand(sign, "\\") || isCommand(sign, "cr");
  for (;;) {
    rows.at(-1).push(readRow(reader, stops));
    const sign = peek(reader);
    if (!sign || isEnd(sign) || sign.kind === "close") break;
    reader.at += 1;
    if (isSign(sign, "&")) continue;
    if (isSign(reader.signs[reader.at], "[")) readUntil(reader, "]"); // the extra space of `\\[2pt]`
    while (isCommand(peek(reader), "hline")) reader.at += 1;
    rows.push([]);
  }
  const last = rows.at(-1);
  if (rows.length > 1 && last.length === 1 && last[0].items?.length === 0) rows.pop();
  return rows;
}

function readRow(reader, stops) {
  reader.depth += 1;
  if (reader.depth > DEEPEST) throw new MathsError("too deep");
  const items = [];
  for (let sign = peek(reader); sign && sign.kind !== "close" && !stops(sign); sign = peek(reader)) {
    const before = reader.at;
    const infix = isCommand(sign, "over") || isCommand(sign, "choose") ? sign.text : null;
    if (infix) {
      reader.at += 1;
      const below = readRow(reader, stops);
      const above = row(items.splice(0));
      items.push(infix === "over" ? { kind: "fraction", above, below } : binomial(above, below));
    } else {
      const item = readScripts(reader, readAtom(reader));
      if (item) items.push(item);
    }
    if (reader.at === before) throw new MathsError(`'${sign.text}' stands where nothing can be read`);
  }
  reader.depth -= 1;
  return row(items);
}

const row = (items) => (items.length === 1 ? items[0] : { kind: "row", items });

function readScripts(reader, start) {
  let below = null;
  let above = null;
  let placing = start?.isMovable ? "auto" : "side";
  for (;;) {
    const sign = peek(reader);
    if (isCommand(sign, "limits") || isCommand(sign, "nolimits")) {
      reader.at += 1;
      placing = sign.text === "limits" ? "under" : "side";
    } else if (isSign(sign, "_") && !below) {
      reader.at += 1;
      below = readArgument(reader);
    } else if (isSign(sign, "^") && (!above || above.isPrimes)) {
      reader.at += 1;
      above = above ? row([above, readArgument(reader)]) : readArgument(reader);
    } else if (isSign(sign, "'") && !above) {
      above = readPrimes(reader);
    } else if (isSign(sign, "_") || isSign(sign, "^")) {
      throw new MathsError("a second script stands where one is possible");
    } else {
      break;
    }
  }
  if (!below && !above) return start;
  return { kind: "scripts", inner: start ?? row([]), below, above, placing };
}

function readPrimes(reader) {
  let count = 0;
  for (; isSign(peek(reader), "'"); reader.at += 1) count += 1;
  return { kind: "operator", text: "′".repeat(count), isPrimes: true };
}

/** Read `{...}` or one sign. */
function readArgument(reader) {
  const sign = peek(reader);
  if (sign?.kind === "open") return readGroup(reader);
  if (sign?.kind === "sign" && /\d/.test(sign.text)) return { kind: "number", text: take(reader).text }; // x^12 is x^1 2
  if (isSign(sign, "_") || isSign(sign, "^") || isSign(sign, "&")) throw new MathsError("an argument is missing");
  return readAtom(reader) ?? row([]);
}

function readGroup(reader) {
  if (take(reader).kind !== "open") throw new MathsError("a brace is expected");
  const inner = readRow(reader, () => false);
  if (take(reader).kind !== "close") throw new MathsError("a brace is not closed");
  return inner;
}

/** Return the raw source between braces. */
function readWords(reader) {
  if (take(reader).kind !== "open") throw new MathsError("a brace is expected");
  const start = reader.signs[reader.at - 1].end;
  for (let depth = 1; reader.at < reader.signs.length; reader.at += 1) {
    const sign = reader.signs[reader.at];
    depth += { open: 1, close: -1 }[sign.kind] ?? 0;
    if (depth > 0) continue;
    reader.at += 1;
    return reader.source.slice(start, sign.at);
  }
  throw new MathsError("a brace is not closed");
}

function readUntil(reader, end) {
  const start = reader.at;
  while (!isSign(take(reader), end)) continue;
  return reader.signs.slice(start, reader.at).map((sign) => sign.text).join("");
}

function readAtom(reader) {
  reader.depth += 1;
  if (reader.depth > DEEPEST) throw new MathsError("too deep");
  const atom = atomAt(reader);
  reader.depth -= 1;
  return atom;
}

function atomAt(reader) {
  const sign = peek(reader);
  if (!sign || sign.kind === "close") throw new MathsError("an argument is missing");
  if (sign.kind === "open") return readGroup(reader);
  if (sign.kind === "command") return readCommand(reader, take(reader).text);
  if (isSign(sign, "_") || isSign(sign, "^")) return null; // scripts of nothing, as in ^{14}C
  if (/[\d.]/.test(sign.text) && /\d/.test(reader.source.slice(sign.at, sign.at + 2))) return readNumber(reader);
  reader.at += 1;
  if (sign.text === "~") return { kind: "space", width: 0.25 };
  if (/\p{L}/u.test(sign.text)) return { kind: "letter", text: sign.text };
  return { kind: "operator", text: { "-": "−", "*": "∗", "'": "′" }[sign.text] ?? sign.text };
}

function readNumber(reader) {
  let text = "";
  for (let sign = reader.signs[reader.at]; sign?.kind === "sign"; sign = reader.signs[reader.at]) {
    const next = reader.signs[reader.at + 1];
    const isPart = /\d/.test(sign.text) || (/[.,]/.test(sign.text) && next?.kind === "sign" && /\d/.test(next.text) && isGrouped(reader, sign.text));
    if (!isPart) break;
    text += sign.text;
    reader.at += 1;
  }
  return { kind: "number", text };
}

/** A comma belongs to a number when three digits and no fourth follow it. */
function isGrouped(reader, sign) {
  if (sign === ".") return true;
  const after = reader.source.slice(reader.signs[reader.at].end);
  return /^\d{3}(?!\d)/.test(after);
}

function readCommand(reader, name) {
  if (Object.hasOwn(SHAPES, name)) return SHAPES[name](reader, name);
  const plain = name.replace(/\*$/, "");
  if (symbols.LETTERS.has(name)) return { kind: "letter", text: symbols.LETTERS.get(name), isUpright: /^(?:[A-Z]|[^a-z])/.test(name) };
  if (symbols.OPERATORS.has(name)) return { kind: "operator", text: symbols.OPERATORS.get(name), isFixed: true };
  if (symbols.LARGE.has(name)) return { kind: "large", text: symbols.LARGE.get(name), isMovable: true };
  if (symbols.INTEGRALS.has(name)) return { kind: "large", text: symbols.INTEGRALS.get(name) };
  if (symbols.FUNCTIONS.has(name)) return { kind: "function", text: name.replace(/^(lim|arg)(inf|sup|max|min)$/, "$1 $2"), isMovable: symbols.LIMITS.has(name) };
  if (symbols.ACCENTS.has(name)) return { kind: "over", inner: readArgument(reader), mark: symbols.ACCENTS.get(name), isStretched: symbols.STRETCHED.has(name), isMovable: name === "overbrace" };
  if (symbols.UNDERS.has(name)) return { kind: "under", inner: readArgument(reader), mark: symbols.UNDERS.get(name), isMovable: name === "underbrace" };
  if (symbols.SPACES.has(name)) return { kind: "space", width: symbols.SPACES.get(name) };
  if (symbols.ALPHABET_OF.has(name)) return { kind: "alphabet", name: symbols.ALPHABET_OF.get(name), inner: readArgument(reader) };
  if (symbols.TEXTS.has(plain)) return { kind: "text", text: readWords(reader), style: name };
  if ("{}[]%$#&_|".includes(name)) return { kind: "operator", text: name === "|" ? "‖" : name };
  throw new MathsError(`\\${name} is not known`);
}

const binomial = (above, below) => ({ kind: "fenced", open: "(", close: ")", inner: { kind: "fraction", above, below, isBare: true } });
const nothing = () => row([]);

function readFraction(reader, name) {
  const above = readArgument(reader);
  return { kind: "fraction", above, below: readArgument(reader), style: { dfrac: "display", cfrac: "display", tfrac: "text" }[name] };
}

function readRoot(reader) {
  let index = null;
  if (isSign(peek(reader), "[")) {
    reader.at += 1;
    index = readRow(reader, (sign) => isSign(sign, "]"));
    if (!isSign(take(reader), "]")) throw new MathsError("a bracket is not closed");
  }
  return { kind: "root", inner: readArgument(reader), index };
}

function delimiter(reader) {
  const { kind, text } = take(reader);
  if (kind === "command") return symbols.OPERATORS.get(text) ?? { "|": "‖", "{": "{", "}": "}" }[text] ?? failDelimiter(text);
  return text === "." ? "" : { "<": "⟨", ">": "⟩" }[text] ?? text;
}

function failDelimiter(text) {
  throw new MathsError(`\\${text} is no delimiter`);
}

function readFenced(reader) {
  const open = delimiter(reader);
  const parts = [];
  const isEnd = (sign) => isCommand(sign, "right") || isCommand(sign, "middle");
  for (;;) {
    const rows = readRows(reader, isEnd);
    parts.push(rows.length === 1 && rows[0].length === 1 ? rows[0][0] : { kind: "table", rows, fences: ["", ""], style: "matrix" });
    const mark = take(reader);
    if (isCommand(mark, "right")) break;
    if (!isCommand(mark, "middle")) throw new MathsError("\\left has no \\right");
    parts.push({ kind: "operator", text: delimiter(reader), isFence: true });
  }
  return { kind: "fenced", open, close: delimiter(reader), inner: row(parts) };
}

function readEnvironment(reader) {
  const name = readWords(reader).trim();
  const plain = name.replace(/\*$/, "");
  const fences = symbols.ENVIRONMENTS.get(plain);
  if (!fences) throw new MathsError(`the environment ${name} is not known`);
  const columns = plain === "array" || plain === "alignat" ? readWords(reader).replace(/[^lcr]/g, "") : "";
  while (isCommand(peek(reader), "hline")) reader.at += 1;
  const rows = readRows(reader, (sign) => isCommand(sign, "end"));
  if (!isCommand(take(reader), "end") || readWords(reader).trim() !== name) throw new MathsError(`${name} has no end`);
  const isAligned = ["aligned", "align", "alignat", "split", "eqnarray"].includes(plain);
  const style = isAligned ? "aligned" : plain.endsWith("cases") ? "cases" : "matrix";
  return { kind: "table", rows, fences, style, columns };
}

function readSubstack(reader) {
  take(reader);
  const rows = readRows(reader, (sign) => sign.kind === "close");
  if (take(reader).kind !== "close") throw new MathsError("a brace is not closed");
  return { kind: "table", rows, fences: ["", ""], style: "matrix" };
}

function stacked(reader, name) {
  const mark = readArgument(reader);
  const inner = readArgument(reader);
  return { kind: "scripts", inner, below: name === "underset" ? mark : null, above: name === "underset" ? null : mark, placing: "under" };
}

function readArrow(reader, name) {
  let below = null;
  if (isSign(peek(reader), "[")) below = { kind: "text", text: (take(reader), readUntil(reader, "]").slice(0, -1)) };
  const inner = { kind: "operator", text: name === "xleftarrow" ? "←" : "→", isFence: true };
  return { kind: "scripts", inner, above: readArgument(reader), below, placing: "under" };
}

function readBig(reader) {
  return { kind: "operator", text: delimiter(reader), isFence: true, isBig: true };
}

function readNot(reader) {
  const inner = readAtom(reader);
  return { kind: "operator", text: `${inner?.text ?? ""}\u0338` };
}

const skipWords = (reader) => (readWords(reader), row([]));
const upright = (text) => [{ kind: "space", width: 0.4 }, { kind: "text", text }, { kind: "space", width: 0.3 }];

const SHAPES = {
  frac: readFraction, dfrac: readFraction, tfrac: readFraction, cfrac: readFraction,
  binom: (reader) => { const above = readArgument(reader); return binomial(above, readArgument(reader)); },
  sqrt: readRoot, left: readFenced, begin: readEnvironment, substack: readSubstack,
  overset: stacked, underset: stacked, stackrel: stacked, xrightarrow: readArrow, xleftarrow: readArrow,
  operatorname: (reader) => ({ kind: "function", text: readWords(reader).replace(/\\[,;: ]/g, " ") }),
  "operatorname*": (reader) => ({ kind: "function", text: readWords(reader).replace(/\\[,;: ]/g, " "), isMovable: true }),
  pmod: (reader) => row([...upright("(mod"), readArgument(reader), { kind: "operator", text: ")" }]),
  mod: () => row(upright("mod")), bmod: () => row(upright("mod")),
  not: readNot, boxed: (reader) => ({ kind: "boxed", inner: readArgument(reader) }), fbox: (reader) => ({ kind: "boxed", inner: { kind: "text", text: readWords(reader) } }),
  cancel: (reader) => ({ kind: "struck", inner: readArgument(reader) }),
  phantom: (reader) => ({ kind: "phantom", inner: readArgument(reader) }), hphantom: (reader) => ({ kind: "phantom", inner: readArgument(reader) }),
  tag: (reader) => row([{ kind: "space", width: 2 }, { kind: "text", text: `(${readWords(reader)})` }]), "tag*": (reader) => row([{ kind: "space", width: 2 }, { kind: "text", text: readWords(reader) }]),
  big: readBig, Big: readBig, bigg: readBig, Bigg: readBig, bigl: readBig, bigr: readBig, Bigl: readBig, Bigr: readBig, biggl: readBig, biggr: readBig, Biggl: readBig, Biggr: readBig, bigm: readBig,
  displaystyle: nothing, textstyle: nothing, scriptstyle: nothing, nonumber: nothing, notag: nothing, "": nothing,
  color: skipWords, label: skipWords, textcolor: (reader) => (readWords(reader), readArgument(reader)), mathstrut: nothing,
  ensuremath: readArgument, mathrel: readArgument, mathbin: readArgument, mathopen: readArgument, mathclose: readArgument, rm: nothing,
};
