// Conversations in this browser (IndexedDB), and their form in files.
//
// A conversation: { id, title, created, updated, messages: [{ role: 'user' | 'assistant', content, reasoning?, note?, figures? }] }

const kChanged = 'hearth.conversations';

export class ConversationStore {
  #database = null; // null: nothing is kept
  #kept = new Map();
  #others = 'BroadcastChannel' in window ? new BroadcastChannel(kChanged) : null;

  // `changed` is called when another tab has changed something. Never fails: `keeps` says if anything outlives the page.
  static async open(changed) {
    const store = new ConversationStore();
    try {
      store.#database = await new Promise((resolve, reject) => {
        const opening = indexedDB.open('hearth', 1);
        opening.onupgradeneeded = () => opening.result.createObjectStore('conversations', { keyPath: 'id' });
        opening.onsuccess = () => resolve(opening.result);
        opening.onerror = opening.onblocked = () => reject(opening.error);
      });
      await store.#read();
    } catch {
      store.#database = null;
    }
    if (store.#others)
      store.#others.onmessage = async () => {
        await store.#read();
        changed();
      };
    return store;
  }

  get keeps() {
    return this.#database !== null;
  }
  get(id) {
    return this.#kept.get(id);
  }
  newestFirst() {
    return [...this.#kept.values()].sort((a, b) => b.updated - a.updated);
  }

  async put(conversation) {
    this.#kept.set(conversation.id, conversation);
    await this.#write((conversations) => conversations.put(conversation));
  }

  async remove(id) {
    this.#kept.delete(id);
    await this.#write((conversations) => conversations.delete(id));
  }

  async #write(change) {
    if (!this.#database) return;
    await new Promise((resolve, reject) => {
      const transaction = this.#database.transaction('conversations', 'readwrite');
      change(transaction.objectStore('conversations'));
      transaction.oncomplete = resolve;
      transaction.onerror = transaction.onabort = () => reject(transaction.error);
    });
    this.#others?.postMessage('changed');
  }

  async #read() {
    const all = await new Promise((resolve, reject) => {
      const reading = this.#database.transaction('conversations').objectStore('conversations').getAll();
      reading.onsuccess = () => resolve(reading.result);
      reading.onerror = () => reject(reading.error);
    });
    this.#kept = new Map(all.map((conversation) => [conversation.id, conversation]));
  }
}

export const newConversation = () => ({
  id: newId(),
  title: '',
  created: Date.now(),
  updated: Date.now(),
  messages: [],
});

const newId = () =>
  [...crypto.getRandomValues(new Uint8Array(9))].map((byte) => byte.toString(16).padStart(2, '0')).join('');

export const exported = (conversations) =>
  JSON.stringify({ format: 'hearth-conversations', version: 1, conversations }, null, 1);

// What a file holds, or an Error that says what is wrong with it. Takes over only what it knows; ids are new.
export function imported(text) {
  let file;
  try {
    file = JSON.parse(text);
  } catch {
    throw new Error('The file is not JSON.');
  }
  if (file?.format !== 'hearth-conversations' || !Array.isArray(file.conversations))
    throw new Error('The file holds no conversations of Hearth.');
  return file.conversations.map((given, at) => {
    const wrong = () => new Error(`Conversation ${at + 1} of the file is damaged.`);
    if (!Array.isArray(given?.messages)) throw wrong();
    const messages = given.messages.map((message) => {
      if (!['user', 'assistant'].includes(message?.role) || typeof message.content !== 'string') throw wrong();
      const kept = { role: message.role, content: message.content };
      for (const name of ['reasoning', 'note']) if (typeof message[name] === 'string') kept[name] = message[name];
      return kept;
    });
    const time = (value) => (Number.isFinite(value) ? value : Date.now());
    return {
      id: newId(),
      title: String(given.title ?? '').slice(0, 200),
      created: time(given.created),
      updated: time(given.updated),
      messages,
    };
  });
}
