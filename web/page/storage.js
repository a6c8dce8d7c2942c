// What the browser keeps when the page is closed: values by their names, in a database of this page.

const STORE = "kept";

/** The result of a request to the database. */
function answer(request) {
  return new Promise((done, failed) => {
    request.onsuccess = () => done(request.result);
    request.onerror = () => failed(request.error);
  });
}

export class Storage {
  #database = null;
  /** What the browser has not kept: all, or what it had no room for. */
  #values = new Map();

  /** Whether anything outlasts the page. */
  get keeps() {
    return this.#database !== null;
  }

  async open() {
    try {
      const request = indexedDB.open("impasto", 1);
      request.onupgradeneeded = () => request.result.createObjectStore(STORE);
      this.#database = await answer(request);
      // Some private windows have a database that takes no blobs.
      if (!(await this.#change((store) => store.put(new Blob(["x"]), "try")))) this.#database = null;
    } catch {
      // A private window, or a browser that was told to keep nothing.
    }
  }

  /** Asks the browser not to clear it when room gets short. */
  askToStay() {
    navigator.storage?.persist?.().catch(() => {});
  }

  #read(request) {
    return answer(request(this.#database.transaction(STORE, "readonly").objectStore(STORE)));
  }

  /** Changes the database: whether that is kept. */
  #change(request) {
    return new Promise((done) => {
      try {
        const transaction = this.#database.transaction(STORE, "readwrite");
        transaction.oncomplete = () => done(true);
        transaction.onabort = () => done(false);
        request(transaction.objectStore(STORE));
      } catch {
        done(false);
      }
    });
  }

  async get(name) {
    if (this.#values.has(name) || !this.keeps) return this.#values.get(name);
    return this.#read((store) => store.get(name));
  }

  /** Keeps a value, at least until the page is closed: whether also after that. */
  async put(name, value) {
    const kept = this.keeps && (await this.#change((store) => store.put(value, name)));
    if (kept) this.#values.delete(name);
    else this.#values.set(name, value);
    return kept;
  }

  async delete(name) {
    this.#values.delete(name);
    if (this.keeps) await this.#change((store) => store.delete(name));
  }

  /** The names of all that was kept. */
  async names() {
    return this.keeps ? this.#read((store) => store.getAllKeys()) : [];
  }
}
