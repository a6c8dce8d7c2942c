// The page: what to paint, the picture as it is painted, the queue and the history.

import { Mask, drawCurves, terms } from "./canvas.js";
import { Engine } from "./engine.js";

const engine = new Engine();
const at = (id) => document.getElementById(id);

const SIZES = [256, 384, 512, 768, 1024, 1536, 2048];
const MOST_POINTS = 4000;

const COLORS = {
  style: "The colours of the style.",
  "luminance-yuv": "The photograph's colours; only light and dark are painted.",
  "luminance-lab": "The photograph's colours; only lightness is painted, hues stay.",
  cholesky: "The style is recoloured to the photograph's palette; contrasts stay, hues may change.",
  pca: "The style is recoloured to the photograph's palette, along its main directions.",
  symmetric: "The style is recoloured to the photograph's palette, colours moved as little as possible.",
  histogram: "The style is recoloured to the photograph's palette, channel by channel.",
};

const ENCODERS = {
  auto: ["Automatic", "VGG19 if its weights are on this machine, else the small built-in network."],
  builtin: ["Built-in", "Small and fast: first looks in seconds."],
  vgg19: ["VGG19", "The network of the literature: about eight times slower, finer strokes."],
};

const WEIGHTS = [
  ["content_weight", "Content", "More keeps more of the photograph."],
  ["style_weight", "Style", "More paints more freely, by the statistics of the style."],
  ["neighbors_weight", "Strokes", "More puts each stroke of the style in its place."],
  ["tv_weight", "Smoothness", "More removes fine noise."],
];

const STATUS = {
  queued: "waits",
  painting: "is painted",
  paused: "paused",
  done: "done",
  stopped: "finished early",
  failed: "failed",
};

let info = null;
/** What the form says beside its fields. */
const form = { content: null, styles: [], start: null };
const jobs = new Map();
let selected = null;
/** The points of the selected job's curves. */
let points = [];
let zoomed = false;
let pictureLoads = false;

// ---- Small things ----

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key.startsWith("aria-")) made.setAttribute(key, value);
    else made[key] = value;
  }
  made.append(...children);
  return made;
}

function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

function complain(error) {
  at("form-message").textContent = error ? String(error.message ?? error) : "";
}

/** Does something that may fail, and says so. */
async function attempt(work, forget = true) {
  if (forget) complain(null);
  try {
    return await work();
  } catch (error) {
    complain(error);
    return null;
  }
}

/** Another source is loaded, the same is not loaded again. */
function setSource(image, source) {
  if (image.getAttribute("src") !== source) image.src = source;
}

/** Work that is done when nothing has asked for it again for a while. */
function later(work, pause) {
  let timer = null;
  return (...what) => {
    clearTimeout(timer);
    timer = setTimeout(work, pause, ...what);
  };
}

// ---- What to paint ----

const recipe = () => info.recipes.find((recipe) => recipe.name === at("recipe").value);

function fillChoices() {
  at("recipe").replaceChildren(
    ...info.recipes.map((recipe) => element("option", { value: recipe.name, textContent: recipe.name })),
  );
  at("recipe").value = info.recipe;
  at("size").replaceChildren(
    ...SIZES.map((size) => element("option", { value: size, textContent: `${size} pixels` })),
  );
  at("size").value = 512;
  at("colors").replaceChildren(
    ...info.colors.map((name) => element("option", { value: name, textContent: name })),
  );
  at("encoder").replaceChildren(
    ...info.encoders.map((name) => element("option", { value: name, textContent: ENCODERS[name][0] })),
  );
  at("weights").replaceChildren(
    ...WEIGHTS.map(([key, name, hint]) => {
      const input = element("input", { id: key, type: "range", min: -3, max: 3, step: 0.25, value: 0 });
      input.setAttribute("aria-describedby", `${key}-hint`);
      const label = element("label", { htmlFor: key }, `${name} `, element("output"));
      return element(
        "div",
        { className: "field" },
        label,
        input,
        element("p", { className: "hint", id: `${key}-hint`, textContent: hint }),
      );
    }),
  );
}

