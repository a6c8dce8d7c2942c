// What paints, in this browser: the queue, what is kept of it, and the worker. The page knows it only through
// the functions of `Engine`.

import { Storage } from "./storage.js";
import { Painter } from "./painter.js";

const POINTS = 2000;
const STYLES = 16;
const WAITING = 50;
const PICTURE_BYTES = 128 * 2 ** 20;

const isUnfinished = (job) => ["queued", "painting", "paused"].includes(job.status);

/** Pictures and network of settings, which stay as they are in a job. */
function fixed({ content, styles, start, encoder }) {
  return JSON.stringify([content, styles.map(({ picture, mask }) => [picture, mask ?? null]), start ?? null, encoder]);
}

export class Engine {
  #storage = new Storage();
  #painter = new Painter((event) => this.#painted(event));
  /** By number: what is known of each, `curves`, and the number of its `preview`. */
  #jobs = new Map();
  #last = 0;
  /** Addresses of blobs that the page shows, by their names. */
  #shown = new Map();
  /** The job that is painted, and when the worker has begun it. */
  #current = null;
  #begun = Promise.resolve();
  #heard = () => {};
  #info = null;
  /** Whether no other tab works. */
  #isAlone = false;

  /** Where it paints. */
  get place() {
    const threads = this.#painter.threads === 1 ? "one thread" : `${this.#painter.threads} threads`;
    const kept = this.#storage.keeps ? "" : "; this browser keeps nothing when the page is closed";
    return `Paints on this device, ${threads}${kept}`;
  }

