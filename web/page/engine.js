// What paints, in this browser: the queue, and what is kept of it. The page knows it only through the functions
// of `Engine`.

import { Client, FAULT } from "./client.js";
import { Storage } from "./storage.js";

const POINTS = 2000;
const STYLES = 16;
const WAITING = 50;
const PICTURE_BYTES = 128 * 2 ** 20;

const NO_ROOM = "The browser has no room to keep this: download the result before you close the page, or delete jobs.";
const CLOSED =
  "The page was closed while this picture was begun. If that was not you, it needs more memory than there is: choose " +
  "a smaller size.";

/** How to leave a job. A later one goes further than those before. */
const LEAVES = [null, "pause", "finish", "remove"];

const isUnfinished = (job) => ["queued", "painting", "paused"].includes(job.status);
/** The number of the job whose result a picture is. */
const jobOf = (id) => /^job-(\d+)$/.exec(id)?.[1];
/** The name of a picture's file in the storage. */
const fileOf = (id) => (jobOf(id) ? `result/${jobOf(id)}` : `picture/${id}`);

/** All pictures that settings name. */
function pictures({ content, styles, start }) {
  const all = [content, start, ...styles.flatMap(({ picture, mask }) => [picture, mask])];
  return all.filter((id) => id);
}

/** Pictures and network of settings, which stay as they are in a job. */
function fixed({ content, styles, start, encoder }) {
  return JSON.stringify([content, styles.map(({ picture, mask }) => [picture, mask ?? null]), start ?? null, encoder]);
}

export class Engine {
  #storage = new Storage();
  #client = new Client((event) => this.#workerSaid(event));
  /** By number: what is known of each, `curves`, and the number of its `preview`. */
  #jobs = new Map();
  #last = 0;
  /** Addresses of blobs that the page shows, by their names. */
  #shown = new Map();
  /** The job that is painted, and when the worker has begun it. */
  #current = null;
  #begun = null;
  #isBegun = false;
  #heard = () => {};
  #connected = () => {};
  #info = null;
  /** Whether no other tab works. */
  #isAlone = false;

  /** Where it paints. */
  get connection() {
    const threads = this.#client.threads === 1 ? "one thread" : `${this.#client.threads} threads`;
    const kept = this.#storage.keeps ? "" : "; this browser keeps nothing when the page is closed";
    return `Paints on this device, ${threads}${kept}`;
  }

