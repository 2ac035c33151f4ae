// The settings at the side: system prompt, sampling, tools, token view, look.
//
// An empty number is not sent: its field shows the server's own default where the server tells it.

import { element, part } from "../element.js";
import { readTools } from "../talk/request.js";

const SAMPLING = [
  { name: "temperature", label: "Temperature", min: 0, max: 2, step: 0.05, hint: "0 always takes the likeliest" },
  { name: "top_p", label: "Top p", min: 0, max: 1, step: 0.01, hint: "Likeliest tokens up to this share" },
  { name: "top_k", label: "Top k", min: 1, max: 1000, step: 1, hint: "Choose among so many tokens" },
  { name: "min_p", label: "Min p", min: 0, max: 1, step: 0.01, hint: "Drop below this part of the best" },
  { name: "max_tokens", label: "Max tokens", min: 1, max: 1_000_000, step: 1, hint: "Longest answer" },
  { name: "seed", label: "Seed", min: 0, max: Number.MAX_SAFE_INTEGER, step: 1, hint: "Same seed, same answer" },
];

/** Return `{show(settings, system, about)}`; `changed(name, value)` is called for every change. */
export function panelView(changed) {
  const fields = SAMPLING.map((control) => numberField(control, changed));
  part("sampling").append(...fields.map((field) => field.node));
  const system = part("system");
  system.addEventListener("input", () => changed("system", system.value));
  const tools = part("tools");
  const showProblem = () => {
    part("tools-problem").textContent = readTools(tools.value).problem;
  };
  tools.addEventListener("change", () => (showProblem(), changed("tools", tools.value)));
  const boxes = { showsTokens: part("shows-tokens"), usesServerTools: part("server-tools") };
  for (const [name, box] of Object.entries(boxes)) box.addEventListener("change", () => changed(name, box.checked));
  const looks = [...document.querySelectorAll("input[name=look]")];
  for (const look of looks) look.addEventListener("change", () => changed("look", look.value));

  const show = (settings, text, about) => {
    if (document.activeElement !== system) system.value = text;
    for (const field of fields) field.show(settings, about);
    if (document.activeElement !== tools) tools.value = settings.tools;
    showProblem();
    for (const [name, box] of Object.entries(boxes)) box.checked = settings[name];
    for (const look of looks) look.checked = look.value === settings.look;
    const offered = about.server_tools ?? [];
    part("server-tools-row").hidden = !offered.length;
    part("server-tools-names").textContent = offered.map((tool) => tool.name).join(", ");
  };
  return { show };
}

function numberField({ name, label, min, max, step, hint }, changed) {
  const input = element("input", { type: "number", id: `set-${name}`, min, max, step, inputmode: "decimal", "aria-describedby": `hint-${name}` });
  const note = element("small", { id: `hint-${name}` }, hint);
  input.addEventListener("change", () => {
    const isRight = input.value !== "" && input.checkValidity();
    const isBad = input.value !== "" ? !isRight : input.validity.badInput;
    input.setAttribute("aria-invalid", String(isBad));
    note.textContent = isBad ? `${input.validationMessage || "A number is expected."} It is not sent.` : hint;
    changed(name, isRight ? input.valueAsNumber : null);
  });
  const show = (settings, about) => {
    const given = about[name];
    input.placeholder = typeof given === "number" ? String(Math.round(given * 1000) / 1000) : "default";
    if (document.activeElement !== input && input.getAttribute("aria-invalid") !== "true") input.value = settings[name] ?? "";
  };
  return { node: element("div", { class: "number" }, element("label", { for: `set-${name}` }, label), input, note), show };
}
