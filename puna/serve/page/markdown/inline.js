// The text of one block -> a list of inline nodes: words, emphasis, code, links, mathematics, line breaks.
//
// One pass from left to right; emphasis is settled afterwards with the delimiter rules of CommonMark 0.31,
// section 6.2. Links keep their address as text: whether it may be followed is decided in render.js.

const MOST_MARKS = 1500; // a block with more emphasis marks than any person writes shows them as text
const LONGEST_MATHS = 2000;

/** Return the nodes of one block of text. */
export function parseInline(text) {
  const reader = { text, at: 0, nodes: [], brackets: [], marks: 0, deadTicks: new Set() };
  while (reader.at < text.length) {
    const read = READERS[text[reader.at]];
    if (!read || !read(reader)) takeWords(reader);
  }
  return emphasised(reader.nodes);
}

const READERS = {
  "\\": readEscape,
  "`": readCode,
  $: readDollars,
  "*": readMarks,
  _: readMarks,
  "~": readMarks,
  "[": openBracket,
  "!": openImage,
  "]": closeBracket,
  "<": readAngle,
  "\n": readBreak,
  h: readAddress,
};

const STOPS = /[\\`$*_~[\]!<\n]|https?:\/\//g;

function takeWords(reader) {
  STOPS.lastIndex = reader.at + 1;
  const next = STOPS.exec(reader.text)?.index ?? reader.text.length;
  pushText(reader.nodes, reader.text.slice(reader.at, next));
  reader.at = next;
}

function pushText(nodes, text) {
  const last = nodes.at(-1);
  if (last?.kind === "text") last.text += text;
  else nodes.push({ kind: "text", text });
}

function readEscape(reader) {
  const next = reader.text[reader.at + 1];
  if (next === "(" && takeMaths(reader, "\\(", "\\)", false)) return true;
  if (next === "[" && takeMaths(reader, "\\[", "\\]", true)) return true;
  if (next === "\n") {
    reader.nodes.push({ kind: "break" });
  } else if (next && /[!-/:-@[-`{-~]/.test(next)) {
    pushText(reader.nodes, next);
  } else {
    return false;
  }
  reader.at += 2;
  return true;
}

function takeMaths(reader, open, close, isDisplay) {
  const start = reader.at + open.length;
  const window = reader.text.slice(start, start + LONGEST_MATHS);
  const end = window.indexOf(close);
  if (end < 1 || !window.slice(0, end).trim()) return false;
  reader.nodes.push({ kind: "maths", text: window.slice(0, end), isDisplay });
  reader.at = start + end + close.length;
  return true;
}

/** A dollar opens mathematics before a visible sign and closes it after one, not before a digit (as in Pandoc). */
function readDollars(reader) {
  const { text, at } = reader;
  if (text[at + 1] === "$") return takeMaths(reader, "$$", "$$", true);
  if (/[A-Za-z_]/.test(text[at - 1] ?? " ")) return false; // US$5
  if (!/[^\s$]/.test(text[at + 1] ?? " ")) return false;
  const window = text.slice(at + 1, at + 1 + LONGEST_MATHS);
  const found = /(?<!\\)\$/.exec(window);
  const end = found?.index ?? 0;
  if (end < 1 || /\s/.test(window[end - 1]) || /\d/.test(window[end + 1] ?? "") || window[end + 1] === "$") return false;
  if (window.slice(0, end).includes("\n\n")) return false;
  reader.nodes.push({ kind: "maths", text: window.slice(0, end), isDisplay: false });
  reader.at += end + 2;
  return true;
}

function runAt(text, at) {
  let end = at;
  while (text[end] === text[at]) end += 1;
  return end - at;
}

function readCode(reader) {
  const { text, at } = reader;
  const size = runAt(text, at);
  if (!reader.deadTicks.has(size)) {
    for (let end = text.indexOf("`", at + size); end >= 0; ) {
      const other = runAt(text, end);
      if (other === size) {
        const body = text.slice(at + size, end).replace(/\n/g, " ");
        const isPadded = /^ .* $/.test(body) && body.trim();
        reader.nodes.push({ kind: "code", text: isPadded ? body.slice(1, -1) : body });
        reader.at = end + size;
        return true;
      }
      end = text.indexOf("`", end + other);
    }
    reader.deadTicks.add(size); // no run of this size follows: do not look again
  }
  pushText(reader.nodes, text.slice(at, at + size));
  reader.at += size;
  return true;
}

const SPACE = /[\s]/u;
const PUNCTUATION = /[\p{P}\p{S}]/u;

function readMarks(reader) {
  const { text, at } = reader;
  const sign = text[at];
  const count = runAt(text, at);
  if ((reader.marks += 1) > MOST_MARKS || (sign === "~" && count !== 2)) {
    pushText(reader.nodes, text.slice(at, at + count));
    reader.at += count;
    return true;
  }
  const before = text[at - 1] ?? " ";
  const after = text[at + count] ?? " ";
  const isLeft = !SPACE.test(after) && (!PUNCTUATION.test(after) || SPACE.test(before) || PUNCTUATION.test(before));
  const isRight = !SPACE.test(before) && (!PUNCTUATION.test(before) || SPACE.test(after) || PUNCTUATION.test(after));
  const isWord = sign === "_";
  const canOpen = isLeft && (!isWord || !isRight || PUNCTUATION.test(before));
  const canClose = isRight && (!isWord || !isLeft || PUNCTUATION.test(after));
  reader.nodes.push({ kind: "marks", sign, count, size: count, canOpen, canClose });
  reader.at += count;
  return true;
}