/** What the fields say of the recipe, when another one is chosen. */
function applyRecipe() {
  at("strength").value = recipe().strength;
  at("colors").value = recipe().colors;
  for (const [key] of WEIGHTS) at(key).value = 0;
  describeFields();
}

function describeFields() {
  const chosen = recipe();
  const matches = chosen.neighbors_weight > 0;
  at("recipe-hint").textContent = `${chosen.summary}. Source: ${chosen.source}`;
  at("strength").disabled = !matches;
  at("strength-hint").textContent = matches
    ? "0: the scene as it is, in the style's colours and strokes. 1: forms are painted freely."
    : "This recipe has no strength; use the weights under More.";
  document.querySelector("#strength-field output").textContent = matches ? at("strength").value : "";
  at("colors-hint").textContent = COLORS[at("colors").value] ?? "";
  at("encoder-hint").textContent = ENCODERS[at("encoder").value]?.[1] ?? "";
  for (const [key] of WEIGHTS) {
    const input = at(key);
    input.disabled = chosen[key] === 0;
    const factor = 2 ** Number(input.value);
    const text = input.disabled ? "not in this recipe" : `× ${Number(factor.toPrecision(3))}`;
    input.parentElement.querySelector("output").textContent = text;
    input.setAttribute("aria-valuetext", text);
  }
}

/** The settings of the form, as the engine takes them. */
function settings() {
  const chosen = recipe();
  const options = { size: Number(at("size").value) };
  const strength = Number(at("strength").value);
  if (chosen.neighbors_weight > 0 && strength !== chosen.strength) options.strength = strength;
  if (at("colors").value !== chosen.colors) options.colors = at("colors").value;
  for (const [key] of WEIGHTS) {
    const power = Number(at(key).value);
    if (!at(key).disabled && power !== 0) options[key] = Number((chosen[key] * 2 ** power).toPrecision(6));
  }
  if (at("iterations").value) options.iterations = Number(at("iterations").value);
  if (at("seed").value) options.seed = Number(at("seed").value);
  const made = {
    content: form.content?.id,
    styles: form.styles.map(({ id, weight, mask }) => ({ picture: id, weight, ...(mask ? { mask } : {}) })),
    recipe: chosen.name,
    encoder: at("encoder").value,
    options,
  };
  if (form.start) made.start = form.start;
  return made;
}

/** Puts settings into the form. */
function restore(saved) {
  const known = (id) => ({ id, ...(form.content?.id === id ? form.content : {}) });
  form.content = known(saved.content);
  form.styles = saved.styles.map(({ picture, weight, mask }) => ({ id: picture, weight, mask }));
  form.start = saved.start ?? null;
  const options = saved.options;
  if (info.recipes.some(({ name }) => name === saved.recipe)) at("recipe").value = saved.recipe;
  applyRecipe();
  if (options.size) {
    if (!SIZES.includes(options.size)) {
      at("size").append(element("option", { value: options.size, textContent: `${options.size} pixels` }));
    }
    at("size").value = options.size;
  }
  if (options.strength !== undefined) at("strength").value = options.strength;
  if (options.colors) at("colors").value = options.colors;
  if (info.encoders.includes(saved.encoder)) at("encoder").value = saved.encoder;
  for (const [key] of WEIGHTS) {
    if (options[key] !== undefined) at(key).value = Math.log2(options[key] / recipe()[key]);
  }
  at("iterations").value = options.iterations ?? "";
  at("seed").value = options.seed ?? "";
  showPictures();
  describeFields();
  remember();
}

function remember() {
  try {
    const saved = { settings: settings(), content: form.content };
    localStorage.setItem("impasto", JSON.stringify(saved));
  } catch {
    // A browser that keeps nothing.
  }
}

function recall() {
  try {
    const saved = JSON.parse(localStorage.getItem("impasto"));
    if (!saved?.settings) return;
    form.content = saved.content;
    if (saved.settings.content) restore(saved.settings);
  } catch {
    // Nothing is known.
  }
}

