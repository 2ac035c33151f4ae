// Copying, with a word of thanks on the button that was pressed.

import { element } from "./element.js";

/** Put text on the clipboard and let the button say so for a moment. */
export async function copyText(text, button) {
  const isDone = await write(text);
  const before = [...button.childNodes];
  if (button.dataset.busy) return;
  button.dataset.busy = "yes";
  button.replaceChildren(isDone ? "Copied" : "Not allowed");
  setTimeout(() => {
    button.replaceChildren(...before);
    delete button.dataset.busy;
  }, 1200);
}

async function write(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return writeFromField(text); // pages without TLS have no clipboard object
  }
}

function writeFromField(text) {
  const active = document.activeElement;
  const field = element("textarea", { class: "unseen", "aria-hidden": "true", tabindex: "-1" });
  field.value = text;
  document.body.append(field);
  field.select();
  const isDone = document.execCommand("copy");
  field.remove();
  active?.focus();
  return isDone;
}