  /** What there is to choose from. */
  async info() {
    if (this.#info) return this.#info;
    await serve();
    this.#isAlone ||= await alone();
    if (!this.#isAlone) throw new Error("impasto is open in another tab; go on there, or close it");
    const [info] = await Promise.all([this.#painter.load(), this.#storage.open()]);
    await this.#recall();
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.#painter.keep();
    });
    window.addEventListener("pagehide", () => this.#painter.end());
    // One that the browser had put aside.
    window.addEventListener("pageshow", ({ persisted }) => persisted && location.reload());
    this.#info = { title: "impasto", read_only: false, picture_bytes: PICTURE_BYTES, ...info };
    return this.#info;
  }

  /** Takes a picture: its id, width and height. */
  async addPicture(blob) {
    const bytes = new Uint8Array(await blob.arrayBuffer());
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    const id = [...digest.slice(0, 16)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    const { width, height, png } = await this.#painter.read(bytes.slice());
    const shown = new Blob([png], { type: "image/png" });
    await this.#storage.put(`picture/${id}`, new Blob([bytes]));
    await this.#storage.put(`shown/${id}`, shown);
    this.#show(`shown/${id}`, shown);
    return { id, width, height };
  }

  /** Begins a job: its id. */
  async start(settings) {
    if (settings.styles.length > STYLES) throw new Error(`no more than ${STYLES} styles at once`);
    if ([...this.#jobs.values()].filter(isUnfinished).length >= WAITING) {
      throw new Error(`${WAITING} jobs wait already; delete some first`);
    }
    await this.#painter.check(settings);
    const id = ++this.#last;
    const job = {
      id,
      settings,
      title: `${id} · ${settings.recipe}`,
      created: Math.floor(Date.now() / 1000),
      place: id,
      status: "queued",
      message: null,
      command: "",
      steering: [],
      finish: false,
      progress: null,
      curves: [],
      preview: 0,
    };
    this.#jobs.set(id, job);
    this.#storage.askToStay();
    this.#tell(job);
    this.#next();
    return { id };
  }

  /** Changes the settings of a job that is painted. */
  async steer(id, settings) {
    const job = this.#job(id);
    if (fixed(settings) !== fixed(job.settings)) {
      throw new Error("the pictures and the network of a job stay as they are; begin another one");
    }
    await this.#painter.check(settings);
    if (this.#current === id) {
      await this.#begun;
      await this.#painter.steer(settings);
    }
    job.steering.push({ evaluation: job.progress?.evaluation ?? 0, settings });
    job.message = null;
    this.#tell(job);
  }

  /** Pauses, continues, finishes or removes a job. */
  async act(id, action) {
    const job = this.#job(id);
    const first = () => Math.min(0, ...[...this.#jobs.values()].map(({ place }) => place)) - 1;
    if (this.#current === id && ["pause", "finish", "remove"].includes(action)) {
      await this.#begun;
      this.#painter.leave(action);
      return;
    }
    if (action === "remove") return this.#remove(job);
    if (action === "pause" && job.status === "queued") job.status = "paused";
    else if (action === "continue" && ["paused", "failed"].includes(job.status)) {
      Object.assign(job, { status: "queued", message: null, place: first() });
    } else if (action === "finish" && isUnfinished(job) && job.progress) {
      Object.assign(job, { status: "queued", finish: true, place: first() });
    } else throw new Error("that cannot be done with the job as it stands");
    this.#tell(job);
    this.#next();
  }

  /** The curves of a job so far. */
  async curves(id) {
    return this.#job(id).curves;
  }

  /** Calls `heard` with every event, all that there is at first, and `connected` once. */
  events(heard, connected) {
    this.#heard = heard;
    connected(true);
    heard({ type: "all", jobs: [...this.#jobs.values()].map(view) });
    this.#next();
  }

  /** A picture that was added, or a job's result (`job-1`), for an `img`; its address tells versions apart. */
  picture(id, small = false) {
    const job = /^job-(\d+)$/.exec(id)?.[1];
    const name = job ? `${small ? "thumbnail" : "result"}/${job}` : `shown/${id}`;
    return this.#shown.get(name) ?? "";
  }

  /** The picture of a job as it stands. */
  preview(job) {
    return this.#shown.get(`preview/${job.id}`) ?? "";
  }

  /** The result of a job, to keep. */
  result(id) {
    return this.#shown.get(`result/${id}`) ?? "";
  }

  /** How a job was painted, to keep. */
  history(id) {
    const { settings, steering } = this.#job(id);
    const text = JSON.stringify({ version: this.#info.version, settings, steering });
    this.#show(`history/${id}`, new Blob([text], { type: "application/json" }));
    return this.#shown.get(`history/${id}`);
  }

  #job(id) {
    const job = this.#jobs.get(Number(id));
    if (!job) throw new Error("there is no such job");
    return job;
  }

  #show(name, blob) {
    const before = this.#shown.get(name);
    this.#shown.set(name, URL.createObjectURL(blob));
    // The page may still load it.
    if (before) setTimeout(() => URL.revokeObjectURL(before), 10_000);
  }

  /** Tells the page of a job, and keeps it. */
  #tell(job) {
    this.#heard({ type: "job", job: view(job) });
    this.#keep(job);
  }

  async #keep(job) {
    try {
      await this.#storage.put(`job/${job.id}`, { ...job, preview: 0 });
      await this.#storage.put("last", this.#last);
    } catch (error) {
      job.message = `The job cannot be kept: ${error.message}`;
      this.#heard({ type: "job", job: view(job) });
    }
  }

  async #remove(job) {
    this.#jobs.delete(job.id);
    this.#heard({ type: "removed", id: job.id });
    for (const kind of ["job", "result", "thumbnail", "checkpoint"]) {
      await this.#storage.delete(`${kind}/${job.id}`);
    }
    for (const kind of ["result", "thumbnail", "preview", "history"]) {
      const address = this.#shown.get(`${kind}/${job.id}`);
      if (address) URL.revokeObjectURL(address);
      this.#shown.delete(`${kind}/${job.id}`);
    }
  }

  /** Everything that was kept when the page was closed. What was painted then goes on. */
  async #recall() {
    for (const [name, value] of await this.#storage.all()) {
      if (name === "last") this.#last = Math.max(this.#last, value);
      else if (name.startsWith("job/")) {
        if (value.status === "painting") value.status = "queued";
        this.#jobs.set(value.id, value);
        this.#last = Math.max(this.#last, value.id);
      } else if (/^(shown|result|thumbnail)\//.test(name)) this.#show(name, value);
    }
    this.#jobs = new Map([...this.#jobs].sort(([a], [b]) => a - b));
  }

  /** The bytes of a picture that a job is painted from. */
  async #bytes(id) {
    const job = /^job-(\d+)$/.exec(id)?.[1];
    const blob = await this.#storage.get(job ? `result/${job}` : `picture/${id}`);
    if (!blob) throw new Error("a picture of this job is not there any more; choose it again");
    return new Uint8Array(await blob.arrayBuffer());
  }

  /** Paints the next job that waits, unless one is painted. */
  #next() {
    if (this.#current !== null) return;
    const queued = [...this.#jobs.values()].filter(({ status }) => status === "queued");
    const job = queued.sort((a, b) => a.place - b.place || a.id - b.id)[0];
    if (!job) return;
    this.#current = job.id;
    Object.assign(job, { status: "painting", message: null });
    this.#tell(job);
    this.#begun = this.#begin(job);
  }

  async #begin(job) {
    try {
      const { settings, steering, finish } = job;
      const styles = settings.styles.map(async ({ picture, weight, mask }) => ({
        bytes: await this.#bytes(picture),
        weight,
        mask: mask ? await this.#bytes(mask) : null,
      }));
      const kept = await this.#storage.get(`checkpoint/${job.id}`);
      const begun = await this.#painter.begin({
        settings,
        steered: steering.at(-1)?.settings ?? null,
        finish,
        content: await this.#bytes(settings.content),
        styles: await Promise.all(styles),
        start: settings.start ? await this.#bytes(settings.start) : null,
        checkpoint: kept ? new Uint8Array(await kept.arrayBuffer()) : null,
      });
      job.message = begun.message;
      job.curves = job.curves.filter(({ evaluation }) => evaluation <= begun.evaluations);
    } catch (error) {
      await this.#left(job, { status: "failed", message: String(error.message ?? error) });
    }
  }

  /** Hears what the worker says of the job that is painted. */
  async #painted({ kind, ...said }) {
    const job = this.#jobs.get(this.#current);
    if (!job) return;
    if (kind === "step") {
      job.progress = said.progress ?? job.progress;
      job.curves.push(...said.points);
      if (job.curves.length > POINTS) job.curves = job.curves.filter((_, index) => index % 2 === 0);
      if (said.preview) {
        this.#show(`preview/${job.id}`, new Blob([said.preview], { type: "image/jpeg" }));
        job.preview += 1;
      }
      const { progress, points } = said;
      this.#heard({ type: "step", id: job.id, progress, points, preview: job.preview });
    } else if (kind === "kept") {
      await this.#keepFiles(job, said);
      await this.#keep(job);
    } else if (kind === "left") {
      await this.#left(job, said);
    }
  }

  async #keepFiles(job, { checkpoint, thumbnail, result }) {
    try {
      if (checkpoint) await this.#storage.put(`checkpoint/${job.id}`, new Blob([checkpoint]));
      for (const [kind, bytes, type] of [
        ["thumbnail", thumbnail, "image/jpeg"],
        ["result", result, "image/png"],
      ]) {
        if (!bytes) continue;
        const blob = new Blob([bytes], { type });
        this.#show(`${kind}/${job.id}`, blob);
        await this.#storage.put(`${kind}/${job.id}`, blob);
      }
      if (result) await this.#storage.delete(`checkpoint/${job.id}`);
    } catch (error) {
      job.message = `The job cannot be kept: ${error.message}`;
    }
  }

  /** The worker has left the job. */
  async #left(job, said) {
    await this.#keepFiles(job, said);
    this.#current = null;
    if (said.status === "removed") await this.#remove(job);
    else {
      job.status = said.status;
      job.message = said.message ?? job.message;
      job.finish = false;
      this.#tell(job);
    }
    this.#next();
  }
}

/** What the page is told of a job. */
function view({ curves, ...job }) {
  return structuredClone(job);
}

/**
 * Has the service worker serve the page, so that it needs no network from now on. What it serves may have threads:
 * a page that came from elsewhere is loaded once more before anything has begun.
 */
async function serve() {
  if (!navigator.serviceWorker) return;
  try {
    await navigator.serviceWorker.register("service-worker.js");
    if (crossOriginIsolated || sessionStorage.getItem("served")) return;
    sessionStorage.setItem("served", "yes");
    await navigator.serviceWorker.ready;
    location.reload();
    // Nothing else is begun meanwhile.
    await new Promise(() => {});
  } catch {
    // A browser that was told to keep nothing: the page works as long as it is open, with one thread.
  }
}

/** Whether no other tab of this page works, which is then held off until this page is left. */
function alone() {
  return new Promise((settled) => {
    navigator.locks.request("impasto", { ifAvailable: true }, (lock) => {
      settled(lock !== null);
      return lock && new Promise((left) => window.addEventListener("pagehide", left));
    });
  });
}
