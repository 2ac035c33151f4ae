// Where a message is written: the field, attached files, the context meter, send and stop.

import { element, part } from "../element.js";
import { icon, iconButton } from "../icons.js";
import { MOST_BYTES, MOST_FILES, readFile, sizeText } from "../talk/files.js";
import { toast } from "./toast.js";

/** Return the composer; `acts` has `send({text, files})`, `stop()` and `changed(text)`. */
export function composerView(acts) {
  const field = part("draft");
  const form = part("composer");
  const chips = part("chips");
  const button = part("send");
  let files = [];
  let isRunning = false;

  const fit = () => {
    field.style.height = "auto";
    field.style.height = `${Math.min(field.scrollHeight, Math.round(innerHeight * 0.4))}px`;
    button.disabled = !isRunning && !field.value.trim() && !files.length;
  };
  const showFiles = () => {
    chips.replaceChildren(...files.map((file) => element("li", { class: "chip" }, icon("file"), element("span", {}, file.name),
      element("small", {}, sizeText(file.bytes)),
      iconButton("close", `Remove ${file.name}`, () => setFiles(files.filter((other) => other !== file))))));
    chips.hidden = !files.length;
    fit();
  };
  const setFiles = (next) => {
    files = next;
    showFiles();
  };
  const attach = async (list) => {
    for (const given of list) {
      if (files.length >= MOST_FILES) return toast(`At most ${MOST_FILES} files can be attached to a message.`);
      const { file, problem } = await readFile(given);
      if (problem) toast(problem);
      else setFiles([...files, file]);
    }
    return field.focus();
  };
  const send = () => {
    const text = field.value.trim();
    if (isRunning || (!text && !files.length)) return;
    const given = files;
    field.value = "";
    setFiles([]);
    acts.changed("");
    acts.send({ text, files: given });
  };

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (isRunning) acts.stop();
    else send();
  });
  field.addEventListener("input", () => {
    fit();
    acts.changed(field.value);
  });
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || matchMedia("(pointer: coarse)").matches) return;
    event.preventDefault();
    send();
  });
  part("attach").addEventListener("click", () => part("files").click());
  part("attach").title = `Attach text or code (at most ${sizeText(MOST_BYTES)} a file)`;
  part("files").addEventListener("change", async (event) => {
    await attach([...event.target.files]);
    event.target.value = "";
  });
  field.addEventListener("paste", (event) => {
    if (!event.clipboardData.files.length) return;
    event.preventDefault();
    attach([...event.clipboardData.files]);
  });
  dropZone(attach);

  return {
    focus: () => field.focus(),
    isEmpty: () => !field.value,
    setText: (text) => {
      field.value = text;
      fit();
    },
    setFiles,
    setRunning: (running) => {
      isRunning = running;
      button.replaceChildren(icon(running ? "stop" : "send"));
      button.setAttribute("aria-label", running ? "Stop" : "Send");
      button.title = running ? "Stop (Esc)" : "Send (Enter)";
      button.classList.toggle("is-stop", running);
      fit();
    },
  };
}

function dropZone(attach) {
  const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    document.body.classList.add("is-dropping");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("is-dropping");
  });
  document.addEventListener("drop", (event) => {
    document.body.classList.remove("is-dropping");
    if (!hasFiles(event)) return;
    event.preventDefault();
    attach([...event.dataTransfer.files]);
  });
}

/** Show how much of the model's context the conversation fills; `used` and `size` may be null. */
export function showMeter(used, size) {
  const meter = part("meter");
  meter.hidden = used === null;
  if (used === null) return;
  const share = size ? Math.min(1, used / size) : 0;
  const text = size ? `${used.toLocaleString("en")} of ${size.toLocaleString("en")} tokens` : `${used.toLocaleString("en")} tokens`;
  part("meter-text").textContent = text;
  part("meter-bar").value = share;
  part("meter-bar").hidden = !size;
  part("meter-bar").classList.toggle("is-full", share > 0.85);
}
