// The conversation on the page: a list of turns that is brought up to date, never built anew.

import { element, part } from "../element.js";
import { shownPath, siblingsOf } from "../talk/tree.js";
import { answerView } from "./answer.js";
import { questionView } from "./question.js";

/** Return `{show(conversation, state), follow()}` for the column of turns. */
export function threadView(makeActs) {
  const host = part("turns");
  const scroller = part("thread");
  let views = new Map();
  let follows = true;
  scroller.addEventListener("scroll", () => {
    follows = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 60;
    part("to-end").hidden = follows;
  });
  const follow = () => {
    follows = true;
    scroller.scrollTop = scroller.scrollHeight;
    part("to-end").hidden = true;
  };
  part("to-end").addEventListener("click", follow);

  const show = (conversation, { runningId, showsTokens }) => {
    const turns = turnsOf(shownPath(conversation));
    const kept = new Map();
    for (const messages of turns) {
      const { id, role } = messages[0];
      const key = `${conversation.id}/${id}`;
      const view = views.get(key) ?? (role === "user" ? questionView : answerView)(makeActs(messages[0]));
      view.node.dataset.id = id;
      const siblings = siblingsOf(conversation, messages[0]);
      const isRunning = runningId !== null && (role === "user" || messages.some((message) => message.id === runningId));
      const isLast = messages === turns.at(-1);
      view.update(messages, { at: siblings.findIndex((other) => other.id === id), of: siblings.length, isRunning, isLast, showsTokens });
      kept.set(key, view);
    }
    place(host, [...kept.values()].map((view) => view.node));
    views = kept;
    part("welcome").hidden = turns.length > 0;
    if (follows) scroller.scrollTop = scroller.scrollHeight;
  };
  return { show, follow };
}

/** Group an answer's messages: texts, calls and results up to the next message of the user. */
function turnsOf(path) {
  const turns = [];
  for (const message of path) {
    const last = turns.at(-1);
    if (message.role !== "user" && last && last[0].role !== "user") last.push(message);
    else turns.push([message]);
  }
  return turns;
}

/** Make `nodes` the children of `host`, leaving those that stand right where they are. */
function place(host, nodes) {
  nodes.forEach((node, at) => {
    if (host.children[at] !== node) host.insertBefore(node, host.children[at] ?? null);
  });
  while (host.children.length > nodes.length) host.lastElementChild.remove();
}
