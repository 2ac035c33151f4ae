// The dialog that asks for an API key, when the server wants one.

import { part } from "../element.js";

/** Ask for a key. Resolves to `{key, isLasting}`, or null when the user closed the dialog. */
export function askKey(known) {
  const dialog = part("key-dialog");
  const field = part("key");
  if (dialog.open) return Promise.resolve(null);
  field.value = known;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    const done = () => resolve(dialog.returnValue === "use" ? { key: field.value.trim(), isLasting: part("key-keep").checked } : null);
    dialog.addEventListener("close", done, { once: true });
  });
}

/** Make every dialog's form close it without asking the network, as `form-action 'none'` also demands. */
export function wireDialogs() {
  for (const form of document.querySelectorAll("dialog form")) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      form.closest("dialog").close(event.submitter?.value ?? "");
    });
  }
  for (const button of document.querySelectorAll("dialog [data-close]")) {
    button.addEventListener("click", () => button.closest("dialog").close(""));
  }
}
