// Throughput as a line: the last ten minutes of samples, kept and drawn.

const POINTS = 300;
const SVG = "http://www.w3.org/2000/svg";

/** Samples of both directions, always POINTS of each. */
class Series {
  constructor() {
    this.in = new Array(POINTS).fill(0);
    this.out = new Array(POINTS).fill(0);
  }

  /** Takes ``count`` new samples; none at all when the server says that nothing moved. */
  add(count, rates) {
    for (const way of ["in", "out"]) {
      const more = rates && rates[way].length === count ? rates[way] : new Array(count).fill(0);
      this[way] = [...this[way], ...more].slice(-POINTS);
    }
  }

  get last() {
    return { in: this.in[POINTS - 1], out: this.out[POINTS - 1] };
  }

  get peak() {
    return Math.max(...this.in, ...this.out);
  }
}

/** All series of the page, by "cid" or "cid target"; the sum of everything is "". */
class Past {
  constructor() {
    this.series = new Map([["", new Series()]]);
    this.number = null;
  }

  /** Takes an answer of /traffic. */
  take(answer) {
    const count = answer.all.in.length;
    const rates = new Map([["", answer.all]]);
    for (const [cid, worker] of Object.entries(answer.workers)) {
      rates.set(cid, worker);
      for (const [name, target] of Object.entries(worker.targets)) rates.set(`${cid} ${name}`, target);
    }
    for (const key of rates.keys()) this.of(key);
    for (const [key, series] of this.series) series.add(count, rates.get(key));
    this.number = answer.last;
  }

  of(key) {
    if (!this.series.has(key)) this.series.set(key, new Series());
    return this.series.get(key);
  }

  /** Forgets what is not of these. */
  keep(keys) {
    for (const key of this.series.keys()) if (key && !keys.has(key)) this.series.delete(key);
  }
}

function draw(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** A small plot without words; what it shows stands beside it and in its label. */
class Plot {
  constructor(width, height) {
    this.width = width;
    this.height = height;
    this.paths = {};
    const marks = [];
    for (const way of ["in", "out"]) {
      const area = draw("path", { class: `area ${way}` });
      const line = draw("path", { class: `line ${way}`, "vector-effect": "non-scaling-stroke" });
      this.paths[way] = { area, line };
      marks.push(area, line);
    }
    this.box = draw(
      "svg",
      { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", focusable: "false" },
      draw("path", { class: "base", d: `M0 ${height - 0.5}H${width}`, "vector-effect": "non-scaling-stroke" }),
      ...marks,
    );
  }

  /** Draws ``series`` up to ``top`` bytes a second. */
  show(series, top, label) {
    if (this.label !== label) this.box.setAttribute("aria-label", (this.label = label));
    this.box.classList.toggle("quiet-line", series.peak === 0);
    for (const way of ["in", "out"]) {
      const heights = series[way].map((value) => (this.height - 1 - (value / top) * (this.height - 3)).toFixed(1));
      const { area, line } = this.paths[way];
      area.setAttribute("d", `${this.path(heights, () => true)}V${this.height}H0Z`);
      line.setAttribute("d", this.path(heights, (place) => moves(series[way], place)));
    }
  }

  /** A line along those samples that are wanted, with gaps where they are not. */
  path(heights, wanted) {
    const step = this.width / (POINTS - 1);
    let path = "";
    let pen = "M";
    heights.forEach((y, place) => {
      if (!wanted(place)) {
        pen = "M";
      } else if (pen === "M" || y !== heights[place - 1] || y !== heights[place + 1]) {
        path += `${pen}${(place * step).toFixed(1)} ${y}`;
        pen = "L";
      }
    });
    return path;
  }
}

/** Whether something moved at a sample or beside it: a line along nothing says nothing. */
function moves(values, place) {
  return values[place] > 0 || values[place - 1] > 0 || values[place + 1] > 0;
}

/** The large plot: a scale, the time below, and the values under the pointer. */
class LargePlot {
  constructor(place, stepSeconds) {
    this.plot = new Plot(900, 160);
    this.step = stepSeconds;
    this.scale = document.createElement("span");
    this.scale.className = "scale";
    this.reading = document.createElement("span");
    this.reading.className = "reading";
    this.hair = document.createElement("span");
    this.hair.className = "hair";
    const axis = document.createElement("div");
    axis.className = "axis";
    axis.setAttribute("aria-hidden", "true");
    for (const word of words.axis) {
      const mark = document.createElement("span");
      mark.textContent = word;
      axis.append(mark);
    }
    const frame = document.createElement("div");
    frame.className = "frame";
    frame.append(this.plot.box, this.scale, this.hair, this.reading);
    place.append(frame, axis);
    frame.addEventListener("pointermove", (event) => this.point(event.clientX - frame.getBoundingClientRect().left, frame));
    frame.addEventListener("pointerleave", () => this.point(null, frame));
    this.hair.hidden = this.reading.hidden = true;
  }

  show(series) {
    this.series = series;
    const top = roundUp(Math.max(series.peak, 1000));
    this.scale.textContent = rate(top);
    const { in: into, out } = series.last;
    this.plot.show(series, top, words.plot(words.everything, rate(into), rate(out)));
    if (this.at !== undefined && this.at !== null) this.read();
  }

  point(x, frame) {
    this.at = x === null ? null : Math.min(1, Math.max(0, x / frame.clientWidth));
    this.hair.hidden = this.reading.hidden = this.at === null;
    if (this.at !== null) this.read();
  }

  read() {
    const place = Math.round(this.at * (POINTS - 1));
    const ago = span((POINTS - 1 - place) * this.step);
    this.reading.textContent = `${words.in} ${rate(this.series.in[place])} · ${words.out} ${rate(this.series.out[place])} · ${words.ago(ago)}`;
    this.hair.style.left = `${this.at * 100}%`;
    this.reading.dataset.side = this.at > 0.5 ? "left" : "right";
  }
}
