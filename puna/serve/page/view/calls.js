// A tool call and its result, as a card that folds. What a tool said is as untrusted as the model's words.

import { element } from "../element.js";
import { colouredCode } from "../markdown/code.js";
import { icon } from "../icons.js";

const CODE_KEYS = new Set(["code", "source", "script"]); // arguments that are a program

/** Return the card of a call; `result` is its message or null, `onresult` takes what the user answers for it. */
export function callCard(call, result, { isRunning, onresult }) {
  const state = result ? (result.isError ? "failed" : "done") : isRunning ? "running" : "waiting for a result";
  const summary = element("summary", {}, icon("tool"), element("code", {}, call.name || "tool"),
    element("span", { class: "call-brief" }, brief(call)), element("span", { class: "call-state" }, state));
  const body = element("div", { class: "call-body" }, ...argumentParts(call), result ? resultParts(result) : null);
  if (!result && !isRunning && onresult) body.append(resultForm(call, onresult));
  return element("details", { class: `call ${result?.isError ? "is-error" : ""}`, open: true }, summary, body);
}

function parsed(text) {
  try {
    const value = JSON.parse(text);
    return value !== null && typeof value === "object" && !Array.isArray(value) ? value : null;
  } catch {
    return null; // arguments still stream, or the model wrote none that are JSON
  }
}

function brief(call) {
  const values = Object.values(parsed(call.text) ?? {});
  const line = values.length === 1 && typeof values[0] === "string" ? values[0] : values.length ? call.text : "";
  return line.replace(/\s+/g, " ").slice(0, 80);
}

function argumentParts(call) {
  const given = parsed(call.text);
  if (given && !Object.keys(given).length) return [element("p", { class: "call-label" }, "No arguments")];
  const keys = Object.keys(given ?? {});
  const isProgram = keys.length === 1 && CODE_KEYS.has(keys[0]) && typeof given[keys[0]] === "string";
  if (isProgram) return [box("Code", "python", given[keys[0]])];
  return [box("Arguments", "json", given ? neat(given) : call.text)];
}

/** Write JSON on one line where it fits. */
function neat(value) {
  const line = JSON.stringify(value, null, 1).replace(/\n */g, " ").replace(/^\{ (.*) \}$/, "{$1}");
  return line.length <= 72 ? line : JSON.stringify(value, null, 2);
}

function resultParts(result) {
  const given = parsed(result.content);
  const text = given ? neat(given) : result.content;
  return box(result.isError ? "Error" : "Result", given ? "json" : "", text || "(nothing)");
}

function box(label, language, text) {
  const pre = element("pre", { tabindex: "0", role: "group", "aria-label": label }, element("code", { dir: "ltr" }, colouredCode(language, text)));
  return element("div", { class: "call-part" }, element("p", { class: "call-label" }, label), pre);
}

/** A call that runs on neither side: the user says what the tool would have said. */
function resultForm(call, onresult) {
  const field = element("textarea", { rows: "2", "aria-label": `Result of ${call.name}`, placeholder: "Type what this tool returns" });
  const send = element("button", { type: "submit", class: "plain" }, "Give result");
  const form = element("form", { class: "call-form" }, field, send);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    onresult(field.value);
  });
  return form;
}
