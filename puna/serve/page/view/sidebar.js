// The list of conversations: newest first, filtered by what they say, renamed and removed in place.

import { element, part } from "../element.js";
import { iconButton } from "../icons.js";

const DAY = 24 * 3600 * 1000;

/** Return `{show(conversations, currentId)}`; `acts` has open, rename, remove. */
export function sidebarView(acts) {
  const list = part("conversations");
  const filter = part("filter");
  let shown = [[], ""];
  const show = (conversations, currentId) => {
    shown = [conversations, currentId];
    const asked = filter.value.trim().toLowerCase();
    const found = conversations.filter((conversation) => !asked || saysWhat(conversation, asked)).sort((one, other) => other.changed - one.changed);
    const groups = Map.groupBy(found, ({ changed }) => dayOf(changed));
    list.replaceChildren(...[...groups].map(([day, members]) => section(day, members, currentId, acts)));
    if (!found.length) list.append(element("p", { class: "note" }, asked ? "Nothing found." : "No conversations yet."));
  };
  filter.addEventListener("input", () => show(...shown));
  return { show };
}

function saysWhat(conversation, asked) {
  const texts = [conversation.title, ...Object.values(conversation.messages).map((message) => message.content)];
  return texts.some((text) => text.toLowerCase().includes(asked));
}

function dayOf(time) {
  const midnight = new Date().setHours(0, 0, 0, 0);
  if (time >= midnight) return "Today";
  if (time >= midnight - DAY) return "Yesterday";
  return time >= midnight - 7 * DAY ? "This week" : "Earlier";
}

function section(day, members, currentId, acts) {
  return element("section", { "aria-label": day }, element("h2", {}, day), element("ul", {}, members.map((member) => row(member, currentId, acts))));
}

function row(conversation, currentId, acts) {
  const name = conversation.title || "New conversation";
  const open = element("button", { type: "button", class: "open", "aria-current": conversation.id === currentId ? "page" : null, title: name, onclick: () => acts.open(conversation.id) }, name);
  const item = element("li", {}, open,
    iconButton("edit", `Rename ${name}`, () => rename(item, conversation, acts)),
    iconButton("trash", `Delete ${name}`, () => acts.remove(conversation.id)));
  return item;
}

function rename(item, conversation, acts) {
  const field = element("input", { type: "text", "aria-label": "Name of the conversation", maxlength: "200" });
  field.value = conversation.title;
  let isOver = false;
  const end = (isKept) => {
    if (isOver) return;
    isOver = true;
    acts.rename(conversation.id, isKept ? field.value.trim() || conversation.title : conversation.title);
  };
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter") end(true);
    if (event.key === "Escape") end(false);
    event.stopPropagation();
  });
  field.addEventListener("blur", () => end(true));
  item.replaceChildren(field);
  field.select();
}
