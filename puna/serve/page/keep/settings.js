// What the user chose, kept in this browser: model, sampling, look, and the key where it may be kept.

const PLACE = "puna.settings";
const KEY = "puna.key";

const DEFAULTS = {
  model: "", temperature: null, top_p: null, top_k: null, min_p: null, max_tokens: null, seed: null,
  system: "", tools: "", usesServerTools: false, showsTokens: false, look: "auto",
};

/** Return the settings; a value of the wrong type falls back to its default. */
export function loadSettings() {
  const kept = parsed(read(localStorage, PLACE));
  const number = (value) => (typeof value === "number" && Number.isFinite(value) ? value : null);
  const entries = Object.entries(DEFAULTS).map(([name, value]) => {
    if (value === null) return [name, number(kept[name])];
    return [name, typeof kept[name] === typeof value ? kept[name] : value];
  });
  return Object.fromEntries(entries);
}

/** Keep the settings. */
export function saveSettings(settings) {
  write(localStorage, PLACE, JSON.stringify(settings));
}

/** Return the API key, from this tab or from this browser. */
export function loadKey() {
  return read(sessionStorage, KEY) ?? read(localStorage, KEY) ?? "";
}

/** Keep the key until the tab closes, or until it is removed. */
export function saveKey(key, isLasting) {
  write(localStorage, KEY, isLasting ? key : null);
  write(sessionStorage, KEY, key);
}

function parsed(text) {
  try {
    const value = JSON.parse(text ?? "{}");
    return value !== null && typeof value === "object" ? value : {};
  } catch {
    return {};
  }
}

// A browser may refuse its storage; the page works without it until the tab closes.
function read(place, name) {
  try {
    return place.getItem(name);
  } catch {
    return null;
  }
}

function write(place, name, value) {
  try {
    if (value) place.setItem(name, value);
    else place.removeItem(name);
  } catch {
    return;
  }
}
