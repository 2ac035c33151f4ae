// The arrows that walk through the versions of a message.

import { element } from "../element.js";
import { iconButton } from "../icons.js";

/** Return the arrows, or null where there is one version only; `choose(step)` gets -1 or 1. */
export function versionArrows({ at, of }, choose) {
  if (of < 2) return null;
  return element("span", { class: "versions", role: "group", "aria-label": "Versions" },
    iconButton("left", "Previous version", () => choose(-1), { disabled: at === 0, "data-step": "-1" }),
    element("span", {}, `${at + 1} / ${of}`),
    iconButton("right", "Next version", () => choose(1), { disabled: at === of - 1, "data-step": "1" }));
}
