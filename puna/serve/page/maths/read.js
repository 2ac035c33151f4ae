// LaTeX mathematics -> signs: commands, characters, braces. No macros exist, so nothing can grow while read.

/** Return the signs of a source; each is `{kind, text, at}` with kind "command", "open", "close", "sign" or "space". */
export function readSigns(source) {
  const signs = [];
  const rule = /%[^\n]*|\\((?:operatorname|tag)\*|[A-Za-z]+|[^])|([{}])|(\s+)|([^])/gu;
  for (const found of source.matchAll(rule)) {
    const [all, command, brace, space] = found;
    if (all.startsWith("%")) continue;
    const kind = command !== undefined ? "command" : brace ? (brace === "{" ? "open" : "close") : space ? "space" : "sign";
    signs.push({ kind, text: command ?? all, at: found.index, end: found.index + all.length });
  }
  return signs;
}
