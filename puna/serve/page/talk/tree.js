// A conversation: a tree of messages, of which one path is shown.
//
// Editing or asking again never overwrites: it adds a sibling, and the arrows of a message choose among
// siblings. A conversation is plain data, so that storing, exporting and importing it is JSON.

/** Return an empty conversation. */
export function newConversation(system = "") {
  const now = Date.now();
  return { id: newId(), title: "", system, created: now, changed: now, draft: "", messages: {}, chosen: {} };
}

/** Return an id that no other conversation or message has. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

const ROOT = "root"; // the key of `chosen` for the first message

/** Add a message under `parent` (null: at the start), show it, and return it. */
export function addMessage(conversation, parent, fields) {
  const message = { id: newId(), parent, content: "", ...fields };
  conversation.messages[message.id] = message;
  conversation.chosen[parent ?? ROOT] = message.id;
  conversation.changed = Date.now();
  if (!conversation.title && message.role === "user") conversation.title = titleOf(message);
  return message;
}

function titleOf(message) {
  const line = (message.content || message.files?.[0]?.name || "").trim().split("\n")[0];
  return line.length > 60 ? `${line.slice(0, 59).trimEnd()}…` : line;
}

/** Return the messages with the same parent, oldest first. */
export function siblingsOf(conversation, message) {
  return Object.values(conversation.messages).filter((other) => other.parent === message.parent);
}

/** Return the messages that are shown, first to last. */
export function shownPath(conversation) {
  return pathFrom(conversation, null);
}

function pathFrom(conversation, parent) {
  const path = [];
  for (let key = parent ?? ROOT; conversation.messages[conversation.chosen[key]]; ) {
    const message = conversation.messages[conversation.chosen[key]];
    path.push(message);
    key = message.id;
  }
  return path;
}

/** Return the messages from the first to this one. */
export function pathTo(conversation, id) {
  const path = [];
  for (let message = conversation.messages[id]; message; message = conversation.messages[message.parent]) path.unshift(message);
  return path;
}

/** Show another version of a message; what follows it is what was shown there last. */
export function choose(conversation, message) {
  conversation.chosen[message.parent ?? ROOT] = message.id;
}

/** Return the last shown message, or null. */
export function leafOf(conversation) {
  return shownPath(conversation).at(-1) ?? null;
}
