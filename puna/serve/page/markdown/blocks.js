// Markdown text -> a tree of blocks: headings, lists, tables, fences, quotes, mathematics, paragraphs.
//
// It reads line by line, looks at most one line ahead and never backtracks, so that no text of a model can
// make it slow. It accepts any prefix of a text, as streaming needs: an unclosed fence simply runs to the end.
// Of CommonMark it leaves out what models do not write on purpose: raw HTML (shown as text), code by
// indentation and link definitions.

const DEEPEST = 12; // quotes and lists deeper than this are shown as text

/** Return the blocks of a text; each carries its `source`, so that a view can keep what did not change. */
export function parseBlocks(text) {
  const lines = text.replace(/\r\n?/g, "\n").split("\n").map(widenTabs);
  return blocksOf(lines, 0);
}

function widenTabs(line) {
  if (!/^ *\t/.test(line)) return line;
  const inner = line.trimStart();
  const indent = line.slice(0, line.length - inner.length).replace(/\t/g, "    ");
  return indent + inner;
}

function blocksOf(lines, depth) {
  const blocks = [];
  let at = 0;
  while (at < lines.length) {
    if (!lines[at].trim()) {
      at += 1;
      continue;
    }
    const block = readBlock(lines, at, depth);
    blocks.push({ ...block, source: lines.slice(at, block.to).join("\n") });
    at = block.to;
  }
  return blocks;
}

function readBlock(lines, at, depth) {
  return (
    readFence(lines, at) ??
    readMaths(lines, at) ??
    readHeading(lines, at) ??
    readRule(lines, at) ??
    (depth < DEEPEST ? readQuote(lines, at, depth) ?? readList(lines, at, depth) : null) ??
    readTable(lines, at) ??
    readParagraph(lines, at)
  );
}

const FENCE = /^ {0,3}(`{3,}|~{3,}) *([^`]*)$/;

function readFence(lines, at) {
  const open = FENCE.exec(lines[at]);
  if (!open) return null;
  const indent = lines[at].length - lines[at].trimStart().length;
  const body = [];
  for (let to = at + 1; to < lines.length; to += 1) {
    const bare = lines[to].trim();
    if (bare.length >= open[1].length && [...bare].every((sign) => sign === open[1][0])) {
      return fence(open[2], body, to + 1, true);
    }
    const own = lines[to].length - lines[to].trimStart().length;
    body.push(lines[to].slice(Math.min(indent, own)));
  }
  return fence(open[2], body, lines.length, false);
}