function showPictures() {
  const shown = at("content-shown");
  shown.hidden = !form.content;
  if (form.content) {
    setSource(shown.querySelector("img"), engine.picture(form.content.id));
    const { width, height } = form.content;
    shown.querySelector("figcaption").textContent = width ? `${width} × ${height} pixels` : "";
  }
  at("styles").replaceChildren(...form.styles.map(styleItem));
  at("blend-hint").hidden = form.styles.length < 2;
  at("start-shown").hidden = !form.start;
  at("start-shown").querySelector("span").textContent = form.start
    ? `Starts from ${form.start.replace("job-", "result ")}.`
    : "";
}

function styleItem(style, index) {
  const name = `Style ${index + 1}`;
  const image = element("img", { src: engine.picture(style.id), alt: name });
  const output = element("output", { textContent: style.weight });
  const range = element("input", { type: "range", min: 0, max: 3, step: 0.05, value: style.weight });
  range.setAttribute("aria-label", `${name}: share`);
  range.addEventListener("input", () => {
    style.weight = Number(range.value);
    output.textContent = style.weight;
    changed();
  });
  const where = element("button", {
    type: "button",
    textContent: style.mask ? "Painted area …" : "Everywhere …",
    "aria-label": `${name}: where it is painted`,
  });
  where.addEventListener("click", () => editMask(style));
  const remove = element("button", { type: "button", textContent: "Remove", "aria-label": `Remove ${name}` });
  remove.addEventListener("click", () => {
    form.styles.splice(index, 1);
    showPictures();
    remember();
    // The button that had the focus is gone.
    at("style-file").focus();
  });
  const share = form.styles.length > 1 ? [element("label", {}, "Share ", output), range] : [];
  return element(
    "li",
    {},
    image,
    element("div", {}, ...share, element("div", { className: "row" }, where, remove)),
  );
}

async function addPictures(files, use) {
  complain(null);
  for (const file of files) {
    const add = async () => {
      if (file.size > info.picture_bytes) throw new Error("the file is too large");
      try {
        return await engine.addPicture(file);
      } catch (error) {
        throw new Error(`${file.name}: ${error.message}`);
      }
    };
    const added = await attempt(add, false);
    if (added) use(added);
  }
  showPictures();
  remember();
}

function useContent(added) {
  form.content = added;
  // A mask belongs to the picture that it was painted on.
  for (const style of form.styles) style.mask = null;
}

const useStyle = (added) => form.styles.push({ id: added.id, weight: 1, mask: null });

function dropZone(zone, input, use) {
  at(input).addEventListener("change", async (event) => {
    await addPictures([...event.target.files], use);
    event.target.value = "";
  });
  for (const name of ["dragenter", "dragover"]) {
    at(zone).addEventListener(name, (event) => {
      event.preventDefault();
      at(zone).classList.add("over");
    });
  }
  for (const name of ["dragleave", "drop"]) {
    at(zone).addEventListener(name, (event) => {
      event.preventDefault();
      at(zone).classList.remove("over");
    });
  }
  at(zone).addEventListener("drop", (event) => addPictures([...event.dataTransfer.files], use));
}

// ---- Masks ----

const mask = new Mask(at("mask-canvas"), at("mask-ring"));
let masked = null;

async function editMask(style) {
  if (!form.content) {
    complain("choose the picture to paint first");
    return;
  }
  masked = style;
  const picture = at("mask-picture");
  picture.src = engine.picture(form.content.id);
  const known = style.mask && engine.picture(style.mask);
  const opened = await attempt(async () => {
    await picture.decode();
    await mask.open(picture.naturalWidth, picture.naturalHeight, known);
    return true;
  });
  if (!opened) return;
  at("mask-message").textContent = "";
  at("mask-editor").showModal();
  at("mask-canvas").focus();
  mask.showBrush();
}

