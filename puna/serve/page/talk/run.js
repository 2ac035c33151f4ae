// Asking for one answer from beginning to end: whatever happens, it ends as messages of the conversation.

import { growingAnswer } from "./answer.js";
import { Failure } from "./failures.js";
import { requestBody } from "./request.js";
import { answerEvents } from "./stream.js";
import { pathTo } from "./tree.js";

/** Answer the message `parent`; calls `changed` after every step. Returns the last message. */
export async function runAnswer(conversation, parent, { settings, key, signal, changed }) {
  const path = pathTo(conversation, parent).filter((message) => message.role !== "assistant" || message.content || message.calls);
  const body = requestBody(conversation, path, settings);
  const growing = growingAnswer(conversation, parent, { model: settings.model });
  changed();
  try {
    for await (const event of answerEvents(body, { key, signal })) {
      growing.apply(event);
      changed();
    }
    growing.message().state = "done";
  } catch (error) {
    settle(growing.message(), error);
  }
  return growing.message();
}

function settle(message, error) {
  const isKnown = error instanceof Failure;
  const { kind, waitSeconds, detail } = isKnown ? error : { kind: "page", waitSeconds: 0, detail: { message: String(error) } };
  message.state = kind === "stopped" ? "stopped" : "failed";
  const sentence = isKnown ? error.message : "This page could not read the answer.";
  const said = typeof detail === "string" ? detail : detail?.message ?? "";
  if (kind !== "stopped") message.failure = { kind, sentence, detail: said, until: Date.now() + waitSeconds * 1000 };
}

/** Mark what was still being written when the page was closed. */
export function settleLeft(conversation) {
  for (const message of Object.values(conversation.messages)) {
    if (!["waiting", "writing"].includes(message.state)) continue;
    message.state = "failed";
    message.failure = { kind: "lost", sentence: "The page was closed before the answer ended.", detail: "", until: 0 };
  }
  return conversation;
}
