// The worker that paints, as the engine calls it.

const FAULT =
  "The painting has stopped: most likely the browser has no more memory for it. Choose a smaller size, or close " +
  "other tabs, and try again.";

export class Painter {
  #worker = null;
  #calls = 0;
  #waiting = new Map();
  #painted;
  threads = 1;

  /** `painted` hears of the job that is painted. */
  constructor(painted) {
    this.#painted = painted;
  }

  /** Starts the worker: what there is to choose from. */
  async load() {
    this.#worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    this.#worker.onmessage = ({ data }) => this.#hear(data);
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.#hear({ fault: event.message });
    };
    const { info, threads } = await this.#call("load");
    this.threads = threads;
    return info;
  }

  /** Ends the worker. */
  end() {
    this.#worker.terminate();
  }

  #call(name, ...values) {
    const call = ++this.#calls;
    return new Promise((done, failed) => {
      this.#waiting.set(call, { done, failed });
      this.#worker.postMessage({ call, name, values });
    });
  }

  #hear(data) {
    if (data.fault !== undefined) return this.#restart();
    if (data.call === undefined) return this.#painted(data);
    const { done, failed } = this.#waiting.get(data.call);
    this.#waiting.delete(data.call);
    if (data.error === undefined) done(data.value);
    else failed(new Error(data.error));
  }

  /** A worker that has met a fault is of no more use. */
  async #restart() {
    this.#worker.terminate();
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    const loaded = this.load();
    for (const { failed } of waiting) failed(new Error(FAULT));
    await loaded;
    this.#painted({ kind: "left", status: "failed", message: FAULT });
  }

  /** Reads a picture: width, height, and a PNG for the page. */
  read(bytes) {
    return this.#call("read", bytes);
  }

  /** Throws what is wrong with settings. */
  check(settings) {
    return this.#call("check", settings);
  }

  /** Begins a job: the evaluations that its checkpoint has, and what there is to say. */
  begin(job) {
    return this.#call("begin", job);
  }

  steer(settings) {
    return this.#call("steer", settings);
  }

  /** Leaves the job: `pause`, `finish` or `remove`. */
  leave(how) {
    this.#call("leave", how);
  }

  /** Keeps the state of the job now. */
  keep() {
    this.#call("keep");
  }
}
