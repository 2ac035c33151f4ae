// One answer, as it comes: server-sent events -> changes of messages.
//
// The form is OpenAI's. A server that runs tools itself tells of each call, with its result, in a chunk without
// choices under the key `puna`.

import { Failure, failureOf, failureOfEvent, failureOfThrow, lostFailure } from "./failures.js";

/** Return the headers that every request carries. */
export function headersWith(key) {
  return { "content-type": "application/json", ...(key ? { authorization: `Bearer ${key}` } : {}) };
}

/** Ask for an answer; yields `{delta, logprobs, finish, usage, run}` and throws a `Failure`. */
export async function* answerEvents(body, { key, signal }) {
  let hasBegun = false;
  try {
    const response = await fetch("v1/chat/completions", { method: "POST", headers: headersWith(key), body: JSON.stringify(body), signal });
    if (!response.ok) throw await failureOf(response);
    let isWhole = false;
    for await (const data of eventData(response.body)) {
      hasBegun = true;
      if (data === "[DONE]") {
        isWhole = true;
        break;
      }
      const chunk = read(data);
      if (chunk.error) throw failureOfEvent(chunk.error);
      const choice = chunk.choices?.[0];
      isWhole ||= Boolean(choice?.finish_reason);
      yield {
        delta: choice?.delta ?? {},
        logprobs: choice?.logprobs?.content ?? [],
        finish: choice?.finish_reason ?? null,
        usage: chunk.usage ?? null,
        run: chunk.puna?.tool_call_id ? chunk.puna : null,
      };
    }
    if (!isWhole) throw lostFailure();
  } catch (error) {
    throw failureOfThrow(error, signal, hasBegun);
  }
}

function read(data) {
  try {
    return JSON.parse(data);
  } catch {
    throw new Failure("server", "The server sent something that is no answer.", { detail: data.slice(0, 200) });
  }
}

/** Yield the data of each event. Source: WHATWG HTML, server-sent events: parsing. */
export async function* eventData(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let data = [];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      rest += value;
      const hasCut = rest.endsWith("\r"); // a line feed may follow in the next piece
      const lines = (hasCut ? rest.slice(0, -1) : rest).split(/\r\n|\n|\r/);
      rest = lines.pop() + (hasCut ? "\r" : "");
      for (const line of lines) {
        if (line === "" && data.length) {
          yield data.join("\n");
          data = [];
        } else if (line.startsWith("data:")) {
          data.push(line.slice(line[5] === " " ? 6 : 5));
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