function setUpMasks() {
  const setRadius = () => {
    mask.radius = Number(at("mask-brush").value) / 100;
    mask.showBrush();
  };
  setRadius();
  at("mask-brush").addEventListener("input", setRadius);
  at("mask-erase").addEventListener("change", () => {
    mask.erases = at("mask-erase").checked;
  });
  mask.changed = () => {
    at("mask-erase").checked = mask.erases;
  };
  at("mask-fill").addEventListener("click", () => mask.fill(true));
  at("mask-clear").addEventListener("click", () => mask.fill(false));
  at("mask-cancel").addEventListener("click", () => at("mask-editor").close());
  const finish = (id) => {
    masked.mask = id;
    at("mask-editor").close();
    showPictures();
    remember();
  };
  at("mask-everywhere").addEventListener("click", () => finish(null));
  at("mask-done").addEventListener("click", async () => {
    const blob = await mask.blob();
    if (!blob) {
      at("mask-message").textContent = "Paint where the style shall go, or choose No mask.";
      return;
    }
    try {
      finish((await engine.addPicture(blob)).id);
    } catch (error) {
      at("mask-message").textContent = String(error.message);
    }
  });
}

// ---- Jobs ----

const current = () => jobs.get(selected);
/** The settings in force. */
const inForce = (job) => job.steering.at(-1)?.settings ?? job.settings;
/** Whether a job waits to go on, with a small picture of how it stood. */
const isKept = (job) => job.settings && job.progress && ["paused", "queued"].includes(job.status);
const unfinished = (job) => ["queued", "painting", "paused"].includes(job.status);

async function paint(changes = {}) {
  const made = { ...settings(), ...changes };
  if (!made.content) return complain("choose a picture to paint");
  if (made.styles.length === 0) return complain("choose a style picture");
  const started = await attempt(() => engine.start(made));
  if (!started) return null;
  select(started.id);
  // On a phone the picture is below the form.
  at("stage").scrollIntoView({ block: "nearest" });
  return started;
}