function openBracket(reader) {
  reader.brackets.push({ index: reader.nodes.length, isImage: false });
  reader.nodes.push({ kind: "text", text: "[" });
  reader.nodes.push({ kind: "text", text: "" }); // words after the bracket must not join it
  reader.at += 1;
  return true;
}

function openImage(reader) {
  if (reader.text[reader.at + 1] !== "[") return false;
  reader.brackets.push({ index: reader.nodes.length, isImage: true });
  reader.nodes.push({ kind: "text", text: "![" });
  reader.nodes.push({ kind: "text", text: "" });
  reader.at += 2;
  return true;
}

// An address may hold brackets one level deep; a title in quotes may follow. Every part is bounded.
const TARGET = /\(\s{0,9}(?:<([^<>\n]{0,2000})>|((?:[^\s()]|\([^\s()]{0,500}\)){0,2000}))(?:\s{1,9}(?:"[^"]{0,500}"|'[^']{0,500}'))?\s{0,9}\)/y;

function closeBracket(reader) {
  const open = reader.brackets.pop();
  if (!open) return false;
  TARGET.lastIndex = reader.at + 1;
  const target = TARGET.exec(reader.text);
  if (!target) return false;
  const inner = emphasised(reader.nodes.splice(open.index).slice(1));
  const address = (target[1] ?? target[2]).replace(/\\([!-/:-@[-`{-~])/g, "$1");
  reader.nodes.push({ kind: open.isImage ? "image" : "link", address, nodes: inner });
  if (!open.isImage) reader.brackets = reader.brackets.filter((other) => other.isImage); // no link within a link
  reader.at = TARGET.lastIndex;
  return true;
}

const ANGLE = /<(?:(https?:\/\/[^\s<>]{1,2000})|([\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8})|(br) {0,3}\/?)>/iy;

function readAngle(reader) {
  ANGLE.lastIndex = reader.at;
  const found = ANGLE.exec(reader.text);
  if (!found) return false;
  const [all, address, mail] = found;
  if (address) reader.nodes.push({ kind: "link", address, nodes: [{ kind: "text", text: address }] });
  else if (mail) reader.nodes.push({ kind: "link", address: `mailto:${mail}`, nodes: [{ kind: "text", text: mail }] });
  else reader.nodes.push({ kind: "break" });
  reader.at += all.length;
  return true;
}

const ADDRESS = /https?:\/\/[^\s<>"`]{1,2000}/y;

function readAddress(reader) {
  if (/\w/.test(reader.text[reader.at - 1] ?? " ")) return false;
  ADDRESS.lastIndex = reader.at;
  const found = ADDRESS.exec(reader.text)?.[0];
  if (!found) return false;
  let address = found.replace(/[.,;:!?*_~'\]]{1,100}$/, "");
  while (address.endsWith(")") && address.split(")").length > address.split("(").length) address = address.slice(0, -1);
  reader.nodes.push({ kind: "link", address, nodes: [{ kind: "text", text: address }] });
  reader.at += address.length;
  return true;
}

/** A new line of the model is a new line on the page: verse and addresses keep their form. */
function readBreak(reader) {
  const last = reader.nodes.at(-1);
  if (last?.kind === "text") last.text = last.text.trimEnd();
  reader.nodes.push({ kind: "break" });
  reader.at += 1;
  return true;
}

function emphasised(nodes) {
  const out = [];
  for (const node of nodes) {
    if (node.kind === "marks" && node.canClose) closeMarks(out, node);
    if (node.kind !== "marks") out.push(node);
    else if (node.count > 0) out.push(node);
  }
  return joined(out);
}

function closeMarks(out, closer) {
  while (closer.count > 0) {
    const at = openerOf(out, closer);
    if (at < 0) return;
    const opener = out[at];
    const size = closer.count >= 2 && opener.count >= 2 ? 2 : 1;
    const kind = closer.sign === "~" ? "strike" : size === 2 ? "strong" : "emphasis";
    const inner = joined(out.splice(at + 1));
    opener.count -= size;
    closer.count -= size;
    if (opener.count === 0) out.pop();
    out.push({ kind, nodes: inner });
  }
}

function openerOf(out, closer) {
  for (let at = out.length - 1; at >= 0; at -= 1) {
    const node = out[at];
    if (node.kind !== "marks" || node.sign !== closer.sign || !node.canOpen) continue;
    const isMixed = (node.canClose || closer.canOpen) && (node.size + closer.size) % 3 === 0;
    if (!isMixed || (node.size % 3 === 0 && closer.size % 3 === 0)) return at;
  }
  return -1;
}

/** Turn marks that found no partner back into text and join neighbouring text. */
function joined(nodes) {
  const out = [];
  for (const node of nodes) {
    if (node.kind === "marks") pushText(out, node.sign.repeat(node.count));
    else if (node.kind === "text") pushText(out, node.text);
    else out.push(node);
  }
  return out;
}
