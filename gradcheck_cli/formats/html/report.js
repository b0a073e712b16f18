"use strict";

const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const { states, maps } = JSON.parse(document.getElementById("data").textContent);

// --- numbers, spelt as in the tables ---------------------------------------------------------------------

const power = (text) => text.replace(/e([+-])(\d)$/, "e$10$2");

function number(value) {
  if (!Number.isFinite(value)) return String(value).replace("Infinity", "inf").toLowerCase();
  const [digits, exponent] = value.toExponential(9).split("e");
  if (value === 0) return "0";
  const plain = exponent >= -4 && exponent <= 9;
  return plain ? String(Number(value.toPrecision(10))) : power(`${Number(digits)}e${exponent}`);
}

function measured(value, error) {
  if (!Number.isFinite(error) || Number.isNaN(value)) return "unknown";
  return `${number(value)} \u00b1 ${error ? power(error.toExponential(0)) : "0"}`;
}

function relative(value) {
  if (Number.isNaN(value)) return "\u2013";
  if (!Number.isFinite(value)) return "inf";
  return value ? power(value.toExponential(1)) : "0";
}

// --- tables ----------------------------------------------------------------------------------------------

function keyOf(body, column) {
  const cell = body.rows[0].cells[column];
  const key = cell.dataset.key ?? cell.textContent.trim();
  return key === "NaN" ? NaN : key !== "" && !Number.isNaN(Number(key)) ? Number(key) : key;
}

function compare(a, b) {
  if (Number.isNaN(a) || Number.isNaN(b)) return 0;
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}

function sort(button) {
  const head = button.closest("th");
  const table = head.closest("table");
  const before = head.getAttribute("aria-sort");
  const down = before === "ascending" || (before === null && head.matches(".number"));
  const rows = [...table.tBodies].map((body) => ({ body, key: keyOf(body, head.cellIndex) }));
  rows.sort((a, b) => Number.isNaN(a.key) - Number.isNaN(b.key) || (down ? -1 : 1) * compare(a.key, b.key));
  table.append(...rows.map(({ body }) => body));
  all("th", table.tHead).forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
}

function unfold(button, open = button.getAttribute("aria-expanded") !== "true") {
  button.setAttribute("aria-expanded", open);
  document.getElementById(button.getAttribute("aria-controls")).hidden = !open;
}

// --- the filter ------------------------------------------------------------------------------------------

function filter() {
  const words = document.getElementById("name").value.toLowerCase().split(/\s+/);
  const verdicts = new Set(all("[name=verdict]:checked").map((box) => box.value));
  const matches = (of) =>
    verdicts.has(of.dataset.verdict) && words.every((word) => of.dataset.name.toLowerCase().includes(word));
  const items = all("[data-item]");
  items.forEach((item) => (item.hidden = !matches(item)));
  for (const spec of all(".spec")) {
    const own = all("[data-item]", spec);
    spec.hidden = own.length ? own.every((item) => item.hidden) : !matches(spec);
  }
  const tensors = items.filter((item) => item.matches("tbody"));
  const shown = tensors.filter((item) => !item.hidden).length;
  document.getElementById("shown").textContent = `${shown} of ${tensors.length} tensors`;
}

// --- maps of the relative error --------------------------------------------------------------------------

const FLOOR = -16; // log10 of the smallest relative error that has a colour of its own; the largest is 1
const VIRIDIS = ["440154", "482878", "3e4989", "31688e", "26828e", "1f9e89", "35b779", "6ece58", "b5de2b", "fde725"];
const OUTLINE = "#ff3b1f";
const WRONG = states.indexOf("wrong");
const TALLEST = 480; // px: the largest height of a map, unless its cells would be smaller than a pixel
const [LOWEST, LARGEST] = [12, 26]; // size of a cell, px
const EDGE = 4; // px around the cells

const channels = (hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16));

function colour(share) {
  const at = Math.min(Math.max(share, 0), 1) * (VIRIDIS.length - 1);
  const low = Math.min(Math.floor(at), VIRIDIS.length - 2);
  const [from, to] = [channels(VIRIDIS[low]), channels(VIRIDIS[low + 1])];
  return from.map((value, i) => Math.round(value + (at - low) * (to[i] - value)));
}

