// One message of the user: words, attached files, and the form that edits and sends it again.

import { element } from "../element.js";
import { icon, iconButton } from "../icons.js";
import { copyText } from "../clipboard.js";
import { colouredCode } from "../markdown/code.js";
import { sizeText } from "../talk/files.js";
import { versionArrows } from "./versions.js";

/** Return `{node, update([message], info)}`. */
export function questionView(acts) {
  const node = element("article", { class: "turn question", "aria-label": "Your message" });
  let seen = "";
  const update = ([message], info) => {
    const mark = `${info.at}|${info.of}|${info.isRunning}`;
    if (mark === seen) return;
    seen = mark;
    show(message, info);
  };
  const show = (message, info) => {
    const words = element("div", { class: "bubble", dir: "auto" }, message.content);
    const edit = iconButton("edit", "Edit and send again", () => change(message, info), { disabled: info.isRunning, "data-act": "edit" });
    const row = element("div", { class: "acts" }, versionArrows(info, acts.version),
      iconButton("copy", "Copy message", (event) => copyText(message.content, event.currentTarget)), edit);
    node.replaceChildren(...(message.files ?? []).map(fileCard), ...(message.content ? [words] : []), element("footer", { class: "turn-foot" }, row));
  };
  const change = (message, info) => {
    const field = element("textarea", { rows: "3", "aria-label": "Edit your message", dir: "auto" });
    field.value = message.content;
    const back = () => {
      show(message, info);
      node.querySelector("[data-act=edit]").focus();
    };
    const form = element("form", { class: "edit-form" }, field, element("div", { class: "edit-acts" },
      element("button", { type: "button", class: "plain", onclick: back }, "Cancel"),
      element("button", { type: "submit", class: "main" }, "Send")));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (field.value.trim() || message.files?.length) acts.edit(message, field.value);
    });
    field.addEventListener("keydown", (event) => {
      if (event.key === "Escape") back();
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
      if (event.key === "Escape") event.stopPropagation();
    });
    node.replaceChildren(...(message.files ?? []).map(fileCard), form);
    field.style.height = `${Math.min(400, field.scrollHeight + 4)}px`;
    field.focus();
  };
  return { node, update };
}

function fileCard({ name, text, bytes }) {
  const kind = /\.(\w{1,12})$/.exec(name)?.[1].toLowerCase() ?? "";
  const pre = element("pre", { tabindex: "0", role: "group", "aria-label": `Content of ${name}` }, element("code", { dir: "ltr" }, colouredCode(kind, text.slice(0, 20_000))));
  return element("details", { class: "file" }, element("summary", {}, icon("file"), element("span", {}, name), element("small", {}, sizeText(bytes))), pre);
}
