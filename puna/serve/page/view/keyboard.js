// The keyboard: one table from which both the dialog and the listener are made.

import { element, part } from "../element.js";

const SHORTCUTS = [
  { keys: ["Enter"], does: "Send the message" },
  { keys: ["Shift", "Enter"], does: "New line in the message" },
  { keys: ["Esc"], does: "Stop the answer, close what is open" },
  { keys: ["/"], does: "Go to the message field", act: "focus", test: (event) => isPlain(event, "/") },
  { keys: ["↑"], does: "In the empty field: edit your last message", act: "editLast", test: (event) => event.key === "ArrowUp" && event.target.id === "draft" && !event.target.value },
  { keys: ["Ctrl", "Shift", "O"], does: "New conversation", act: "fresh", test: (event) => isChord(event, "KeyO", { shift: true }) },
  { keys: ["Alt", "↑"], does: "Conversation above", act: "above", test: (event) => event.altKey && event.key === "ArrowUp" },
  { keys: ["Alt", "↓"], does: "Conversation below", act: "below", test: (event) => event.altKey && event.key === "ArrowDown" },
  { keys: ["Ctrl", "Shift", "F"], does: "Search the conversations", act: "search", test: (event) => isChord(event, "KeyF", { shift: true }) },
  { keys: ["Ctrl", "B"], does: "Show or hide the conversations", act: "side", test: (event) => isChord(event, "KeyB") },
  { keys: ["Ctrl", "."], does: "Show or hide the settings", act: "panel", test: (event) => isChord(event, "Period") },
  { keys: ["Ctrl", "Shift", "Y"], does: "Copy the last answer", act: "copyLast", test: (event) => isChord(event, "KeyY", { shift: true }) },
  { keys: ["Alt", "R"], does: "Answer again", act: "again", test: (event) => event.altKey && event.code === "KeyR" },
  { keys: ["← →"], does: "In the token view: walk from token to token" },
  { keys: ["Ctrl", "/"], does: "Show this list", act: "help", test: (event) => isChord(event, "Slash") || isPlain(event, "?") },
];

function isChord(event, code, { shift = false } = {}) {
  return (event.ctrlKey || event.metaKey) && event.shiftKey === shift && !event.altKey && event.code === code;
}

function isPlain(event, key) {
  const isTyping = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
  return event.key === key && !isTyping && !event.ctrlKey && !event.metaKey && !event.altKey;
}

/** Listen for the shortcuts; `acts` has one function for each `act` above and `escape`. */
export function listen(acts) {
  part("shortcuts").append(...SHORTCUTS.map(({ keys, does }) =>
    element("div", {}, element("dt", {}, keys.map((key) => element("kbd", {}, key))), element("dd", {}, does))));
  document.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]")) return; // a dialog has the keyboard to itself
    if (event.key === "Escape") return void acts.escape();
    const found = SHORTCUTS.find(({ test }) => test?.(event));
    if (!found) return;
    event.preventDefault();
    acts[found.act]();
  });
}