const COLOURS = Array.from({ length: 256 }, (_, i) => colour(i / 255));
const share = (error) => Math.min(Math.max(1 - Math.log10(error) / FLOOR, 0), 1);

function numbers(text, kind) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  return new kind(bytes.buffer);
}

function read(heat) {
  return {
    ...heat,
    entry: heat.entry && numbers(heat.entry, Uint32Array),
    analytic: numbers(heat.analytic, Float64Array),
    numerical: numbers(heat.numerical, Float64Array),
    error: numbers(heat.error, Float32Array),
    relative: numbers(heat.relative, Float32Array),
    state: numbers(heat.state, Uint8Array),
  };
}

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** A map: its canvas, its cells, and the current cell. */
class HeatMap {
  constructor(figure) {
    this.figure = figure;
    this.canvas = figure.querySelector("canvas");
    const [spec, tensor] = figure.dataset.map.split("-");
    this.heat = maps[spec][tensor];
    this.at = 0;
    this.canvas.addEventListener("pointermove", (event) => {
      if (event.movementX || event.movementY) this.point(event); // ignores events from scrolling
    });
    this.canvas.addEventListener("pointerdown", (event) => this.point(event));
    this.canvas.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse" && this.pointed) this.leave();
    });
    this.canvas.addEventListener("keydown", (event) => this.press(event));
    this.canvas.addEventListener("focus", () => this.canvas.matches(":focus-visible") && this.look(this.at));
    this.canvas.addEventListener("blur", () => this.leave());
  }

  get cells() {
    return (this.read ??= read(this.heat));
  }

  /** Make each cell a whole number of screen pixels, so that all have the same size. */
  layOut() {
    const { rows, columns } = this.heat;
    const scale = window.devicePixelRatio || 1;
    const room = this.figure.parentElement.clientWidth - 2 * EDGE;
    const pixels = (size) => Math.max(1, Math.floor(size * scale));
    this.width = pixels(Math.min(LARGEST, room / columns));
    this.height = pixels(Math.min(Math.max(LOWEST, this.width / scale), Math.max(1, TALLEST / rows)));
    this.scale = scale;
    this.edge = Math.round(EDGE * scale);
    this.canvas.width = columns * this.width + 2 * this.edge;
    this.canvas.height = rows * this.height + 2 * this.edge;
    this.canvas.style.width = `${this.canvas.width / scale}px`;
    this.canvas.style.height = `${this.canvas.height / scale}px`;
  }

  draw() {
    this.layOut();
    this.base = new OffscreenCanvas(this.canvas.width, this.canvas.height);
    const context = this.base.getContext("2d");
    context.translate(this.edge, this.edge);
    context.imageSmoothingEnabled = false;
    context.drawImage(this.picture(), 0, 0, this.heat.columns * this.width, this.heat.rows * this.height);
    const gap = Math.min(this.width, this.height) >= 8 * this.scale ? 1 : 0;
    if (gap) this.rule(context);
    this.outline(context, gap);
    this.show();
  }

  /** Paint the map, with a ring around the current cell. */
  show() {
    const context = this.canvas.getContext("2d");
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.drawImage(this.base, 0, 0);
    if (this.looking) this.ring(context);
  }

  /** Draw the map with one pixel per cell. */
  picture() {
    const { rows, columns, relative: errors } = this.cells;
    const canvas = new OffscreenCanvas(columns, rows);
    const context = canvas.getContext("2d");
    const image = context.createImageData(columns, rows);
    const nothing = channels(style("--nothing").slice(1));
    errors.forEach((error, i) => {
      const [red, green, blue] = Number.isNaN(error) ? nothing : COLOURS[Math.round(255 * share(error))];
      image.data.set([red, green, blue, 255], 4 * i);
    });
    context.putImageData(image, 0, 0);
    return canvas;
  }

  rule(context) {
    const [across, down] = [this.heat.columns * this.width, this.heat.rows * this.height];
    context.fillStyle = style("--paper");
    for (let x = this.width; x < across; x += this.width) context.fillRect(x - 1, 0, 1, down);
    for (let y = this.height; y < down; y += this.height) context.fillRect(0, y - 1, across, 1);
  }

  /** Draw a border around each region of wrong cells, thick enough to show around a single pixel. */
  outline(context, gap) {
    const { columns, relative: errors, state } = this.cells;
    const { width, height } = this;
    const thick = Math.round(Math.max(2, 4 - Math.min(width, height)) * this.scale);
    const wrong = [...state.keys()].filter((i) => state[i] === WRONG);
    const box = (i) => [(i % columns) * width, Math.floor(i / columns) * height];
    context.fillStyle = OUTLINE;
    for (const [x, y] of wrong.map(box)) {
      context.fillRect(x - thick, y - thick, width + 2 * thick - gap, height + 2 * thick - gap);
    }
    for (const i of wrong) {
      context.fillStyle = `rgb(${COLOURS[Math.round(255 * share(errors[i]))]})`;
      context.fillRect(...box(i), width - gap, height - gap);
    }
    if (gap) this.ruleWithin(context, wrong, box);
  }

  /** The rules between wrong cells, where the border would show through. */
  ruleWithin(context, wrong, box) {
    const { columns } = this.heat;
    const [across, down] = [this.width - 1, this.height - 1];
    const isWrong = new Set(wrong);
    context.fillStyle = style("--paper");
    for (const i of wrong) {
      const [x, y] = box(i);
      const right = (i + 1) % columns !== 0 && isWrong.has(i + 1);
      const below = isWrong.has(i + columns);
      if (right) context.fillRect(x + across, y, 1, down);
      if (below) context.fillRect(x, y + down, across, 1);
      if (right && below && isWrong.has(i + columns + 1)) context.fillRect(x + across, y + down, 1, 1);
    }
  }

  ring(context) {
    const { x, y, width, height } = this.box(1);
    for (const [colour, wide] of [["#000", 4], ["#fff", 2]]) {
      context.strokeStyle = colour;
      context.lineWidth = wide * this.scale;
      context.strokeRect(x, y, width, height);
    }
  }

  /** Return the place of the current cell, in pixels of the canvas divided by `by`. */
  box(by) {
    const { columns } = this.heat;
    const [row, column] = [Math.floor(this.at / columns), this.at % columns];
    const [width, height] = [this.width / by, this.height / by];
    return { x: this.edge / by + column * width, y: this.edge / by + row * height, width, height };
  }

  point(event) {
    const { rows, columns } = this.heat;
    const column = Math.floor((event.offsetX * this.scale - this.edge) / this.width);
    const row = Math.floor((event.offsetY * this.scale - this.edge) / this.height);
    this.pointed = true;
    if (row >= 0 && row < rows && column >= 0 && column < columns) this.look(row * columns + column);
  }

  press(event) {
    const { rows, columns } = this.heat;
    const [row, column] = [Math.floor(this.at / columns), this.at % columns];
    const to = {
      ArrowLeft: [row, column - 1],
      ArrowRight: [row, column + 1],
      ArrowUp: [row - 1, column],
      ArrowDown: [row + 1, column],
      Home: [row, 0],
      End: [row, columns - 1],
    }[event.key];
    if (event.key === "Escape") this.leave();
    if (!to) return;
    event.preventDefault();
    this.pointed = false;
    const [r, c] = [Math.min(Math.max(to[0], 0), rows - 1), Math.min(Math.max(to[1], 0), columns - 1)];
    this.look(r * columns + c);
    this.reveal();
  }

  look(cell) {
    if (this.looking && cell === this.at && !tip.hidden) return;
    this.at = cell;
    this.looking = true;
    if (!this.base) this.draw();
    this.show();
    this.tell();
  }

  leave() {
    if (!this.looking) return;
    this.looking = false;
    tip.hidden = true;
    this.show();
  }

  /** Scroll the current cell into the frame of the map. */
  reveal() {
    const frame = this.canvas.parentElement;
    const { x, y, width, height } = this.box(this.scale);
    frame.scrollLeft = Math.min(Math.max(frame.scrollLeft, x + width - frame.clientWidth + EDGE), x);
    frame.scrollTop = Math.min(Math.max(frame.scrollTop, y + height - frame.clientHeight + EDGE), y);
    this.place();
  }

  tell() {
    const { name, entry, analytic, numerical, error, relative: errors, state, block } = this.cells;
    const index = this.index(entry ? entry[this.at] : this.at);
    const rows = [
      ["analytic", number(analytic[this.at])],
      ["numerical", measured(numerical[this.at], error[this.at])],
      ["relative error", relative(errors[this.at])],
    ];
    const title = document.createElement("strong");
    title.textContent = `${name}[${index.join(", ")}] ${states[state[this.at]]}`;
    const list = document.createElement("dl");
    for (const pair of rows) {
      ["dt", "dd"].forEach((tag, i) => (list.appendChild(document.createElement(tag)).textContent = pair[i]));
    }
    const note = document.createElement("small");
    note.textContent = entry ? `the worst of ${block.join(" \u00d7 ")} entries` : "";
    tip.replaceChildren(title, list, note);
    tip.hidden = false;
    this.place();
  }

  index(flat) {
    const index = [];
    for (const size of [...this.heat.shape].reverse()) {
      index.unshift(flat % size);
      flat = Math.floor(flat / size);
    }
    return index;
  }

  /** Place the tip next to the cell, inside the window. */
  place() {
    const canvas = this.canvas.getBoundingClientRect();
    const { x, y, width, height } = this.box(this.scale);
    const above = canvas.top + y - tip.offsetHeight - 10;
    const left = canvas.left + x + width / 2 - tip.offsetWidth / 2;
    tip.style.left = `${Math.max(8, Math.min(left, document.documentElement.clientWidth - tip.offsetWidth - 8))}px`;
    tip.style.top = `${above > 4 ? above : canvas.top + y + height + 10}px`;
  }

  /** Move to an entry of the tensor. */
  goTo(flat) {
    const { shape, columns, block } = this.heat;
    const wide = shape.length > 1 ? shape.slice(1).reduce((a, b) => a * b, 1) : Math.max(1, ...shape);
    const [row, column] = [Math.floor(flat / wide), flat % wide];
    this.figure.closest("details").open = true;
    this.figure.scrollIntoView({ block: "center" });
    this.canvas.focus({ preventScroll: true });
    this.pointed = false;
    this.look(Math.floor(row / block[0]) * columns + Math.floor(column / block[1]));
    this.reveal();
  }
}

