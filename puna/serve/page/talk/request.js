// A conversation and the settings -> the body of a chat completion request.
//
// Only what the user set is sent: an empty control means the server's own default.

const NUMBERS = ["temperature", "top_p", "top_k", "min_p", "max_tokens", "seed"];
const TOP_LOGPROBS = 5; // alternatives shown for each token

/** Return the body for an answer to `path`, the messages from first to last. */
export function requestBody(conversation, path, settings) {
  const system = conversation.system.trim() ? [{ role: "system", content: conversation.system }] : [];
  const body = {
    messages: [...system, ...path.map(wireMessage)],
    stream: true,
    stream_options: { include_usage: true },
  };
  if (settings.model) body.model = settings.model;
  for (const name of NUMBERS) if (typeof settings[name] === "number") body[name] = settings[name];
  if (settings.showsTokens) Object.assign(body, { logprobs: true, top_logprobs: TOP_LOGPROBS });
  const tools = readTools(settings.tools).tools;
  if (tools.length) body.tools = tools;
  if (settings.usesServerTools) body.server_tools = true;
  return body;
}

function wireMessage(message) {
  if (message.role === "user") return { role: "user", content: withFiles(message) };
  if (message.role === "tool") return { role: "tool", tool_call_id: message.callId, content: message.content };
  const wire = { role: "assistant", content: message.content };
  if (message.calls?.length) {
    wire.tool_calls = message.calls.map(({ id, name, text }) => ({ id, type: "function", function: { name, arguments: text } }));
    if (!message.content) wire.content = null;
  }
  return wire;
}

/** Put attached files before the words, each in a fence that its own text cannot close. */
function withFiles(message) {
  const files = (message.files ?? []).map(({ name, text }) => {
    const longest = Math.max(2, ...(text.match(/`+/g) ?? []).map((run) => run.length));
    const fence = "`".repeat(longest + 1);
    const kind = /\.(\w{1,12})$/.exec(name)?.[1] ?? "";
    return `File ${name}:\n${fence}${kind}\n${text.replace(/\n$/, "")}\n${fence}`;
  });
  return [...files, message.content].filter(Boolean).join("\n\n");
}

/** Read the tools a user typed: OpenAI's JSON, one tool or a list. Returns `{tools, problem}`. */
export function readTools(text) {
  if (!text.trim()) return { tools: [], problem: "" };
  try {
    const given = JSON.parse(text);
    const tools = (Array.isArray(given) ? given : [given]).map((tool) => (tool.function ? tool : { type: "function", function: tool }));
    if (!tools.every((tool) => typeof tool.function?.name === "string")) throw new Error("every tool needs a name");
    return { tools, problem: "" };
  } catch (error) {
    return { tools: [], problem: `These tools cannot be read and are not sent: ${error.message}.` };
  }
}
