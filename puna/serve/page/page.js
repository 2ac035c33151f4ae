// The page: one conversation at a time, its settings, and what every control does.
//
// State lives here and nowhere else; the views are told what to show and call back when the user acts.

import { part } from "./element.js";
import { icon } from "./icons.js";
import { copyText } from "./clipboard.js";
import { openShelf } from "./keep/shelf.js";
import { loadKey, loadSettings, saveKey, saveSettings } from "./keep/settings.js";
import { exported, imported } from "./keep/exchange.js";
import { listModels } from "./talk/models.js";
import { runAnswer } from "./talk/run.js";
import { addMessage, choose, leafOf, newConversation, shownPath, siblingsOf } from "./talk/tree.js";
import { Failure } from "./talk/failures.js";
import { composerView, showMeter } from "./view/composer.js";
import { closeDrawers, openDrawer, syncDrawers, toggleDrawer } from "./view/drawers.js";
import { askKey, wireDialogs } from "./view/keydialog.js";
import { listen } from "./view/keyboard.js";
import { panelView } from "./view/panel.js";
import { sidebarView } from "./view/sidebar.js";
import { threadView } from "./view/thread.js";
import { hideCard } from "./view/tokens.js";
import { say, toast } from "./view/toast.js";

const settings = loadSettings();
const runs = new Map(); // conversation id -> AbortController of the answer that is being written
let current = newConversation(settings.system);
let models = [];
let key = loadKey();
const isBusy = (id) => runs.has(id) || id === current.id;
let isDrawn = true;

const onfull = () => toast("The browser has no room to keep this conversation. Export or delete older ones.");
const shelf = await openShelf({ onfull, onchange: drawList, isBusy });

// What is shown

const thread = threadView(turnActs);
const composer = composerView({ send, stop, changed: keepDraft });
const sidebar = sidebarView({ open, rename, remove });
const panel = panelView(setSetting);

/** Bring the page up to date before the next frame. */
function draw() {
  if (!isDrawn) return;
  isDrawn = false;
  requestAnimationFrame(() => {
    isDrawn = true;
    drawNow();
  });
}

function drawNow() {
  const isRunning = runs.has(current.id);
  const path = shownPath(current);
  thread.show(current, { runningId: isRunning ? path.at(-1)?.id ?? null : null, showsTokens: settings.showsTokens });
  composer.setRunning(isRunning);
  const usage = path.findLast((message) => message.usage)?.usage;
  showMeter(usage ? usage.prompt + usage.completion : null, modelOf()?.context ?? null);
  document.title = current.title ? `${current.title} - puna` : "puna";
}

function drawList() {
  sidebar.show([...shelf.all.values()], current.id);
}

function drawSettings() {
  document.documentElement.dataset.look = settings.look;
  panel.show(settings, current.system, modelOf()?.about ?? {});
}

function modelOf() {
  return models.find((model) => model.id === settings.model) ?? null;
}

// Drafts

function keepDraft(text) {
  current.draft = text;
  if (shelf.all.has(current.id)) shelf.keep(current);
  else sessionDraft(text);
}

/** Keep or return the draft of a conversation that does not exist yet; it survives a reload of this tab. */
function sessionDraft(text = null) {
  try {
    if (text !== null) sessionStorage.setItem("puna.draft", text);
    return sessionStorage.getItem("puna.draft") ?? "";
  } catch {
    return ""; // the browser refuses its storage
  }
}

// Talking

function send({ text, files }) {
  const fields = { role: "user", content: text, ...(files.length ? { files } : {}) };
  ask(addMessage(current, leafOf(current)?.id ?? null, fields).id);
}

/** Have the message `parent` of the current conversation answered. */
async function ask(parent) {
  const conversation = current;
  const controller = new AbortController();
  runs.set(conversation.id, controller);
  sessionDraft("");
  shelf.keep(conversation);
  location.hash = conversation.id;
  drawList();
  thread.follow();
  say("The answer is being written.");
  const changed = () => {
    shelf.keep(conversation);
    if (conversation === current) draw();
  };
  const last = await runAnswer(conversation, parent, { settings: { ...settings }, key, signal: controller.signal, changed });
  runs.delete(conversation.id);
  conversation.changed = Date.now();
  await shelf.save(conversation);
  drawList();
  if (conversation === current) drawNow();
  announce(last, conversation);
}