const tip = document.getElementById("tip");
const figures = all("figure[data-map]");
const drawn = new Map(figures.map((figure) => [figure.dataset.map, new HeatMap(figure)]));
const seen = new Set();

function draw(figure) {
  seen.add(figure);
  drawn.get(figure.dataset.map).draw();
}

const redraw = () => seen.forEach(draw);

/** Draw a map when it comes near the window. */
const watching = new IntersectionObserver(
  (entries) => entries.forEach((entry) => entry.isIntersecting && !seen.has(entry.target) && draw(entry.target)),
  { rootMargin: "50%" },
);

figures.forEach((figure) => {
  drawn.get(figure.dataset.map).layOut();
  watching.observe(figure);
});
for (const bar of all(".scale canvas")) {
  const context = bar.getContext("2d");
  COLOURS.forEach((rgb, i) => {
    context.fillStyle = `rgb(${rgb})`;
    context.fillRect(i, 0, 1, 1);
  });
}
all(".rtol").forEach((mark) => (mark.style.left = `${100 * share(Number(mark.dataset.at))}%`));

// --- events --------------------------------------------------------------------------------------------

document.addEventListener("click", ({ target }) => {
  const button = target.closest("button");
  if (button?.matches(".sort")) sort(button);
  if (button?.matches(".unfold")) unfold(button);
  if (button?.matches(".goto")) drawn.get(button.dataset.map).goTo(Number(button.dataset.entry));
  if (target.matches("a[href^='#']")) document.querySelector(target.getAttribute("href")).open = true;
});
document.querySelector(".filter").addEventListener("input", filter);
document.querySelector(".filter").addEventListener("submit", (event) => event.preventDefault());
window.addEventListener("resize", redraw);
window.addEventListener("scroll", () => drawn.forEach((map) => map.looking && map.place()), { passive: true });
window.addEventListener("beforeprint", () => {
  all("details").forEach((details) => (details.open = true));
  figures.forEach(draw);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);

all(".unfold").forEach((button) => unfold(button, false));
filter();
