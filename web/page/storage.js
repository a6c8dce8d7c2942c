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
  /** What there is where the browser keeps nothing. */
  #values = new Map();

  /** Whether it outlasts the page. */
  get keeps() {
    return this.#database !== null;
  }

  async open() {
    try {
      const request = indexedDB.open("impasto", 1);
      request.onupgradeneeded = () => request.result.createObjectStore(STORE);
      this.#database = await answer(request);
    } catch {
      // A private window, or a browser that was told to keep nothing.
    }
  }

  /** Asks the browser not to clear it when room gets short. */
  askToStay() {
    navigator.storage?.persist?.().catch(() => {});
  }

  #store(mode) {
    return this.#database.transaction(STORE, mode).objectStore(STORE);
  }

  async get(name) {
    return this.keeps ? answer(this.#store("readonly").get(name)) : this.#values.get(name);
  }

  async put(name, value) {
    if (this.keeps) await answer(this.#store("readwrite").put(value, name));
    else this.#values.set(name, value);
  }

  async delete(name) {
    if (this.keeps) await answer(this.#store("readwrite").delete(name));
    else this.#values.delete(name);
  }

  /** All names with their values. */
  async all() {
    if (!this.keeps) return [];
    const store = this.#store("readonly");
    const [names, values] = await Promise.all([answer(store.getAllKeys()), answer(store.getAll())]);
    return names.map((name, index) => [name, values[index]]);
  }
}
