// The few line drawings of the page, so that no font or picture has to be loaded.

import { element, svg } from "./element.js";

// Paths on a grid of 24, drawn with a round pen.
const PATHS = {
  attach: "M20 11.5l-8.2 8.2a5 5 0 0 1-7.1-7.1l8.5-8.5a3.4 3.4 0 0 1 4.8 4.8l-8.4 8.4a1.7 1.7 0 0 1-2.4-2.4l7.6-7.6",
  check: "M5 12.5l4.5 4.5L19 7.5",
  close: "M6 6l12 12M18 6L6 18",
  copy: "M9 9h10v11H9zM5 15V4h10",
  down: "M12 5v14M6 13l6 6 6-6",
  edit: "M4 20l1-4L16 5l3 3L8 19zM14 7l3 3",
  file: "M6 3h8l4 4v14H6zM14 3v4h4",
  keyboard: "M3 7h18v11H3zM7 11h.01M11 11h.01M15 11h.01M18 11h.01M8 15h8",
  left: "M14.5 6l-6 6 6 6",
  menu: "M4 6h16v12H4zM9 6v12",
  more: "M6 12h.01M12 12h.01M18 12h.01",
  plus: "M12 5v14M5 12h14",
  retry: "M19 12a7 7 0 1 1-2-4.9L19 9M19 4v5h-5",
  right: "M9.5 6l6 6-6 6",
  save: "M12 4v11M7 11l5 5 5-5M5 20h14",
  send: "M12 19V5M6 11l6-6 6 6",
  sliders: "M4 8h9M17 8h3M4 16h3M11 16h9M13 6v4h4V6zM7 14v4h4v-4z",
  stop: "M8 8h8v8H8z",
  tokens: "M3 9h5v6H3zM10 9h4v6h-4zM16 9h5v6h-5z",
  tool: "M14.5 6.5a4 4 0 0 1 5-1l-2.6 2.6 1 2 2 1L22.400 8.600a4 4 0 0 1-5.400 4.600L9 21l-3-3 8-8a4 4 0 0 1 .5-3.500z",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  warning: "M12 4l9 16H3zM12 10v4M12 17h.01",
};

/** Draw one icon; it is decoration, its button carries the name. */
export function icon(name) {
  const pen = { class: `icon icon-${name}`, viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" };
  return svg("svg", pen, svg("path", { d: PATHS[name] }));
}

/** A button that shows an icon and says its name to those who cannot see it. */
export function iconButton(name, label, onclick, attributes = {}) {
  const more = { type: "button", "aria-label": label, title: label, onclick, ...attributes };
  return element("button", { ...more, class: `quiet ${attributes.class ?? ""}`.trim() }, icon(name));
}
