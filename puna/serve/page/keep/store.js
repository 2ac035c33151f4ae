// Conversations, kept in this browser: an IndexedDB of one table, or memory where the browser allows none.

const NAME = "puna";
const TABLE = "conversations";

/** Open the store; `isLasting` is false when the browser keeps nothing. */
export async function openStore() {
  const base = await openBase().catch(() => null);
  const channel = new BroadcastChannel(NAME);
  const tell = () => channel.postMessage("changed");
  const act = (mode, work) => (base ? transact(base, mode, work) : Promise.resolve());
  return {
    isLasting: base !== null,
    all: async () => (await act("readonly", (table) => table.getAll())) ?? [],
    put: async (conversation) => {
      await act("readwrite", (table) => table.put(conversation));
      tell();
    },
    remove: async (id) => {
      await act("readwrite", (table) => table.delete(id));
      tell();
    },
    /** Call back when another tab changed something. */
    watch: (callback) => channel.addEventListener("message", callback),
  };
}

function openBase() {
  return new Promise((resolve, reject) => {
    const asked = indexedDB.open(NAME, 1);
    asked.onupgradeneeded = () => asked.result.createObjectStore(TABLE, { keyPath: "id" });
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  });
}

function transact(base, mode, work) {
  return new Promise((resolve, reject) => {
    const action = base.transaction(TABLE, mode);
    const asked = work(action.objectStore(TABLE));
    action.oncomplete = () => resolve(asked.result);
    action.onerror = () => reject(action.error);
    action.onabort = () => reject(action.error);
  });
}
