// The models that the server offers, and how long a conversation each can hold.

import { failureOf, failureOfThrow } from "./failures.js";
import { headersWith } from "./stream.js";

/** Return `[{id, context, about}]`; `context` is null where the server does not tell. Throws a `Failure`. */
export async function listModels(key) {
  const signal = AbortSignal.timeout(15_000);
  try {
    const response = await fetch("v1/models", { headers: headersWith(key), signal });
    if (!response.ok) throw await failureOf(response);
    const { data } = await response.json();
    return data.map((model) => ({ id: String(model.id), context: contextOf(model), about: model.puna ?? {} }));
  } catch (error) {
    throw failureOfThrow(error instanceof SyntaxError ? new TypeError("no JSON") : error, new AbortController().signal, false);
  }
}

// puna and vLLM say max_model_len, llama.cpp says meta.n_ctx_train.
function contextOf(model) {
  const size = model.max_model_len ?? model.context_length ?? model.meta?.n_ctx_train;
  return Number.isInteger(size) && size > 0 ? size : null;
}