/** A value as text, in which the order of names does not count. */
function canonical(value) {
  if (Array.isArray(value)) return `[${value.map(canonical)}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value) ?? "";
  const names = Object.keys(value).filter((name) => value[name] !== undefined);
  return `{${names.sort().map((name) => `${name}:${canonical(value[name])}`)}}`;
}

const same = (a, b) => canonical(a) === canonical(b);

/** Tells a job that is painted what the form says now. */
async function steerJob(id) {
  const job = jobs.get(id);
  if (!job?.settings || !unfinished(job) || !at("steering").checked) return;
  const made = settings();
  // Other pictures, another size or seed are another job.
  const fixed = ({ content, styles, start, encoder, options }) => {
    const pictures = styles.map(({ picture, mask }) => [picture, mask ?? null]);
    return [content, pictures, start ?? null, encoder, options.size ?? null, options.seed ?? null];
  };
  if (!same(fixed(made), fixed(job.settings)) || same(made, inForce(job))) return;
  await attempt(() => engine.steer(id, made));
}

const steer = later(steerJob, 350);

function changed() {
  describeFields();
  remember();
  steer(selected);
}

async function select(id) {
  if (selected !== id) {
    at("compare").value = 0;
    points = [];
  }
  selected = id;
  showJobs();
  showJob();
  showPicture();
  showCurves();
  let found = [];
  try {
    found = await engine.curves(id);
  } catch {
    // A job that is only just there.
  }
  if (selected !== id) return;
  // What came meanwhile goes on where they end.
  const last = found.at(-1)?.evaluation ?? 0;
  points = [...found, ...points.filter((point) => point.evaluation > last)];
  showCurves();
}

/** The items of the list, by their jobs: changed in place, so that the focus stays where it is. */
const items = new Map();

function showJobs() {
  const list = [...jobs.values()].sort((a, b) => b.id - a.id);
  at("jobs-empty").hidden = list.length > 0;
  for (const [id, item] of items) {
    if (!jobs.has(id)) {
      item.remove();
      items.delete(id);
    }
  }
  list.forEach((job, index) => {
    if (!items.has(job.id)) items.set(job.id, jobItem(job.id));
    const item = items.get(job.id);
    if (at("job-list").children[index] !== item) at("job-list").insertBefore(item, at("job-list").children[index]);
    const done = job.status === "done" || job.status === "stopped";
    const image = item.querySelector("img");
    if (done && job.settings) setSource(image, engine.picture(`job-${job.id}`, true, job.status));
    else if (job.preview > 0) setSource(image, engine.preview(job));
    else if (isKept(job)) setSource(image, engine.picture(`job-${job.id}`, true));
    else if (job.settings) setSource(image, engine.picture(job.settings.content));
    const size = done && job.progress ? `, ${job.progress.width} × ${job.progress.height}` : "";
    item.querySelector(".name").textContent = job.title;
    item.querySelector(".state").textContent = `${STATUS[job.status]}${size}`;
    item.querySelector("button").setAttribute("aria-current", job.id === selected);
  });
}

function jobItem(id) {
  const button = element(
    "button",
    { type: "button" },
    element("img", { alt: "" }),
    element("span", { className: "name" }),
    element("span", { className: "state" }),
  );
  button.addEventListener("click", () => select(id));
  return element("li", {}, button);
}

function progressText(job) {
  const status = STATUS[job.status];
  const progress = job.progress;
  if (!progress) return status;
  if (job.status === "painting" || job.status === "paused") {
    const left = progress.left === null || job.status === "paused" ? "" : `, ${duration(progress.left)} left`;
    return (
      `${status}: scale ${progress.scale} of ${progress.scales}, ${progress.width} × ${progress.height}, ` +
      `step ${progress.iteration} of ${progress.iterations}${left}`
    );
  }
  return (
    `${status}: ${progress.width} × ${progress.height} pixels, ${progress.evaluation} evaluations in ` +
    duration(progress.seconds)
  );
}

/** Tells a screen reader what begins, and not every step. */
function announce(job) {
  const scale = job.status === "painting" && job.progress ? `, scale ${job.progress.scale}` : "";
  const text = `${job.title}: ${STATUS[job.status]}${scale}`;
  if (at("announcement").textContent !== text) at("announcement").textContent = text;
}

function showProgress(job) {
  const progress = job.progress;
  announce(job);
  at("job-status").textContent = progressText(job);
  at("job-progress").hidden = job.status !== "painting";
  if (progress?.iterations) {
    const done = (progress.scale - 1 + progress.iteration / progress.iterations) / progress.scales;
    const spent = progress.seconds;
    at("job-progress").value = progress.left === null ? done : spent / (spent + progress.left || 1);
  }
}

function showJob() {
  const job = current();
  at("job").hidden = !job;
  if (!job) return;
  at("job-title").textContent = job.title;
  showProgress(job);
  at("job-message").textContent = job.message ?? "";
  const which = [job.id, job.status, job.steering.length > 0, job.progress !== null].join(" ");
  const bar = at("job-actions");
  if (!info.read_only && bar.dataset.which !== which) {
    // The button that had the focus gives it to the one that takes its place.
    const focused = [...bar.children].indexOf(document.activeElement);
    bar.dataset.which = which;
    bar.replaceChildren(...actions(job));
    if (focused >= 0) bar.children[Math.min(focused, bar.children.length - 1)]?.focus();
  }
  at("command-field").hidden = !job.command;
  at("command").textContent = job.command;
  at("command-hint").textContent =
    job.steering.length > 0
      ? "The picture was steered; the command paints it as it was begun."
      : "The command paints the same picture, to the byte.";
}

function actions(job) {
  const button = (text, work) => {
    const made = element("button", { type: "button", textContent: text });
    made.addEventListener("click", () => attempt(work));
    return made;
  };
  const link = (text, href, download) => element("a", { className: "button", href, download, textContent: text });
  const act = (text, action) => button(text, () => engine.act(job.id, action));
  const made = [];
  const done = job.status === "done" || job.status === "stopped";
  if (job.status === "painting" || job.status === "queued") made.push(act("Pause", "pause"));
  if (job.status === "paused") made.push(act("Go on", "continue"));
  if (job.status === "failed") made.push(act("Try again", "continue"));
  if (job.status === "painting" || (unfinished(job) && job.progress)) {
    made.push(act("Finish now", "finish"), button("Restart from here", () => restartFrom(job)));
  }
  if (done) {
    made.push(link("Download", engine.result(job.id), `impasto-${job.id}.png`));
    if (job.steering.length > 0) made.push(link("History", engine.history(job.id), `impasto-${job.id}.json`));
    made.push(
      button("The same, larger", () => larger(job)),
      button("Use as start", () => useAsStart(job)),
      button("Use as picture", () => usePicture(job)),
    );
  }
  made.push(button("Use its settings", () => restore(inForce(job))), act("Delete", "remove"));
  return made;
}

/** Begins the job anew from its picture as it stands. */
async function restartFrom(job) {
  await engine.act(job.id, "finish");
  await new Promise((done, failed) => {
    const look = setInterval(() => {
      const now = jobs.get(job.id);
      if (now && unfinished(now)) return;
      clearInterval(look);
      if (now?.status === "failed" || !now) failed(new Error("the job could not be finished"));
      else done();
    }, 100);
  });
  const started = await engine.start({ ...inForce(job), start: `job-${job.id}` });
  select(started.id);
}

async function larger(job) {
  const made = structuredClone(inForce(job));
  const size = made.options.size ?? recipe().size;
  made.options.size = 2 * size;
  const started = await engine.start(made);
  select(started.id);
}

function useAsStart(job) {
  form.start = `job-${job.id}`;
  showPictures();
  remember();
}

function usePicture(job) {
  const { width, height } = job.progress ?? {};
  useContent({ id: `job-${job.id}`, width, height });
  showPictures();
  remember();
}

// ---- The picture ----

/** Shows the picture of the selected job, once it is loaded. */
async function showPicture() {
  const job = current();
  const done = job && (job.status === "done" || job.status === "stopped") && job.settings;
  let source = null;
  if (done) source = engine.picture(`job-${job.id}`);
  else if (job?.preview > 0) source = engine.preview(job);
  else if (job && isKept(job)) source = engine.picture(`job-${job.id}`, true);
  at("hint-empty").hidden = Boolean(source);
  at("hint-empty").textContent =
    job?.status === "queued" || job?.status === "painting"
      ? "The first look comes in a moment."
      : "What you paint appears here.";
  at("frame").hidden = !source;
  at("view-controls").hidden = !source;
  if (!source) return;
  const before = at("before");
  at("compare-field").hidden = !job.settings;
  if (job.settings) setSource(before, engine.picture(job.settings.content));
  const alt = `${job.title}, ${STATUS[job.status]}`;
  at("after").alt = alt;
  if (at("after").getAttribute("src") === source || pictureLoads) return layOut();
  pictureLoads = true;
  const next = element("img", { id: "after", alt, src: source });
  try {
    await next.decode();
  } catch {
    // Its words are shown in its place.
  }
  pictureLoads = false;
  at("after").replaceWith(next);
  // Another one may be there by now.
  return showPicture();
}

/** Sizes of the picture on the page, and the line between before and after. */
function layOut() {
  const [after, before, frame, viewer] = ["after", "before", "frame", "viewer"].map(at);
  viewer.classList.toggle("pixels", zoomed);
  viewer.classList.toggle("empty", frame.hidden);
  if (frame.hidden || !after.naturalWidth) return;
  const aspect = after.naturalWidth / after.naturalHeight;
  const height = parseFloat(getComputedStyle(viewer).maxHeight);
  const width = zoomed
    ? after.naturalWidth / devicePixelRatio
    : Math.min(viewer.clientWidth, height * aspect);
  frame.style.width = `${width}px`;
  frame.style.height = `${width / aspect}px`;
  const share = Number(at("compare").value);
  before.hidden = share === 0 || at("compare-field").hidden;
  at("divider").hidden = before.hidden || share === 100;
  before.style.clipPath = `inset(0 ${100 - share}% 0 0)`;
  at("divider").style.left = `${share}%`;
  at("compare").setAttribute("aria-valuetext", `${share} % of the photograph`);
}

function showCurves() {
  const canvas = at("curves");
  canvas.parentElement.hidden = points.length === 0;
  at("legend").replaceChildren();
  if (points.length === 0) return;
  drawCurves(canvas, points);
  const last = points.at(-1);
  at("legend").replaceChildren(
    ...terms(points).map((name, index) => {
      const value = name === "total" ? last.total : last.terms[name];
      const text = value === undefined ? name : `${name} ${Number(value).toExponential(2)}`;
      return element("span", { className: `curve-${index % 6}`, textContent: text });
    }),
  );
}

// ---- Events ----

function heard(event) {
  if (event.type === "all") {
    jobs.clear();
    event.jobs.forEach((job) => jobs.set(job.id, job));
    const last = event.jobs.find((job) => job.status === "painting") ?? event.jobs.at(-1);
    const which = jobs.has(selected) ? selected : (last?.id ?? null);
    showJobs();
    if (which !== null) select(which);
    else showPicture();
  } else if (event.type === "job") {
    const before = jobs.get(event.job.id);
    jobs.set(event.job.id, event.job);
    const begins = before?.status !== "painting" && event.job.status === "painting";
    showJobs();
    if (selected === null || (begins && info.read_only)) {
      select(event.job.id);
    } else if (event.job.id === selected) {
      showJob();
      showPicture();
    }
  } else if (event.type === "removed") {
    jobs.delete(event.id);
    showJobs();
    if (event.id !== selected) return;
    selected = null;
    const last = [...jobs.keys()].at(-1);
    if (last !== undefined) select(last);
    else {
      showJob();
      showPicture();
    }
  } else if (event.type === "step") {
    const job = jobs.get(event.id);
    if (!job) return;
    job.progress = event.progress ?? job.progress;
    job.preview = event.preview;
    if (event.id !== selected) return;
    // A job that goes on from an older checkpoint makes some evaluations again.
    const first = event.points[0]?.evaluation ?? Infinity;
    if (points.at(-1)?.evaluation >= first) points = points.filter((point) => point.evaluation < first);
    points.push(...event.points);
    if (points.length > MOST_POINTS) points = points.filter((_, index) => index % 2 === 1);
    showStep();
  }
}

/** All that a step changes, drawn at once: what the browser draws is time that the painting lacks. */
async function showStep() {
  await showPicture();
  if (!current()) return;
  showProgress(current());
  showCurves();
}

function setUp() {
  document.title = info.title;
  at("title").textContent = info.title;
  at("zoom").addEventListener("click", () => {
    zoomed = !zoomed;
    at("zoom").setAttribute("aria-pressed", zoomed);
    layOut();
  });
  at("compare").addEventListener("input", layOut);
  window.addEventListener("resize", layOut);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showCurves);
  at("copy").addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(at("command").textContent);
      at("copy").textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(at("command"));
    }
  });
  if (info.read_only) return;
  at("controls").hidden = false;
  fillChoices();
  applyRecipe();
  recall();
  setUpMasks();
  dropZone("content-drop", "content-file", useContent);
  dropZone("style-drop", "style-file", useStyle);
  at("recipe").addEventListener("change", () => {
    applyRecipe();
    changed();
  });
  for (const id of ["size", "strength", "colors", "encoder", ...WEIGHTS.map(([key]) => key)]) {
    at(id).addEventListener("input", changed);
  }
  // Not before they are typed to the end.
  for (const id of ["iterations", "seed"]) at(id).addEventListener("change", changed);
  // A picture that misses its zone must not take the place of the page.
  for (const name of ["dragover", "drop"]) window.addEventListener(name, (event) => event.preventDefault());
  at("start-clear").addEventListener("click", () => {
    form.start = null;
    showPictures();
    remember();
  });
  at("controls").addEventListener("submit", (event) => {
    event.preventDefault();
    paint();
  });
}

async function begin() {
  try {
    info = await engine.info();
  } catch (error) {
    at("connection").textContent = String(error.message);
    setTimeout(begin, 2000);
    return;
  }
  setUp();
  engine.events(heard, (there) => {
    at("connection").textContent = there ? engine.connection : "The program does not answer; trying again …";
  });
}

begin();
