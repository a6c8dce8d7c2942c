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
let painter = null;
/** The job that is painted, and what it was told. */
let job = null;

/** The settings as the module takes them. */
function plain({ recipe, options }) {
  return JSON.stringify({ recipe, options });
}

/** Loads the module with threads and starts so many. */
async function loadThreads(count) {
  impasto = await import(THREADED);
  await impasto.default();
  const script = new URL(THREADED, import.meta.url).href;
  const shared = { script, module: impasto.shared_module(), memory: impasto.shared_memory() };
  const start = () =>
    new Promise((ready, failed) => {
      const thread = new Worker(new URL("thread.js", import.meta.url), { type: "module" });
      thread.onmessage = ready;
      thread.onerror = failed;
      thread.postMessage(shared);
    });
  await Promise.all(Array.from({ length: count }, start));
  impasto.start_threads(count);
  return count;
}

const weights = (settings) => Float64Array.from(settings.styles, ({ weight }) => weight);

const answers = {
  async load() {
    let threads = 1;
    if (crossOriginIsolated && navigator.hardwareConcurrency > 1) {
      try {
        threads = await loadThreads(navigator.hardwareConcurrency);
      } catch (error) {
        // Where the browser lacks something of it.
        console.warn(error);
      }
    }
    if (threads === 1) {
      impasto = await import(PLAIN);
      await impasto.default();
    }
    painter = new impasto.Painter();
    return { info: JSON.parse(impasto.info()), threads };
  },

  read(bytes) {
    const { width, height, png } = impasto.read_picture(bytes);
    return { width, height, png };
  },

  check(settings) {
    impasto.check(plain(settings));
  },

  begin({ settings, steered, finish, content, styles, start, checkpoint }) {
    const begin = (checkpoint) => {
      const made = new impasto.Job(plain(settings));
      made.content(content);
      for (const { bytes, weight, mask } of styles) made.style(bytes, weight, mask);
      if (start) made.start(start);
      return painter.begin(made, checkpoint);
    };
    let [painting, message] = [null, null];
    try {
      painting = begin(checkpoint);
    } catch (error) {
      if (!checkpoint || error instanceof WebAssembly.RuntimeError) throw error;
      message = `It begins anew: ${error}`;
      painting = begin(null);
    }
    if (steered) {
      try {
        painting.steer(plain(steered), weights(steered));
      } catch (error) {
        if (error instanceof WebAssembly.RuntimeError) throw error;
        message = String(error);
      }
    }
    job = { painting, leave: finish ? "finish" : null, keep: false };
    setTimeout(paint);
    return { evaluations: painting.evaluations(), message };
  },

  steer(settings) {
    if (!job) throw new Error("the job is not painted any more");
    job.painting.steer(plain(settings), weights(settings));
  },

  leave(how) {
    // A later order goes further than those before.
    const orders = [null, "pause", "finish", "remove"];
    if (job && orders.indexOf(how) > orders.indexOf(job.leave)) job.leave = how;
  },

  keep() {
    if (job) job.keep = true;
  },
};

/** Answers calls in their order; a fault of the module ends the worker. */
onmessage = async ({ data: { call, name, values } }) => {
  try {
    postMessage({ call, value: await answers[name](...values) });
  } catch (error) {
    if (error instanceof WebAssembly.RuntimeError) postMessage({ fault: String(error) });
    else postMessage({ call, error: String(error.message ?? error) });
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
  try {
    const said = await steps();
    job = null;
    postMessage({ kind: "left", ...said });
  } catch (error) {
    job = null;
    if (error instanceof WebAssembly.RuntimeError) postMessage({ fault: String(error) });
    else postMessage({ kind: "left", status: "failed", message: String(error.message ?? error) });
  }
}

/** Steps the job until it ends or is told to: how it was left. */
async function steps() {
  const { painting } = job;
  const began = performance.now();
  let [said, shown, kept] = [-Infinity, -Infinity, began];
  let [showing, keeping] = [0, LEAST_CHECKPOINTS];
  let [progress, points] = [null, []];
  const tell = (preview) => {
    postMessage({ kind: "step", progress, points, preview });
    [said, points] = [performance.now(), []];
  };
  const state = () => ({ checkpoint: painting.checkpoint(), thumbnail: painting.preview(THUMBNAIL) });
  for (;;) {
    await listen();
    if (job.leave === "remove") {
      painting.free();
      return { status: "removed" };
    }
    if (job.leave === "pause") {
      const left = state();
      tell(painting.preview(SHOWN));
      painting.free();
      return { status: "paused", ...left };
    }
    const step = job.leave === "finish" ? { ended: true, points: [] } : JSON.parse(painting.step());
    progress = step.progress ?? progress;
    points.push(...step.points);
    const now = performance.now();
    if (step.ended) {
      const thumbnail = painting.preview(THUMBNAIL);
      tell(null);
      const { png, complete, message } = painting.finish();
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
      const [left, took] = timed(state);
      postMessage({ kind: "kept", ...left });
      job.keep = false;
      kept = performance.now();
      keeping = Math.max(LEAST_CHECKPOINTS, CHECKPOINTS * took);
    }
  }
}
