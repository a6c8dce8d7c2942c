// What is drawn on canvases: the curves of the loss, and the mask that is painted with a brush.

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** The names of the terms of some points, the total first. */
export function terms(points) {
  const names = new Set();
  for (const point of points) Object.keys(point.terms).forEach((name) => names.add(name));
  return ["total", ...names];
}

const value = (point, name) => (name === "total" ? point.total : point.terms[name]);

/** Draws the curves of all terms on a logarithmic scale, with a line where a scale begins. */
export function drawCurves(canvas, points) {
  const context = canvas.getContext("2d");
  const { clientWidth: width, clientHeight: height } = canvas;
  if (width === 0) return;
  // As many pixels as the screen has there.
  const [across, down] = [width, height].map((length) => Math.round(length * devicePixelRatio));
  if (canvas.width !== across || canvas.height !== down) Object.assign(canvas, { width: across, height: down });
  context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
  context.clearRect(0, 0, width, height);
  const names = terms(points);
  const values = points.flatMap((point) => names.map((name) => value(point, name)));
  const positive = values.filter((value) => value > 0 && Number.isFinite(value));
  if (positive.length === 0) return;
  const most = Math.log10(Math.max(...positive));
  const least = Math.max(Math.log10(Math.min(...positive)), most - 6);
  const first = points[0].evaluation;
  const span = Math.max(points.at(-1).evaluation - first, 1);
  const left = 46;
  const x = (point) => left + ((point.evaluation - first) / span) * (width - left - 6);
  const y = (value) => 8 + ((most - Math.log10(value)) / Math.max(most - least, 0.1)) * (height - 28);
  context.font = "12px system-ui, sans-serif";
  context.fillStyle = color("--muted");
  context.strokeStyle = color("--soft");
  context.lineWidth = 1;
  for (let power = Math.ceil(least); power <= most; power += 1) {
    const line = Math.round(y(10 ** power)) + 0.5;
    context.beginPath();
    context.moveTo(left, line);
    context.lineTo(width - 6, line);
    context.stroke();
    context.fillText(`1e${power}`, 4, line + 4);
  }
  let scale = points[0].scale;
  for (const point of points) {
    if (point.scale === scale) continue;
    scale = point.scale;
    context.beginPath();
    context.setLineDash([3, 3]);
    context.moveTo(x(point), 4);
    context.lineTo(x(point), height - 18);
    context.stroke();
    context.setLineDash([]);
  }
  context.fillText(`${points.at(-1).evaluation} evaluations`, left, height - 4);
  names.forEach((name, index) => {
    context.strokeStyle = color(`--curve-${index % 6}`);
    context.lineWidth = index === 0 ? 2.5 : 1.5;
    context.beginPath();
    let drawn = false;
    for (const point of points) {
      const found = value(point, name);
      if (!(found > 0)) {
        drawn = false;
        continue;
      }
      const place = Math.min(y(found), height - 20);
      if (drawn) context.lineTo(x(point), place);
      else context.moveTo(x(point), place);
      drawn = true;
    }
    context.stroke();
  });
}

/** A mask over a picture: white is kept, the rest is dark. */
export class Mask {
  /** Of a canvas over the picture, with an element that shows where the brush is. */
  constructor(canvas, ring) {
    this.canvas = canvas;
    this.ring = ring;
    this.context = canvas.getContext("2d");
    this.radius = 0.1;
    this.erases = false;
    this.brush = null;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.last = null;
      this.stroke(this.place(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (event.buttons !== 0) this.stroke(this.place(event));
      else this.brush = this.place(event);
      this.showBrush();
    });
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  /** Begins with a mask picture, or with nothing painted, for a picture of this size. */
  async open(width, height, source) {
    Object.assign(this.canvas, { width, height });
    // What is painted is transparent, so that the picture is seen; its alpha is the mask turned round.
    this.fill(false);
    this.last = null;
    this.brush = { x: width / 2, y: height / 2 };
    if (!source) return;
    const image = new Image();
    image.src = source;
    await image.decode();
    const other = document.createElement("canvas");
    Object.assign(other, { width, height });
    const context = other.getContext("2d");
    context.drawImage(image, 0, 0, width, height);
    const data = context.getImageData(0, 0, width, height);
    const painted = this.context.getImageData(0, 0, width, height);
    for (let index = 0; index < data.data.length; index += 4) {
      painted.data[index + 3] = data.data[index] >= 128 ? 0 : 190;
    }
    this.context.putImageData(painted, 0, 0);
  }

  /** Everything, or nothing. */
  fill(everything) {
    const { width, height } = this.canvas;
    this.context.globalCompositeOperation = "source-over";
    this.context.clearRect(0, 0, width, height);
    if (everything) return;
    this.context.fillStyle = "rgb(10 12 16 / 0.745)";
    this.context.fillRect(0, 0, width, height);
  }

  place(event) {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    return {
      x: ((event.clientX - left) / width) * this.canvas.width,
      y: ((event.clientY - top) / height) * this.canvas.height,
    };
  }

  stroke(to) {
    const from = this.last ?? to;
    const { width, height } = this.canvas;
    const context = this.context;
    context.lineCap = "round";
    context.lineWidth = 2 * this.radius * Math.min(width, height);
    const draw = () => {
      context.beginPath();
      context.moveTo(from.x, from.y);
      context.lineTo(to.x + 0.01, to.y);
      context.stroke();
    };
    context.globalCompositeOperation = "destination-out";
    context.strokeStyle = "black";
    draw();
    if (this.erases) {
      context.globalCompositeOperation = "source-over";
      context.strokeStyle = "rgb(10 12 16 / 0.745)";
      draw();
    }
    this.last = to;
    this.brush = to;
  }

  key(event) {
    const { width, height } = this.canvas;
    const step = (this.radius * Math.min(width, height)) / 2;
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (moves[event.key]) {
      const [x, y] = moves[event.key];
      this.brush.x = Math.min(Math.max(this.brush.x + x * step, 0), width);
      this.brush.y = Math.min(Math.max(this.brush.y + y * step, 0), height);
    } else if (event.key === " ") {
      this.last = null;
      this.stroke({ ...this.brush });
    } else if (event.key === "e" || event.key === "E") {
      this.erases = !this.erases;
      this.changed?.();
    } else {
      return;
    }
    this.showBrush();
    event.preventDefault();
  }

  /** Draws a ring where the brush is. */
  showBrush() {
    const { width, height, clientWidth } = this.canvas;
    if (!this.brush || clientWidth === 0) return;
    const scale = clientWidth / width;
    const size = 2 * this.radius * Math.min(width, height) * scale;
    const place = { left: this.brush.x * scale, top: this.brush.y * scale, width: size, height: size };
    for (const [name, pixels] of Object.entries(place)) this.ring.style[name] = `${pixels}px`;
  }

  /** The mask as a PNG, white where it is painted; `null` if nothing is. */
  async blob() {
    const { width, height } = this.canvas;
    const data = this.context.getImageData(0, 0, width, height);
    let any = false;
    for (let index = 0; index < data.data.length; index += 4) {
      const white = data.data[index + 3] < 95 ? 255 : 0;
      any ||= white > 0;
      data.data.set([white, white, white, 255], index);
    }
    if (!any) return null;
    const other = document.createElement("canvas");
    Object.assign(other, { width, height });
    other.getContext("2d").putImageData(data, 0, 0);
    return new Promise((done) => other.toBlob(done, "image/png"));
  }
}
