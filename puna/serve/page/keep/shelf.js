// The conversations in memory and their copies in the store, which follow a moment later.

import { settleLeft } from "../talk/run.js";
import { openStore } from "./store.js";

const SAVE_MS = 400;

/** Open the shelf. `onfull` is called when the browser has no room, `onchange` when another tab wrote. */
export async function openShelf({ onfull, onchange, isBusy }) {
  const store = await openStore();
  const all = new Map();
  const timers = new Map();
  for (const conversation of await store.all()) all.set(conversation.id, settleLeft(conversation));

  const save = async (conversation) => {
    clearTimeout(timers.get(conversation.id));
    timers.delete(conversation.id);
    if (!all.has(conversation.id)) return; // removed meanwhile
    await store.put(structuredClone(conversation)).catch(onfull);
  };
  const keep = (conversation) => {
    all.set(conversation.id, conversation);
    if (!timers.has(conversation.id)) timers.set(conversation.id, setTimeout(() => save(conversation), SAVE_MS));
  };
  const remove = (id) => {
    all.delete(id);
    return store.remove(id);
  };
  /** Take what another tab kept, but nothing that is open or being written here. */
  const reread = async () => {
    const kept = await store.all();
    const ids = new Set(kept.map(({ id }) => id));
    for (const id of all.keys()) if (!ids.has(id) && !isBusy(id)) all.delete(id);
    for (const conversation of kept) if (!isBusy(conversation.id)) all.set(conversation.id, conversation);
    onchange();
  };
  store.watch(reread);
  const saveAll = () => [...timers.keys()].forEach((id) => save(all.get(id)));
  return { all, keep, save, saveAll, remove, isLasting: store.isLasting };
}
