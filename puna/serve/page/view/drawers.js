// The columns at both sides: beside the thread where there is room, drawers over it on a phone.

import { part } from "../element.js";

const WIDE = "(min-width: 60rem)"; // the same width stands in look/frame.css

/** Show or hide "side" or "panel". */
export function toggleDrawer(name) {
  const isWide = matchMedia(WIDE).matches;
  const body = document.body.classList;
  const opens = body.toggle(isWide ? (name === "side" ? "hides-side" : "shows-panel") : `opens-${name}`);
  if (!isWide) body.remove(name === "side" ? "opens-panel" : "opens-side");
  syncDrawers();
  if (!isWide) part(opens ? `close-${name}` : `toggle-${name}`).focus();
}

/** Show a column, if it is not shown. */
export function openDrawer(name) {
  if (part(name).inert) toggleDrawer(name);
}

/** Close what lies over the thread; true when there was something. */
export function closeDrawers() {
  const wasOpen = !part("veil").hidden;
  document.body.classList.remove("opens-side", "opens-panel");
  syncDrawers();
  return wasOpen;
}

/** A column that is out of sight is out of reach of the keyboard too, and a thread under a drawer likewise. */
export function syncDrawers() {
  const isWide = matchMedia(WIDE).matches;
  const body = document.body.classList;
  const isShown = {
    side: isWide ? !body.contains("hides-side") : body.contains("opens-side"),
    panel: body.contains(isWide ? "shows-panel" : "opens-panel"),
  };
  for (const [name, shown] of Object.entries(isShown)) {
    part(name).inert = !shown;
    part(`toggle-${name}`).setAttribute("aria-expanded", String(shown));
  }
  const covers = !isWide && (isShown.side || isShown.panel);
  part("veil").hidden = !covers;
  part("main").inert = covers;
}