function fence(info, body, to, closed) {
  const language = info.trim().split(/[\s{]/)[0].toLowerCase();
  const text = body.join("\n");
  if (language === "math") return { kind: "maths", text, to, closed };
  return { kind: "code", language, text, to, closed };
}

const MATHS_ENDS = { "$$": "$$", "\\[": "\\]" };
const ENVIRONMENT = /^\\begin\{((?:align|aligned|equation|gather|gathered|multline|cases|[pbvBV]?matrix)\*?)\}/;

function readMaths(lines, at) {
  const start = lines[at].trim();
  const named = ENVIRONMENT.exec(start);
  const mark = named ? "" : start.slice(0, 2);
  const end = named ? `\\end{${named[1]}}` : MATHS_ENDS[mark];
  if (!end) return null;
  const body = [];
  for (let to = at; to < lines.length; to += 1) {
    if (to > at && !lines[to].trim()) return null; // a blank line ends what was never closed
    const line = to === at ? start.slice(mark.length) : lines[to];
    const found = line.indexOf(end, named && to === at ? named[0].length : 0);
    if (found < 0) {
      body.push(line);
      continue;
    }
    if (line.slice(found + end.length).replace(/[.,;:]/, "").trim()) return null; // text follows: it stands in a line
    body.push(named ? line.slice(0, found + end.length) : line.slice(0, found));
    return { kind: "maths", text: body.join("\n"), to: to + 1, closed: true };
  }
  return body.join("").trim() ? { kind: "maths", text: body.join("\n"), to: lines.length, closed: false } : null;
}

function readHeading(lines, at) {
  const found = /^ {0,3}(#{1,6})(?: +(.*))?$/.exec(lines[at]);
  if (!found) return null;
  const text = (found[2] ?? "").trim().replace(/(^|\s)#+$/, "");
  return { kind: "heading", level: found[1].length, text, to: at + 1 };
}

function isRule(line) {
  const bare = line.replace(/\s/g, "");
  return bare.length >= 3 && "-*_".includes(bare[0]) && [...bare].every((sign) => sign === bare[0]);
}

function readRule(lines, at) {
  return isRule(lines[at]) ? { kind: "rule", to: at + 1 } : null;
}

const QUOTED = /^ {0,3}> ?/;

function readQuote(lines, at, depth) {
  if (!QUOTED.test(lines[at])) return null;
  const body = [];
  let to = at;
  for (; to < lines.length && lines[to].trim(); to += 1) {
    if (!QUOTED.test(lines[to]) && startsBlock(lines[to])) break;
    body.push(lines[to].replace(QUOTED, ""));
  }
  return { kind: "quote", blocks: blocksOf(body, depth + 1), to };
}

const ITEM = /^( *)([-*+]|\d{1,9}[.)])( {1,4}(?=\S)| *$| )(.*)$/;

function itemOf(line) {
  const found = isRule(line) ? null : ITEM.exec(line);
  if (!found) return null;
  const mark = found[2];
  const sign = mark.length > 1 ? mark.at(-1) : mark;
  const width = mark.length + Math.max(1, found[3].length);
  return { indent: found[1].length, inner: found[1].length + width, sign, mark, text: found[4] };
}

function readList(lines, at, depth) {
  const first = itemOf(lines[at]);
  if (!first || first.indent > 3) return null;
  const items = [];
  let to = at;
  let isLoose = false;
  while (to < lines.length) {
    const item = itemOf(lines[to]);
    if (!item || item.sign !== first.sign || item.indent > first.indent + 3) break;
    const read = readItem(lines, to, item);
    isLoose ||= read.hasGap && (read.isInside || itemOf(lines[read.to] ?? "")?.sign === first.sign);
    items.push(listItem(read.body, depth));
    to = read.to;
  }
  const ordered = first.mark.length > 1;
  return { kind: "list", ordered, first: ordered ? parseInt(first.mark, 10) : 1, items, isLoose, to };
}

function readItem(lines, at, item) {
  const body = [item.text];
  let hasGap = false; // a blank line stands before the next item or a later paragraph of this one
  let isInside = false;
  let to = at + 1;
  let fenceEnd = FENCE.exec(item.text)?.[1] ?? null;
  for (; to < lines.length; to += 1) {
    const line = lines[to];
    const indent = line.length - line.trimStart().length;
    if (!line.trim()) {
      const next = lines.slice(to, to + 3).find((later) => later.trim());
      const nextIndent = next ? next.length - next.trimStart().length : 0;
      hasGap ||= fenceEnd === null;
      if (!fenceEnd && (!next || nextIndent < Math.min(item.inner, item.indent + 2))) {
        to = lines.findIndex((later, index) => index >= to && later.trim());
        to = to < 0 ? lines.length : to;
        break;
      }
      isInside ||= fenceEnd === null && !itemOf(next ?? "");
      body.push("");
      continue;
    }
    const isDeeper = indent >= item.inner || (indent >= item.indent + 2 && (itemOf(line) || body.at(-1) === ""));
    if (!isDeeper && !fenceEnd && (itemOf(line) || startsBlock(line) || body.at(-1) === "")) break;
    if (!isDeeper && fenceEnd && indent <= item.indent && itemOf(line)) break;
    const inner = line.slice(Math.min(indent, item.inner));
    const mark = FENCE.exec(inner)?.[1];
    if (mark) fenceEnd = fenceEnd ? (inner.trim() === mark && mark[0] === fenceEnd[0] ? null : fenceEnd) : mark;
    body.push(inner);
  }
  return { body, hasGap, isInside, to };
}

function listItem(body, depth) {
  const task = /^\[([ xX])\] /.exec(body[0]);
  const lines = task ? [body[0].slice(4), ...body.slice(1)] : body;
  return { blocks: blocksOf(lines, depth + 1), isTask: task !== null, isDone: task !== null && task[1] !== " " };
}

/** Split a table row at its bars; a bar after a backslash or inside `code` belongs to its cell. */
export function cellsOf(line) {
  const cells = [""];
  let isCode = false;
  const row = line.trim();
  for (let at = 0; at < row.length; at += 1) {
    if (row[at] === "\\" && row[at + 1] === "|") {
      cells[cells.length - 1] += "|";
      at += 1;
    } else if (row[at] === "|" && !isCode) {
      cells.push("");
    } else {
      if (row[at] === "`") isCode = !isCode && row.indexOf("`", at + 1) > 0;
      cells[cells.length - 1] += row[at];
    }
  }
  if (row.startsWith("|")) cells.shift();
  if (row.endsWith("|") && !row.endsWith("\\|") && cells.length > 1) cells.pop();
  return cells.map((cell) => cell.trim());
}

function alignmentsOf(line) {
  if (!line || !line.includes("-") || !/[|:]/.test(line)) return null;
  const cells = cellsOf(line);
  if (!cells.every((cell) => /^:?-+:?$/.test(cell))) return null;
  return cells.map((cell) => {
    const ends = `${cell.startsWith(":") ? "l" : ""}${cell.endsWith(":") ? "r" : ""}`;
    return { lr: "centre", l: "left", r: "right" }[ends] ?? "";
  });
}

function readTable(lines, at) {
  if (!lines[at].includes("|")) return null;
  const align = alignmentsOf(lines[at + 1]);
  const head = cellsOf(lines[at]);
  if (!align || align.length !== head.length) return null;
  const rows = [];
  let to = at + 2;
  for (; to < lines.length && lines[to].includes("|"); to += 1) {
    const cells = cellsOf(lines[to]).slice(0, head.length);
    rows.push([...cells, ...Array(head.length - cells.length).fill("")]);
  }
  return { kind: "table", align, head, rows, to };
}

/** Does this line end a paragraph that stands before it? */
function startsBlock(line) {
  if (FENCE.test(line) || QUOTED.test(line) || isRule(line) || /^ {0,3}#{1,6}( |$)/.test(line)) return true;
  if (/^\s*(\$\$|\\\[)/.test(line)) return true;
  const item = itemOf(line);
  return item !== null && item.text !== "" && (item.mark.length === 1 || /^1[.)]$/.test(item.mark));
}

function readParagraph(lines, at) {
  const body = [lines[at].trimStart()];
  let to = at + 1;
  for (; to < lines.length && lines[to].trim(); to += 1) {
    const underline = /^ {0,3}(=+|-{2,}) *$/.exec(lines[to]);
    if (underline) {
      const level = underline[1][0] === "=" ? 1 : 2;
      return { kind: "heading", level, text: body.join("\n").trim(), to: to + 1 };
    }
    if (startsBlock(lines[to]) || (lines[to].includes("|") && alignmentsOf(lines[to + 1]))) break;
    body.push(lines[to].trimStart());
  }
  return { kind: "paragraph", text: body.join("\n").trimEnd(), to };
}
