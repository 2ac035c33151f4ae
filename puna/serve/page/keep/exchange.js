// Conversations as a JSON file: written for people to keep, read as something that anyone may have written.

import { newId } from "../talk/tree.js";

const FORMAT = "puna-conversations";
const VERSION = 1;

/** Return the text of a file with these conversations. */
export function exported(conversations) {
  return `${JSON.stringify({ format: FORMAT, version: VERSION, conversations }, null, 1)}\n`;
}

/** Return the conversations of such a file, rebuilt field by field; throws an Error with a sentence. */
export function imported(text, taken) {
  const file = parsed(text);
  if (file?.format !== FORMAT) throw new Error("The file holds no conversations of puna.");
  if (file.version !== VERSION) throw new Error(`The file has version ${String(file.version)}; this page reads version ${VERSION}.`);
  if (!Array.isArray(file.conversations)) throw new Error("The file's list of conversations is missing.");
  return file.conversations.map((given) => conversationOf(given, taken));
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error("The file is not JSON.");
  }
}

const words = (value) => (typeof value === "string" ? value : "");
const number = (value) => (typeof value === "number" && Number.isFinite(value) ? value : null);
const list = (value) => (Array.isArray(value) ? value : []);

function conversationOf(given, taken) {
  if (given === null || typeof given !== "object") throw new Error("One of the conversations is no conversation.");
  const ids = new Map(Object.keys(given.messages ?? {}).map((id) => [id, newId()]));
  const messages = {};
  for (const [id, message] of Object.entries(given.messages ?? {})) {
    const made = messageOf(message, ids);
    messages[ids.get(id)] = { ...made, id: ids.get(id) };
  }
  dropCircles(messages);
  const chosen = {};
  for (const [parent, child] of Object.entries(given.chosen ?? {})) {
    const key = parent === "root" ? "root" : ids.get(parent);
    const target = messages[ids.get(child)];
    if (key && target && (target.parent ?? "root") === key) chosen[key] = ids.get(child);
  }
  const id = /^[0-9a-f]{24}$/.test(given.id) && !taken.has(given.id) ? given.id : newId();
  const dates = { created: number(given.created) ?? Date.now(), changed: number(given.changed) ?? Date.now() };
  return { id, title: words(given.title).slice(0, 200), system: words(given.system), draft: "", ...dates, messages, chosen };
}

const ROLES = ["user", "assistant", "tool"];

function messageOf(given, ids) {
  if (!ROLES.includes(given?.role)) throw new Error(`A message has the role ${String(given?.role)}; user, assistant or tool is expected.`);
  const message = { parent: ids.get(given.parent) ?? null, role: given.role, content: words(given.content) };
  if (given.role === "tool") message.callId = words(given.callId);
  if (given.role === "assistant") Object.assign(message, { model: words(given.model), state: "done", finish: words(given.finish) });
  if (list(given.files).length) message.files = given.files.map((file) => ({ name: words(file?.name), text: words(file?.text), bytes: number(file?.bytes) ?? 0 }));
  if (list(given.calls).length) message.calls = given.calls.map((call) => ({ id: words(call?.id), name: words(call?.name), text: words(call?.text) }));
  if (list(given.tokens).length) message.tokens = given.tokens.map(tokenOf);
  if (given.usage) message.usage = { prompt: number(given.usage.prompt) ?? 0, completion: number(given.usage.completion) ?? 0 };
  if (given.speed) message.speed = { first: number(given.speed.first) ?? 0, perSecond: number(given.speed.perSecond), count: number(given.speed.count) ?? 0 };
  return message;
}

function tokenOf(given) {
  const rivals = list(given?.rivals).map((rival) => ({ text: words(rival?.text), p: number(rival?.p) ?? 0 }));
  return { text: words(given?.text), p: number(given?.p) ?? 0, id: number(given?.id), rivals };
}

/** A message whose ancestors run in a circle would be followed for ever. */
function dropCircles(messages) {
  for (const id of Object.keys(messages)) {
    const seen = new Set();
    for (let at = id; at; at = messages[at]?.parent) {
      if (seen.has(at)) throw new Error("A message of the file is its own ancestor.");
      seen.add(at);
    }
  }
}
