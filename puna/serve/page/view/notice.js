// What went wrong with an answer, said under it, with the one thing that helps.

import { element } from "../element.js";
import { icon } from "../icons.js";

const HELP = { key: "Enter a key", model: "Choose a model", long: "Edit the message" };

/** Return a notice for the failure of a message; `act(kind)` is called with what the user wants done. */
export function failureNotice(failure, act) {
  const retry = element("button", { type: "button", class: "plain", onclick: () => act("retry") }, "Try again");
  const help = HELP[failure.kind];
  const other = help ? element("button", { type: "button", class: "plain", onclick: () => act(failure.kind) }, help) : null;
  countDown(retry, failure.until);
  const said = failure.detail ? element("p", { class: "notice-detail" }, "The server said: ", failure.detail.slice(0, 600)) : null;
  return element("div", { class: "notice" }, icon("warning"),
    element("div", {}, element("p", {}, failure.sentence), said, element("p", { class: "notice-acts" }, retry, other)));
}

/** A server that asked to wait says so on the button until the time is over. */
function countDown(button, until) {
  const left = Math.ceil((until - Date.now()) / 1000);
  button.textContent = left > 0 ? `Try again (in ${left} s)` : "Try again";
  button.classList.toggle("early", left > 0);
  if (left > 0) setTimeout(() => countDown(button, until), 1000);
}
