// The messages of one answer, grown event by event: text, tool calls, results, tokens, and how fast they came.

import { addMessage, pathTo } from "./tree.js";

const MOST_CALLS = 128;

/** Return an object that grows messages under `parent`; `apply(event)` returns the message that changed. */
export function growingAnswer(conversation, parent, { model, now = () => performance.now() }) {
  const begun = now();
  let message = addMessage(conversation, parent, { role: "assistant", model, state: "waiting" });
  let firstAt = null;
  let tokens = 0;

  const next = (fields) => {
    message.state = "done";
    message = addMessage(conversation, message.id, fields);
  };

  /** The server ran a tool: the call belongs to the answer so far, the result is a message of its own. */
  const applyRun = (run) => {
    const asker = pathTo(conversation, message.id).findLast((other) => other.role === "assistant");
    const call = { id: String(run.tool_call_id), name: String(run.name), text: JSON.stringify(run.arguments ?? {}) };
    asker.calls = [...(asker.calls ?? []), call];
    next({ role: "tool", callId: call.id, content: String(run.result), isError: run.is_error === true });
    return message;
  };

  const apply = ({ delta, logprobs, finish, usage, run }) => {
    if (run) return applyRun(run);
    const isMore = delta.content || delta.tool_calls || logprobs.length;
    if (message.role === "tool" && isMore) next({ role: "assistant", model, state: "waiting" });
    const piece = textOf(delta.content);
    const calls = Array.isArray(delta.tool_calls) ? delta.tool_calls : [];
    if (piece || calls.length || logprobs.length) {
      firstAt ??= now();
      tokens += logprobs.length || 1;
      message.state = "writing";
    }
    message.content += piece;
    if (calls.length) growCalls(message, calls);
    if (logprobs.length) message.tokens = [...(message.tokens ?? []), ...logprobs.map(tokenOf)];
    if (finish) message.finish = finish;
    if (usage) message.usage = { prompt: usage.prompt_tokens ?? 0, completion: usage.completion_tokens ?? 0 };
    message.speed = speed(message);
    return message;
  };

  /** Tokens a second after the first one, which waits for the prompt. */
  const speed = () => {
    if (firstAt === null) return null;
    const count = message.usage?.completion ?? tokens;
    const seconds = (now() - firstAt) / 1000;
    return { first: (firstAt - begun) / 1000, perSecond: count > 1 && seconds > 0.02 ? (count - 1) / seconds : null, count };
  };

  return { apply, message: () => message };
}

function textOf(content) {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return "";
  return content.map((part) => (typeof part?.text === "string" ? part.text : "")).join("");
}

function growCalls(message, deltas) {
  message.calls ??= [];
  for (const delta of deltas) {
    const at = Number.isInteger(delta.index) && delta.index >= 0 ? Math.min(delta.index, MOST_CALLS) : message.calls.length;
    while (message.calls.length <= at) message.calls.push({ id: "", name: "", text: "" });
    const call = message.calls[at];
    call.id ||= String(delta.id ?? "");
    call.name += delta.function?.name ?? "";
    call.text += delta.function?.arguments ?? "";
  }
}

/** Keep of a token what the token view shows. */
function tokenOf({ token, logprob, id, token_id: other, top_logprobs: top }) {
  const rivals = (Array.isArray(top) ? top : []).map((rival) => ({ text: String(rival.token), p: Math.exp(rival.logprob) }));
  return { text: String(token), p: Math.exp(logprob), id: id ?? other ?? null, rivals };
}