  /** What there is to choose from. */
  async info() {
    if (this.#info) return this.#info;
    if (!isSecureContext) {
      throw new Error("open this page over HTTPS or on localhost; elsewhere browsers do not allow what it needs");
    }
    await serve();
    this.#isAlone ||= await alone();
    if (!this.#isAlone) throw new Error("impasto is open in another tab; go on there, or close it");
    const info = await this.#client.load();
    await this.#storage.open();
    await this.#recall();
    document.addEventListener("visibilitychange", () => {
      if (document.hidden && this.#isBegun) this.#client.call("keep").catch(() => {});
    });
    // One that the browser had put aside: another may work by now.
    window.addEventListener("pageshow", ({ persisted }) => persisted && location.reload());
    this.#info = { title: "impasto", read_only: false, picture_bytes: PICTURE_BYTES, ...info };
    return this.#info;
  }

  /** Takes a picture: its id, width and height. */
  async addPicture(blob) {
    const { id, width, height, png } = await this.#client.call("read", blob);
    const shown = new Blob([png], { type: "image/png" });
    this.#show(`shown/${id}`, shown);
    // A file may change or go; this one stays.
    await this.#storage.put(`picture/${id}`, new Blob([await blob.arrayBuffer()]));
    await this.#storage.put(`shown/${id}`, shown);
    return { id, width, height };
  }

  /** Begins a job: its id. */
  async start(settings) {
    if (settings.styles.length > STYLES) throw new Error(`no more than ${STYLES} styles at once`);
    if ([...this.#jobs.values()].filter(isUnfinished).length >= WAITING) {
      throw new Error(`${WAITING} jobs wait already; delete some first`);
    }
    if (pictures(settings).some((id) => !this.picture(id))) {
      throw new Error("a picture of this job is not there any more; choose it again");
    }
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
      // How to leave it, where that was ordered and is not done yet.
      leave: null,
      // Whether it was begun and has not taken a step since.
      begins: false,
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
    if (this.#current === id) {
      await this.#begun;
      await this.#client.call("steer", id, settings);
    }
    if (this.#jobs.get(id) !== job || !isUnfinished(job)) throw new Error("the job has ended");
    job.steering.push({ evaluation: job.progress?.evaluation ?? 0, settings });
    job.message = null;
    this.#tell(job);
  }

  /** Pauses, continues, finishes or removes a job. */
  async act(id, action) {
    const job = this.#job(id);
    const first = () => Math.min(0, ...[...this.#jobs.values()].map(({ place }) => place)) - 1;
    if (this.#current === id) {
      if (!LEAVES.includes(action)) throw new Error("the job is painted already");
      if (LEAVES.indexOf(action) > LEAVES.indexOf(job.leave)) job.leave = action;
      if (this.#isBegun) this.#leave(job);
      return this.#keep(job);
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

  /** Calls `heard` with every event, all that there is at first, and `connected` when it works. */
  events(heard, connected) {
    [this.#heard, this.#connected] = [heard, connected];
    connected(true);
    heard({ type: "all", jobs: [...this.#jobs.values()].map(view) });
    this.#next();
  }

  /** A picture that was added, or a job's result (`job-1`), for an `img`; its address tells versions apart. */
  picture(id, small = false) {
    const job = jobOf(id);
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
    const job = this.#jobs.get(id);
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
    if (this.#jobs.get(job.id) !== job) return;
    await this.#storage.put(`job/${job.id}`, { ...job, preview: 0 });
    await this.#storage.put("last", this.#last);
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
    const names = await this.#storage.names();
    for (const name of names.filter((name) => name.startsWith("job/"))) {
      const job = await this.#kept(name);
      if (!job) continue;
      this.#jobs.set(job.id, job);
      if (job.status === "painting") this.#obey(job, "queued");
      if (job.begins) Object.assign(job, { status: "paused", message: CLOSED, begins: false });
    }
    this.#jobs = new Map([...this.#jobs].sort(([a], [b]) => a - b));
    this.#last = Math.max((await this.#kept("last")) ?? 0, ...this.#jobs.keys());
    // Pictures stay as long as a job or the form names them.
    const named = JSON.stringify([...this.#jobs.values()]) + remembered();
    for (const name of names) {
      const [kind, id] = name.split("/");
      if (["picture", "shown"].includes(kind) && !named.includes(id)) await this.#storage.delete(name);
      else if (["shown", "result", "thumbnail"].includes(kind)) {
        const blob = await this.#kept(name);
        if (blob) this.#show(name, blob);
      }
    }
    for (const job of [...this.#jobs.values()].filter(({ leave }) => leave === "remove")) await this.#remove(job);
  }

  /** What is kept under a name, if it can be read. */
  async #kept(name) {
    try {
      return await this.#storage.get(name);
    } catch (error) {
      console.warn(name, error);
      return undefined;
    }
  }

  /** The file of a picture that a job is painted from. */
  async #file(id) {
    const blob = await this.#storage.get(fileOf(id));
    if (!blob) throw new Error("a picture of this job is not there any more; choose it again");
    return blob;
  }

  /** Paints the next job that waits, unless one is painted. */
  #next() {
    if (this.#current !== null) return;
    const queued = [...this.#jobs.values()].filter(({ status }) => status === "queued");
    const job = queued.sort((a, b) => a.place - b.place || a.id - b.id)[0];
    if (!job) return;
    [this.#current, this.#isBegun] = [job.id, false];
    Object.assign(job, { status: "painting", message: null, begins: true });
    this.#tell(job);
    this.#begun = this.#begin(job);
  }

  async #begin(job) {
    try {
      const { settings, steering, finish } = job;
      const styles = [];
      for (const { picture, weight, mask } of settings.styles) {
        styles.push({ picture: await this.#file(picture), weight, mask: mask ? await this.#file(mask) : null });
      }
      const begun = await this.#client.call("begin", job.id, {
        settings,
        steered: steering.at(-1)?.settings ?? null,
        finish,
        content: await this.#file(settings.content),
        styles,
        start: settings.start ? await this.#file(settings.start) : null,
        checkpoint: (await this.#storage.get(`checkpoint/${job.id}`)) ?? null,
      });
      if (begun.refused) steering.pop();
      job.message = begun.message;
      job.curves = job.curves.filter(({ evaluation }) => evaluation <= begun.evaluations);
      this.#isBegun = true;
      this.#tell(job);
      if (job.leave) this.#leave(job);
    } catch (error) {
      await this.#left(job, { status: "failed", message: String(error.message ?? error) });
    }
  }

  /** Passes the order to leave a job on. */
  #leave(job) {
    this.#client.call("leave", job.id, job.leave).catch(() => {});
  }

  /** Hears what the worker says of the job that is painted. */
  async #workerSaid({ kind, id, ...said }) {
    const job = this.#jobs.get(this.#current);
    if (kind === "fault") {
      this.#connected(true);
      // While a job is begun, its call fails too. A picture that was added is no fault of the job.
      if (!job || !this.#isBegun) return;
      const left = said.isOfPicture ? { status: "queued" } : { status: "failed", message: FAULT };
      await this.#left(job, left);
    } else if (job?.id !== id) {
      // It was left by a fault.
    } else if (kind === "step") {
      job.progress = said.progress ?? job.progress;
      job.curves.push(...said.points);
      if (job.curves.length > POINTS) job.curves = job.curves.filter((_, index) => index % 2 === 0);
      if (said.preview) {
        this.#show(`preview/${job.id}`, new Blob([said.preview], { type: "image/jpeg" }));
        job.preview += 1;
      }
      const { progress, points } = said;
      this.#heard({ type: "step", id, progress, points, preview: job.preview });
      if (job.begins) {
        job.begins = false;
        await this.#keep(job);
      }
    } else if (kind === "kept") {
      await this.#keepFiles(job, said);
      this.#tell(job);
    } else if (kind === "left") {
      await this.#left(job, said);
    }
  }

  /** Keeps what the worker gave of a job. */
  async #keepFiles(job, { checkpoint, thumbnail, result }) {
    const files = [
      ["checkpoint", checkpoint, ""],
      ["thumbnail", thumbnail, "image/jpeg"],
      ["result", result, "image/png"],
    ];
    const blobs = files
      .filter(([, bytes]) => bytes)
      .map(([kind, bytes, type]) => [`${kind}/${job.id}`, new Blob([bytes], { type })]);
    for (const [name, blob] of blobs) if (blob.type) this.#show(name, blob);
    let kept = true;
    for (const [name, blob] of blobs) kept = (await this.#storage.put(name, blob)) && kept;
    if (kept && result) await this.#storage.delete(`checkpoint/${job.id}`);
    if (!kept && this.#storage.keeps) job.message = NO_ROOM;
    else if (job.message === NO_ROOM) job.message = null;
  }

  /** Gives a job that was left its status, by what it was told meanwhile. */
  #obey(job, status) {
    const { leave } = job;
    Object.assign(job, { status, finish: false });
    if (leave !== "remove") job.leave = null;
    if (leave === "finish" && ["paused", "queued"].includes(status)) Object.assign(job, { status: "queued", finish: true });
    if (leave === "pause" && status === "queued") job.status = "paused";
  }

  /** The worker has left the job. What it was told meanwhile is not lost. */
  async #left(job, said) {
    this.#isBegun = false;
    Object.assign(job, { status: said.status, begins: false });
    job.message = said.message ?? job.message;
    await this.#keepFiles(job, said);
    this.#current = null;
    this.#obey(job, said.status);
    if (job.leave === "remove") await this.#remove(job);
    else this.#tell(job);
    this.#next();
  }
}

/** What the form remembers. */
function remembered() {
  try {
    return localStorage.getItem("impasto") ?? "";
  } catch {
    // A browser that was told to keep nothing.
    return "";
  }
}

/** What the page is told of a job. */
function view({ curves, leave, begins, ...job }) {
  return structuredClone(job);
}

/**
 * Has the service worker serve the page, so that it needs no network from now on. What it serves may have threads:
 * a page that came from elsewhere is loaded once more before anything has begun.
 */
async function serve() {
  try {
    const registration = await navigator.serviceWorker.register("service-worker.js");
    if (crossOriginIsolated || sessionStorage.getItem("served")) return;
    const worker = registration.active ?? registration.installing ?? registration.waiting;
    const ends = ["activated", "redundant"];
    await new Promise((done) => {
      const look = () => ends.includes(worker.state) && done();
      worker.addEventListener("statechange", look);
      look();
    });
    if (worker.state !== "activated") return;
    sessionStorage.setItem("served", "yes");
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
    const left = new Promise((left) => window.addEventListener("pagehide", left));
    const held = navigator.locks.request("impasto", { ifAvailable: true }, (lock) => {
      settled(lock !== null);
      return lock && left;
    });
    // Where a browser was told to keep nothing, tabs have nothing in common.
    held.catch(() => settled(true));
  });
}