function announce(message, conversation) {
  if (message.failure) say(message.failure.sentence);
  else if (message.state === "stopped") say("The answer was stopped.");
  else say(`The answer is complete. ${message.content.length < 1500 ? message.content : ""}`);
  if (conversation !== current) toast(`"${conversation.title}" has an answer.`, { label: "Open", run: () => open(conversation.id) });
  if (message.failure?.kind === "key" && conversation === current) useKey(() => retry(message));
}

function stop() {
  runs.get(current.id)?.abort();
}

/** Ask once more: a failed answer without a word is replaced, any other stays as a version. */
function retry(message) {
  if (runs.has(current.id)) return;
  const { parent } = message;
  if (!message.content && !message.calls?.length) {
    delete current.messages[message.id];
    if (current.chosen[parent ?? "root"] === message.id) delete current.chosen[parent ?? "root"];
  }
  ask(parent);
}

function turnActs(first) {
  return {
    version: (step) => {
      if (runs.has(current.id)) return;
      const siblings = siblingsOf(current, first);
      const wanted = siblings[siblings.findIndex(({ id }) => id === first.id) + step];
      choose(current, wanted);
      shelf.keep(current);
      drawNow();
      focusArrow(step, wanted);
    },
    edit: (message, text) => {
      const { role, files } = message;
      ask(addMessage(current, message.parent, { role, content: text, ...(files ? { files } : {}) }).id);
      composer.focus();
    },
    again: (message) => {
      if (!runs.has(current.id)) retry(message.failure ? message : { ...message, content: "kept" });
    },
    help: (message, kind) => help(message, kind),
    result: (call, said) => giveResult(call, said),
  };
}

/** Give the focus back to the arrow that was pressed, which now stands in another turn. */
function focusArrow(step, message) {
  const turn = document.querySelector(`.turn[data-id="${message.id}"]`);
  const [arrow, other] = [step, -step].map((wanted) => turn.querySelector(`[data-step="${wanted}"]`));
  (arrow.disabled ? other : arrow).focus();
}

function help(message, kind) {
  if (kind === "retry") return retry(message);
  if (kind === "key") return useKey(() => retry(message));
  if (kind === "model") return part("model").focus();
  const questions = document.querySelectorAll(".question [data-act=edit]");
  return questions[questions.length - 1]?.click();
}

/** The user said what a tool returns; when every call has its result, the model goes on. */
function giveResult(call, said) {
  const path = shownPath(current);
  const asker = path.findLast((message) => message.role === "assistant");
  const given = new Set(path.filter((message) => message.role === "tool").map((message) => message.callId));
  const result = addMessage(current, path.at(-1).id, { role: "tool", callId: call.id, content: said });
  given.add(call.id);
  if (asker.calls.every((other) => given.has(other.id))) ask(result.id);
  else shelf.keep(current), drawNow();
}

// Conversations

function open(id) {
  const next = shelf.all.get(id);
  if (!next || next === current) return closeDrawers();
  if (!Object.keys(current.messages).length) sessionDraft("");
  show(next);
  location.hash = id;
  return closeDrawers();
}

function fresh() {
  if (!Object.keys(current.messages).length) composer.focus();
  else show(newConversation(settings.system));
  history.replaceState(null, "", location.pathname + location.search);
  closeDrawers();
  composer.focus();
}

function show(conversation) {
  current = conversation;
  hideCard();
  composer.setFiles([]);
  composer.setText(conversation.draft);
  drawList();
  drawSettings();
  drawNow();
  thread.follow();
}

function rename(id, title) {
  const conversation = shelf.all.get(id);
  conversation.title = title;
  shelf.keep(conversation);
  drawList();
  drawNow();
}

async function remove(id) {
  const conversation = shelf.all.get(id);
  runs.get(id)?.abort();
  await shelf.remove(id);
  if (current.id === id) show(newConversation(settings.system));
  drawList();
  const restore = () => {
    shelf.keep(conversation);
    open(id);
    drawList();
  };
  toast(`"${conversation.title || "New conversation"}" was deleted.`, { label: "Undo", run: restore });
}

function neighbour(step) {
  const buttons = [...document.querySelectorAll("#conversations .open")];
  const at = buttons.findIndex((button) => button.hasAttribute("aria-current"));
  buttons[at < 0 ? 0 : at + step]?.click();
}

