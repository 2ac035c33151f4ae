// Short words at the edge of the page: for the eye a card that goes by itself, for the ear a live region.

import { element, part } from "../element.js";

/** Say something; `act` is an optional `{label, run}`. */
export function toast(text, act = null) {
  const undo = act ? element("button", { type: "button", class: "plain", onclick: () => (act.run(), card.remove()) }, act.label) : null;
  const card = element("div", { class: "toast" }, element("span", {}, text), undo);
  part("toasts").append(card);
  setTimeout(() => card.remove(), act ? 8000 : 5000);
}

/** Say something to screen readers alone. */
export function say(text) {
  part("said").textContent = text;
}
