// The Web Worker: paints one job at a time, and listens between its steps.

/** The module with threads, for a page that may share memory, and the one for any page. */
const THREADED = "./threads/impasto.js";
const PLAIN = "./impasto.js";

/** Longest side of what the page shows, and of what it lists, in pixels. */
const SHOWN = 1024;
const THUMBNAIL = 320;

/** Least time between two messages, in milliseconds: while a job is young, and later. */
const MESSAGES = 400;
const CALM = 1000;

/** How many times the time that they take passes between two previews, and between two checkpoints. */
const PREVIEWS = 60;
const CHECKPOINTS = 50;
const LEAST_CHECKPOINTS = 30_000;

/** What the module exports. */
let impasto = null;
/** The network, and what several jobs share. */
let painter = null;
/** The job that is painted, and what it was told. */
let job = null;

/** The settings as the module takes them. */
const text = ({ recipe, options }) => JSON.stringify({ recipe, options });

const weights = (settings) => Float64Array.from(settings.styles, ({ weight }) => weight);

const bytes = async (blob) => blob && new Uint8Array(await blob.arrayBuffer());

/** What the module says is wrong is text. Everything else is a fault, after which it is of no more use. */
const isTold = (error) => typeof error === "string";

/** Sends a message; its arrays are given away. */
function send(message) {
  const arrays = Object.values(message).filter((value) => value instanceof Uint8Array);
  postMessage(message, arrays.map((array) => array.buffer));
}

/** Loads the module with threads and starts so many, which tell of faults on a channel. */
async function loadThreads(count, faults) {
  const module = await import(THREADED);
  await module.default();
  const script = new URL(THREADED, import.meta.url).href;
  const shared = { script, module: module.shared_module(), memory: module.shared_memory(), faults };
  const threads = [];
  const start = () =>
    new Promise((ready, failed) => {
      const thread = new Worker(new URL("thread.js", import.meta.url), { type: "module" });
      threads.push(thread);
      thread.onmessage = ({ data }) => (data === null ? ready() : failed(data));
      thread.onerror = failed;
      thread.postMessage(shared);
    });
  try {
    await Promise.all(Array.from({ length: count }, start));
    module.start_threads(count);
  } catch (error) {
    for (const thread of threads) thread.terminate();
    throw error;
  }
  return module;
}

const answers = {
  async load(faults) {
    let threads = navigator.hardwareConcurrency;
    if (crossOriginIsolated && threads > 1) {
      try {
        impasto = await loadThreads(threads, faults);
      } catch (error) {
        // Where the browser lacks something of it.
        console.warn(error);
      }
    }
    if (!impasto) {
      threads = 1;
      impasto = await import(PLAIN);
      await impasto.default();
    }
    painter = new impasto.Painter();
    return { info: JSON.parse(impasto.info()), threads };
  },

  async read(blob) {
    const file = await bytes(blob);
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", file));
    const id = [...digest.slice(0, 16)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
    const shown = impasto.read_picture(file);
    const { width, height, png } = shown;
    shown.free();
    return { id, width, height, png };
  },

  async begin(id, { settings, steered, finish, content, styles, start, checkpoint }) {
    const begin = async (checkpoint) => {
      const made = new impasto.Job(text(settings));
      try {
        made.content(await bytes(content));
        for (const { picture, weight, mask } of styles) made.style(await bytes(picture), weight, await bytes(mask));
        if (start) made.start(await bytes(start));
      } catch (error) {
        if (isTold(error)) made.free();
        throw error;
      }
      return painter.begin(made, checkpoint);
    };
    let [painting, message, refused] = [null, null, false];
    try {
      painting = await begin(await bytes(checkpoint));
    } catch (error) {
      if (!checkpoint || !isTold(error)) throw error;
      message = `It begins anew: ${error}`;
      painting = await begin(null);
    }
    if (steered) {
      try {
        painting.steer(text(steered), weights(steered));
      } catch (error) {
        if (!isTold(error)) throw error;
        [message, refused] = [error, true];
      }
    }
    job = { id, painting, leave: finish ? "finish" : null, keep: false };
    setTimeout(paint);
    return { evaluations: painting.evaluations(), message, refused };
  },

  /** A job that was left meanwhile has it when it goes on. */
  steer(id, settings) {
    if (job?.id === id) job.painting.steer(text(settings), weights(settings));
  },

  leave(id, how) {
    if (job?.id === id) job.leave = how;
  },

  keep() {
    if (job) job.keep = true;
  },
};

onmessage = async ({ data: { call, name, values } }) => {
  try {
    send({ call, value: await answers[name](...values) });
  } catch (error) {
    send(isTold(error) ? { call, error } : { fault: String(error) });
  }
};

/** Lets messages in. */
function listen() {
  return new Promise((done) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => {
      port1.close();
      done();
    };
    port2.postMessage(null);
  });
}

/** Work and the time that it took. */
function timed(work) {
  const began = performance.now();
  const value = work();
  return [value, performance.now() - began];
}

async function paint() {
  const { id, painting } = job;
  let left;
  try {
    left = await steps();
  } catch (error) {
    if (!isTold(error)) return send({ fault: String(error) });
    if (job.painting) painting.free();
    left = { status: "failed", message: error };
  }
  job = null;
  send({ kind: "left", id, ...left });
}

/** Steps the job until it ends or is told to: how it was left. */
async function steps() {
  const { id, painting } = job;
  const began = performance.now();
  let [said, shown, kept] = [-Infinity, -Infinity, began];
  let [showing, keeping] = [0, LEAST_CHECKPOINTS];
  let [progress, points] = [null, []];
  const tell = (preview) => {
    send({ kind: "step", id, progress, points, preview });
    [said, points] = [performance.now(), []];
  };
  const state = () => ({ checkpoint: painting.checkpoint(), thumbnail: painting.preview(THUMBNAIL) });
  for (;;) {
    await listen();
    if (job.leave === "remove") {
      painting.free();
      return { status: "paused" };
    }
    if (job.leave === "pause") {
      const saved = state();
      tell(painting.preview(SHOWN));
      painting.free();
      return { status: "paused", ...saved };
    }
    const step = job.leave === "finish" ? { ended: true, points: [] } : JSON.parse(painting.step());
    progress = step.progress ?? progress;
    points.push(...step.points);
    const now = performance.now();
    if (step.ended) {
      const thumbnail = painting.preview(THUMBNAIL);
      tell(null);
      // It takes the run with it.
      job.painting = null;
      const painted = painting.finish();
      const { png, complete, message } = painted;
      painted.free();
      return { status: complete ? "done" : "stopped", message, result: png, thumbnail };
    }
    if (now - said >= Math.max(MESSAGES, Math.min(CALM, (now - began) / 6))) {
      let preview = null;
      if (now - shown >= PREVIEWS * showing) {
        [preview, showing] = timed(() => painting.preview(SHOWN));
        shown = performance.now();
      }
      tell(preview);
    }
    if (job.keep || now - kept >= keeping) {
      const [saved, took] = timed(state);
      send({ kind: "kept", id, ...saved });
      job.keep = false;
      kept = performance.now();
      keeping = Math.max(LEAST_CHECKPOINTS, CHECKPOINTS * took);
    }
  }
}
