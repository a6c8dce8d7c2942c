// The worker that paints, as the engine calls it.

export const FAULT =
  "The painting has stopped: most likely the browser has no more memory for it. Choose a smaller size, or close " +
  "other tabs, and try again.";

export class Client {
  #worker = null;
  /** Settled when the worker has loaded its module. */
  #loaded = null;
  #isLoading = false;
  #calls = 0;
  #waiting = new Map();
  #heard;
  /** On which threads of the worker tell of their faults: it cannot, since it waits for them. */
  #faults = null;
  threads = 1;

  /** `heard` hears of the job that is painted, and of a worker that is no more: a `fault`. */
  constructor(heard) {
    this.#heard = heard;
  }

  /** Starts a worker in the place of any before: what there is to choose from. */
  load() {
    this.#end();
    const worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    worker.onmessage = ({ data }) => worker === this.#worker && this.#hear(data);
    worker.onerror = (event) => {
      event.preventDefault();
      if (worker === this.#worker) this.#fault(event.message || "a file of this page cannot be loaded");
    };
    this.#worker = worker;
    const name = `impasto ${crypto.randomUUID()}`;
    this.#faults = new BroadcastChannel(name);
    this.#faults.onmessage = ({ data }) => this.#fault(data);
    this.#isLoading = true;
    this.#loaded = this.#send("load", name).then(({ info, threads }) => {
      this.#isLoading = false;
      this.threads = threads;
      return info;
    });
    return this.#loaded;
  }

  #end() {
    this.#worker?.terminate();
    this.#faults?.close();
    [this.#worker, this.#faults] = [null, null];
  }

  #send(name, ...values) {
    const call = ++this.#calls;
    return new Promise((done, failed) => {
      this.#waiting.set(call, { name, done, failed });
      this.#worker.postMessage({ call, name, values });
    });
  }

  /** Calls a function of the worker, once that has loaded. */
  async call(name, ...values) {
    const loaded = this.#loaded;
    try {
      await loaded;
    } catch {
      // Another one may.
      if (loaded === this.#loaded) this.load();
      await this.#loaded;
    }
    return this.#send(name, ...values);
  }

  #hear(data) {
    if (data.fault !== undefined) return this.#fault(data.fault);
    if (data.call === undefined) return this.#heard(data);
    const { done, failed } = this.#waiting.get(data.call);
    this.#waiting.delete(data.call);
    if (data.error === undefined) done(data.value);
    else failed(new Error(data.error));
  }

  /** A worker that has met a fault is of no more use: another takes its place. */
  #fault(text) {
    console.warn(text);
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    if (this.#isLoading) {
      this.#end();
      for (const { failed } of waiting) failed(new Error(text));
      return;
    }
    this.load().catch(() => {});
    const isOfPicture = waiting.some(({ name }) => name === "read");
    this.#heard({ kind: "fault", isOfPicture });
    for (const { failed } of waiting) failed(new Error(FAULT));
  }
}
