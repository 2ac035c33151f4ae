// One answer on the page: its texts, its tool calls, and a foot with figures and actions.
//
// An answer may be several messages (text, calls, results, text again). `update` is called for every step of
// a stream and touches only what changed.

import { element } from "../element.js";
import { iconButton } from "../icons.js";
import { copyText } from "../clipboard.js";
import { liveMarkdown } from "../markdown/live.js";
import { callCard } from "./calls.js";
import { failureNotice } from "./notice.js";
import { tokenView } from "./tokens.js";
import { versionArrows } from "./versions.js";

/** Return `{node, update(messages, info)}`; `acts` are what the user may do with the answer. */
export function answerView(acts) {
  const body = element("div", { class: "answer-body" });
  const foot = element("footer", { class: "turn-foot" });
  const node = element("article", { class: "turn answer", "aria-label": "Answer" }, body, foot);
  const parts = new Map();
  let seen = "";
  let showsTokens = null;

  const update = (messages, info) => {
    showsTokens ??= info.showsTokens;
    const last = messages.at(-1);
    node.classList.toggle("is-waiting", info.isRunning && last.state === "waiting" && !last.content);
    node.setAttribute("aria-busy", String(info.isRunning));
    for (const message of messages.filter((other) => other.role === "assistant")) {
      if (!parts.has(message.id)) {
        parts.set(message.id, answerPart());
        body.append(parts.get(message.id).node);
      }
      const results = messages.filter((other) => other.role === "tool");
      parts.get(message.id).update(message, results, { ...info, showsTokens }, acts);
    }
    const mark = `${info.isRunning}|${info.at}|${info.of}|${showsTokens}|${last.state}|${last.id}|${info.isRunning ? figuresOf(messages) : ""}`;
    if (mark === seen) return;
    seen = mark;
    const toggle = () => {
      showsTokens = !showsTokens;
      update(messages, info);
      foot.querySelector("[aria-pressed]").focus();
    };
    foot.replaceChildren(...(info.isRunning ? [figures(messages)] : footParts(messages, info, acts, { showsTokens, toggle })));
  };
  return { node, update };
}

function answerPart() {
  const text = element("div", { class: "prose" });
  const show = liveMarkdown(text);
  const tokens = tokenView();
  const calls = element("div", { class: "calls" });
  let seen = "";
  const update = (message, results, info, acts) => {
    const asTokens = info.showsTokens && Boolean(message.tokens?.length);
    text.hidden = asTokens;
    tokens.node.hidden = !asTokens;
    if (asTokens) tokens.update(message.tokens);
    else show(message.content);
    const mine = message.calls ?? [];
    const mark = JSON.stringify([mine, results.map((result) => result.id), info.isRunning, info.isLast]);
    if (mark === seen) return;
    seen = mark;
    calls.replaceChildren(...mine.map((call) => {
      const result = results.find((other) => other.callId === call.id) ?? null;
      return callCard(call, result, { isRunning: info.isRunning, onresult: info.isLast ? (said) => acts.result(call, said) : null });
    }));
  };
  return { node: element("div", { class: "answer-part" }, text, tokens.node, calls), update };
}

function footParts(messages, info, acts, { showsTokens, toggle }) {
  const last = messages.at(-1);
  const notes = [];
  if (last.failure) notes.push(failureNotice(last.failure, (kind) => acts.help(last, kind)));
  if (last.state === "stopped") notes.push(element("p", { class: "note" }, "You stopped this answer."));
  if (last.finish === "length") notes.push(element("p", { class: "note" }, "The answer reached its token limit and ends here."));
  const text = messages.filter((message) => message.role === "assistant").map((message) => message.content).join("\n\n").trim();
  const hasTokens = messages.some((message) => message.tokens?.length);
  const row = element("div", { class: "acts" },
    versionArrows(info, acts.version),
    text ? iconButton("copy", "Copy answer", (event) => copyText(text, event.currentTarget)) : null,
    text || !last.failure ? iconButton("retry", "Answer again", () => acts.again(messages[0])) : null,
    hasTokens ? iconButton("tokens", "Show tokens", toggle, { "aria-pressed": String(showsTokens) }) : null,
    figures(messages));
  return [...notes, row];
}

function figuresOf(messages) {
  const speed = messages.findLast((message) => message.speed)?.speed;
  if (!speed) return "";
  const rate = speed.perSecond === null ? [] : [`${speed.perSecond.toFixed(speed.perSecond < 10 ? 1 : 0)} tokens/s`];
  return [`${speed.count.toLocaleString("en")} ${speed.count === 1 ? "token" : "tokens"}`, ...rate, `first after ${speed.first.toFixed(2)} s`].join("  ·  ");
}

function figures(messages) {
  return element("span", { class: "figures", title: messages[0].model || null }, figuresOf(messages));
}
