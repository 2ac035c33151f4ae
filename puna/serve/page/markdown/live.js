// Markdown that grows: only blocks whose source changed are rendered again.
//
// While an answer streams, all but its last blocks keep their nodes, so a selection, a scrolled table or an
// opened menu in them stays as it is, and the work per step does not grow with the answer. A fence that is
// being written keeps its frame and gets new lines only.

import { growCode } from "./code.js";
import { parseBlocks } from "./blocks.js";
import { renderBlock } from "./render.js";

/** Return a function that shows a (longer and longer) text in `host`. */
export function liveMarkdown(host) {
  let shown = [];
  return (text) => {
    const blocks = parseBlocks(text);
    shown = blocks.map((block, at) => {
      const old = shown[at];
      if (old && sameBlock(old.block, block)) return { block, node: old.node };
      if (old && growCode(old.node, old.block, block)) return { block, node: old.node };
      const node = renderBlock(block);
      if (old) old.node.replaceWith(node);
      else host.append(node);
      return { block, node };
    });
    while (host.childNodes.length > shown.length) host.lastChild.remove();
  };
}

function sameBlock(one, other) {
  return one.kind === other.kind && one.source === other.source && one.closed === other.closed;
}