function exportAll() {
  const url = URL.createObjectURL(new Blob([exported([...shelf.all.values()])], { type: "application/json" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = `puna-${new Date().toISOString().slice(0, 10)}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

async function importFile(file) {
  try {
    const found = imported(await file.text(), new Set(shelf.all.keys()));
    for (const conversation of found) {
      shelf.keep(conversation);
    }
    drawList();
    toast(`${found.length} ${found.length === 1 ? "conversation was" : "conversations were"} imported.`);
  } catch (error) {
    toast(`Nothing was imported. ${error.message}`);
  }
}

// Settings, models, key

function setSetting(name, value) {
  if (name === "system") {
    current.system = value;
    if (shelf.all.has(current.id)) shelf.keep(current);
  }
  settings[name] = value;
  saveSettings(settings);
  if (name === "look") drawSettings();
}

async function loadModels() {
  const select = part("model");
  try {
    models = await listModels(key);
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    if (error.kind === "key") return useKey(loadModels);
    return toast(error.message, { label: "Try again", run: loadModels });
  }
  select.replaceChildren(...models.map(({ id }) => new Option(id, id)));
  select.hidden = !models.length;
  if (!models.some(({ id }) => id === settings.model)) setSetting("model", models[0]?.id ?? "");
  select.value = settings.model;
  drawSettings();
  return drawNow();
}

async function useKey(then) {
  const given = await askKey(key);
  if (!given) return;
  key = given.key;
  saveKey(key, given.isLasting);
  if (!models.length) await loadModels();
  if (then !== loadModels) then();
}

// Drawers and keyboard

function escape() {
  if (!part("token-card").hidden) hideCard();
  else if (!closeDrawers()) stop();
}

const press = (selector) => [...document.querySelectorAll(selector)].at(-1)?.click();

function wire() {
  for (const place of document.querySelectorAll("[data-icon]")) place.prepend(icon(place.dataset.icon));
  wireDialogs();
  listen({
    fresh, escape,
    focus: composer.focus,
    editLast: () => press(".question [data-act=edit]"),
    above: () => neighbour(-1),
    below: () => neighbour(1),
    search: () => (openDrawer("side"), part("filter").focus()),
    side: () => toggleDrawer("side"),
    panel: () => toggleDrawer("panel"),
    copyLast: () => {
      const last = shownPath(current).findLast((message) => message.role === "assistant" && message.content);
      if (last) copyText(last.content, part("fresh"));
    },
    again: () => press(".answer [aria-label='Answer again']"),
    help: () => part("keys-dialog").showModal(),
  });
  const clicks = {
    fresh, "fresh-top": fresh, veil: closeDrawers, "toggle-side": () => toggleDrawer("side"), "toggle-panel": () => toggleDrawer("panel"), "close-side": () => toggleDrawer("side"),
    "close-panel": () => toggleDrawer("panel"), export: exportAll, import: () => part("import-file").click(), help: () => part("keys-dialog").showModal(), "set-key": () => useKey(loadModels),
  };
  for (const [id, run] of Object.entries(clicks)) part(id).addEventListener("click", run);
  part("import-file").addEventListener("change", async (event) => {
    if (event.target.files.length) await importFile(event.target.files[0]);
    event.target.value = "";
  });
  part("model").addEventListener("change", (event) => {
    setSetting("model", event.target.value);
    drawSettings();
    drawNow();
  });
  for (const button of document.querySelectorAll("[data-say]")) {
    button.addEventListener("click", () => (composer.setText(button.dataset.say), keepDraft(button.dataset.say), composer.focus()));
  }
  addEventListener("hashchange", () => open(location.hash.slice(1)));
  addEventListener("resize", syncDrawers);
  addEventListener("pagehide", shelf.saveAll);
  document.addEventListener("visibilitychange", () => document.hidden && shelf.saveAll());
}

async function start() {
  wire();
  syncDrawers();
  drawSettings();
  const asked = shelf.all.get(location.hash.slice(1));
  if (asked) show(asked);
  else composer.setText(sessionDraft());
  drawNow();
  drawList();
  if (!shelf.isLasting) toast("This browser keeps nothing: conversations are lost when the page closes. Export what matters.");
  composer.focus();
  document.body.dataset.ready = "yes";
  await loadModels();
}

await start();
