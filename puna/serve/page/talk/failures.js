// What went wrong between the page and the server, as a sentence for people and a kind for the page.

/** A request that gave no (whole) answer. */
export class Failure extends Error {
  constructor(kind, sentence, { waitSeconds = 0, detail = "" } = {}) {
    super(sentence);
    this.kind = kind; // "key", "busy", "away", "long", "model", "large", "request", "server", "lost", "stopped"
    this.waitSeconds = waitSeconds;
    this.detail = detail; // what the server itself said
  }
}

/** Return the failure of a response that is not a 2xx. */
export async function failureOf(response) {
  const detail = await detailOf(response);
  const waitSeconds = secondsOf(response.headers.get("retry-after"));
  return failureOfStatus(response.status, detail, waitSeconds);
}

/** Return the failure of an error inside a stream that had begun well. */
export function failureOfEvent(error) {
  const text = typeof error?.message === "string" ? error.message : "The server gave no reason.";
  return new Failure(error?.code === "context_length_exceeded" ? "long" : "server", "The server stopped in the middle of the answer.", { detail: text });
}

async function detailOf(response) {
  const text = await response.text().catch(() => "");
  try {
    const { error, detail } = JSON.parse(text);
    return { message: String(error?.message ?? detail ?? error ?? ""), code: error?.code ?? "" };
  } catch {
    return { message: "", code: "" };
  }
}

function secondsOf(header) {
  if (!header) return 0;
  const seconds = /^\d+$/.test(header) ? Number(header) : (Date.parse(header) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.min(3600, Math.max(0, Math.ceil(seconds))) : 0;
}

function failureOfStatus(status, { message, code }, waitSeconds) {
  const fail = (kind, sentence) => new Failure(kind, sentence, { waitSeconds, detail: message });
  const isLong = code === "context_length_exceeded" || /context (length|window)|too long|maximum context/i.test(message);
  if (status === 400 && isLong) return fail("long", "The conversation is too long for this model. Shorten the message, or start a new conversation.");
  if (status === 401 || status === 403) return fail("key", "The server asks for an API key, or does not accept the one it got.");
  if (status === 404) return fail("model", "The server does not have this model. Choose another one.");
  if (status === 413) return fail("large", "The message is larger than this server takes. Attach less.");
  if (status === 429) return fail("busy", "The server has more requests than it can take right now.");
  if (status === 503) return fail("away", "The server is not ready: it is starting or about to stop.");
  if (status >= 500) return fail("server", "The server failed while it worked on this.");
  return fail("request", "The server did not accept the request.");
}

/** Return the failure of a fetch that threw: the user stopped it, or the connection did. */
export function failureOfThrow(error, signal, hasBegun) {
  if (error instanceof Failure) return error;
  if (signal.aborted) return new Failure("stopped", "Stopped.");
  if (!(error instanceof TypeError) && error?.name !== "NetworkError") throw error;
  return hasBegun ? lostFailure() : new Failure("lost", "The server cannot be reached. Is it running, and are you connected?");
}

/** The failure of a stream that ended without saying so. */
export function lostFailure() {
  return new Failure("lost", "The connection was lost before the answer ended. What had come is kept.");
}
