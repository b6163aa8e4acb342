// The traffic of the past: a day by hours, a month by days, a year by months; and whose it was.

const TOP = 8; // names apart; the others are one line
const OTHERS = "(others)";
const HISTORY_MS = 60000; // the server looks every 2 s, but nobody reads a day that closely
const PAST_VIEWS = {
  day: { step: "hour", name: { dateStyle: "full" } },
  month: { step: "day", name: { month: "long", year: "numeric" } },
  year: { step: "month", name: { year: "numeric" } },
};

/** A day of the server's calendar, as three numbers: it needs no zone. */
class CalendarDay {
  constructor(year, month, day) {
    const date = new Date(Date.UTC(year, month - 1, day));
    [this.year, this.month, this.day] = [date.getUTCFullYear(), date.getUTCMonth() + 1, date.getUTCDate()];
  }

  static parse(text) {
    return new CalendarDay(...text.split("-").map(Number));
  }

  /** The same, `count` days, months or years on. */
  moved(view, count) {
    if (view === "day") return new CalendarDay(this.year, this.month, this.day + count);
    const to = new CalendarDay(view === "year" ? this.year + count : this.year, view === "month" ? this.month + count : this.month, 1);
    return new CalendarDay(to.year, to.month, Math.min(this.day, to.days));
  }

  get days() {
    return new Date(Date.UTC(this.year, this.month, 0)).getUTCDate();
  }

  text(format) {
    return new Intl.DateTimeFormat(LANGUAGE, { ...format, timeZone: "UTC" }).format(Date.UTC(this.year, this.month - 1, this.day));
  }

  /** The day, month or year that it is in, as the server writes it. */
  within(view) {
    return this.iso.slice(0, { day: 10, month: 7, year: 4 }[view]);
  }

  get iso() {
    return `${String(this.year).padStart(4, "0")}-${String(this.month).padStart(2, "0")}-${String(this.day).padStart(2, "0")}`;
  }
}

/** The columns of a view: what the server calls each, what stands below it, and what it is called in full. */
function columnsOf(view, at) {
  const two = (number) => String(number).padStart(2, "0");
  if (view === "day") {
    return Array.from({ length: 24 }, (_, hour) => ({ key: `${at.iso}T${two(hour)}`, mark: hour % 6 ? "" : `${two(hour)}:00`, full: `${two(hour)}:00–${two((hour + 1) % 24)}:00` }));
  }
  if (view === "month") {
    return Array.from({ length: at.days }, (_, place) => {
      const day = new CalendarDay(at.year, at.month, place + 1);
      return { key: day.iso, mark: place % 7 ? "" : plain.format(place + 1), full: day.text({ weekday: "short", day: "numeric", month: "short" }), day };
    });
  }
  return Array.from({ length: 12 }, (_, place) => {
    const day = new CalendarDay(at.year, place + 1, 1);
    return { key: day.within("month"), mark: day.text({ month: "narrow" }), full: day.text({ month: "long", year: "numeric" }), day };
  });
}

const NOTHING = { in: 0, out: 0, streams: 0, requests: 0, refused: 0 };

function added(sum, line) {
  return {
    in: sum.in + line.bytes_in,
    out: sum.out + line.bytes_out,
    streams: sum.streams + line.streams,
    requests: sum.requests + line.requests,
    refused: sum.refused + Object.values(line.refused).reduce((all, count) => all + count, 0),
  };
}

/** Columns of bytes, in below and out above, with a scale, and what the one under the pointer says. */
class Columns {
  constructor(choose) {
    this.choose = choose;
    this.bars = draw("g", {});
    this.svg = draw("svg", { preserveAspectRatio: "none", "aria-hidden": "true", focusable: "false" }, this.bars);
    this.scale = make("span", { className: "scale" });
    this.reading = make("span", { className: "reading", hidden: true });
    this.light = make("span", { className: "light", hidden: true });
    this.frame = make("div", { className: "frame" }, this.light, this.svg, this.scale, this.reading);
    this.axis = make("div", { className: "marks", "aria-hidden": "true" });
    this.table = make("table", { className: "unseen" });
    this.box = make("div", { className: "plot large columns-plot" }, this.frame, this.axis, this.table);
    for (const kind of ["pointermove", "pointerdown"]) this.frame.addEventListener(kind, (event) => this.point(event));
    this.frame.addEventListener("pointerleave", () => this.point(null));
    this.frame.addEventListener("click", () => this.at !== null && this.columns[this.at].day && this.choose(this.columns[this.at].day));
    this.at = null;
  }

  /** `columns` as columnsOf makes them, `sums` of each; those behind `now` (a key) are still to come. */
  show(columns, sums, now) {
    this.columns = columns;
    this.sums = sums;
    const top = roundUp(Math.max(...sums.map((sum) => sum.in + sum.out), 1000));
    const width = 20;
    this.svg.setAttribute("viewBox", `0 0 ${columns.length * width} 160`);
    const height = (value) => (value ? Math.max((value / top) * 158, 1) : 0);
    const rectangle = (way, place, y, tall) => draw("rect", { class: `bar-${way}`, x: place * width + 3, width: width - 6, y: (160 - y - tall).toFixed(2), height: tall.toFixed(2) });
    this.bars.replaceChildren(
      ...sums.flatMap((sum, place) => {
        const below = height(sum.in);
        return [...(sum.in ? [rectangle("in", place, 0, below)] : []), ...(sum.out ? [rectangle("out", place, below, height(sum.out))] : [])];
      }),
    );
    write(this.scale, bytes(top));
    this.axis.style.gridTemplateColumns = `repeat(${columns.length}, minmax(0, 1fr))`;
    this.axis.replaceChildren(...columns.map(({ key, mark }) => make("span", { textContent: mark, className: key === now ? "now" : "" })));
    this.frame.classList.toggle("leads-on", columns.some((column) => column.day));
    const head = make("tr", {}, ...[words.when, words.in, words.out, words.streams].map((text) => make("th", { scope: "col", textContent: text })));
    const rows = columns.map(({ full }, place) => [full, sums[place]]).filter(([, sum]) => sum.in + sum.out + sum.streams);
    this.table.replaceChildren(head, ...rows.map(([full, sum]) => make("tr", {}, ...[full, bytes(sum.in), bytes(sum.out), plain.format(sum.streams)].map((text) => make("td", { textContent: text })))));
    if (this.at !== null && this.at >= columns.length) this.at = null;
    this.read();
  }

  point(event) {
    if (!this.columns) return;
    const left = event && event.clientX - this.frame.getBoundingClientRect().left;
    this.at = event && Math.min(this.columns.length - 1, Math.max(0, Math.floor((left / this.frame.clientWidth) * this.columns.length)));
    this.read();
  }

  read() {
    this.reading.hidden = this.light.hidden = this.at === null;
    if (this.at === null) return;
    const [{ full }, sum] = [this.columns[this.at], this.sums[this.at]];
    write(this.reading, `${full} · ${words.in} ${bytes(sum.in)} · ${words.out} ${bytes(sum.out)} · ${words.streams} ${plain.format(sum.streams)}`);
    const each = 100 / this.columns.length;
    this.light.style.left = `${this.at * each}%`;
    this.light.style.width = `${each}%`;
    this.reading.dataset.side = this.at > this.columns.length / 2 ? "left" : "right";
  }
}

/** Buttons of which one is pressed. */
class Choice {
  constructor(label, values, texts, chosen) {
    this.buttons = values.map((value, place) => {
      const button = make("button", { type: "button", textContent: texts[place] });
      button.dataset.value = value;
      button.addEventListener("click", () => chosen(value));
      return button;
    });
    this.box = make("div", { className: "choose", role: "group" }, ...this.buttons);
    this.box.setAttribute("aria-label", label);
  }

  show(value) {
    for (const button of this.buttons) button.setAttribute("aria-pressed", String(button.dataset.value === value));
  }
}

/** What stands in place of the last ten minutes when somebody asks for a day, a month or a year. */
class HistoryView {
  /** `live`: what shows the last ten minutes; `ask(path)` gives an answer, or null where there is none. */
  constructor(place, live, ask) {
    this.live = live;
    this.ask = ask;
    this.view = "now";
    this.by = "target";
    this.name = null; // whose columns are shown; null: all
    this.views = new Choice(words.span, ["now", ...Object.keys(PAST_VIEWS)], words.spans, (view) => this.choose({ view }));
    this.bys = new Choice(words.whose, ["target", "user"], [words.byTarget, words.byUser], (by) => this.choose({ by, name: null }));
    const step = (text, label, count) => {
      const button = make("button", { type: "button", className: "step", textContent: text });
      button.setAttribute("aria-label", label);
      button.addEventListener("click", () => this.choose({ at: this.at.moved(this.view, count) }));
      return button;
    };
    this.before = step("‹", words.before, -1);
    this.after = step("›", words.after, 1);
    this.title = make("strong", { "aria-live": "polite" });
    this.walk = make("div", { className: "walk" }, this.before, this.title, this.after);
    this.columns = new Columns((day) => this.choose({ at: day, view: this.view === "year" ? "month" : "day" }));
    this.list = make("div", { className: "ranks" });
    this.none = make("p", { className: "quiet", textContent: words.nothingMoved });
    this.past = make("div", { hidden: true }, make("div", { className: "past-bar" }, this.walk, this.bys.box), this.columns.box, this.list, this.none);
    place.before(this.views.box);
    place.after(this.past);
    this.show();
  }

  async choose(change) {
    Object.assign(this, change);
    this.show();
    await this.refresh();
  }

  show() {
    this.views.show(this.view);
    this.bys.show(this.by);
    this.live.hidden = this.view !== "now";
    if (this.view === "now") this.past.hidden = true;
  }

  /** Asks for what is shown, at most once a minute unless something else is wanted. */
  async refresh() {
    clearTimeout(this.timer);
    if (this.view === "now") return;
    const asked = (this.asked = {});
    if (!this.at) {
      const answer = await this.ask("/traffic/history?step=month&by=tag&top=1");
      if (!answer || asked !== this.asked) return;
      this.at = CalendarDay.parse(answer.today);
    }
    const { view, by, at } = this;
    const [from, to] = view === "year" ? [`${at.within("year")}-01`, `${at.within("year")}-12`] : [at.within(view), at.within(view)];
    const answer = await this.ask(`/traffic/history?by=${by}&step=${PAST_VIEWS[view].step}&from=${from}&to=${to}&top=${TOP}`);
    if (asked !== this.asked || this.view === "now") return;
    if (answer) this.draw(answer);
    this.timer = setTimeout(() => (document.hidden ? null : this.refresh()), HISTORY_MS);
  }

  draw(answer) {
    const { view, at } = this;
    const columns = columnsOf(view, at);
    const sums = new Map(columns.map(({ key }) => [key, NOTHING]));
    const names = new Map();
    for (const line of answer.lines) {
      names.set(line.name, added(names.get(line.name) || NOTHING, line));
    }
    if (!names.has(this.name)) this.name = null;
    for (const line of answer.lines) {
      const key = line.when.slice(0, 13); // an hour that begins at half past stands under the whole one
      if (sums.has(key) && (this.name === null || this.name === line.name)) sums.set(key, added(sums.get(key), line));
    }
    write(this.title, at.text(PAST_VIEWS[view].name));
    this.after.disabled = CalendarDay.parse(answer.today).within(view) <= at.within(view);
    this.columns.show(columns, columns.map(({ key }) => sums.get(key)), answer.today.slice(0, view === "year" ? 7 : 10));
    this.rank(names);
    this.none.hidden = names.size > 0;
    this.past.hidden = false;
  }

  /** Whose it was, those who moved the most first; pressing one shows its columns alone. */
  rank(names) {
    const moved = ([, sum]) => sum.in + sum.out;
    const ranked = [...names].sort((a, b) => (a[0] === OTHERS) - (b[0] === OTHERS) || moved(b) - moved(a) || a[0].localeCompare(b[0]));
    const all = ranked.reduce((sum, each) => sum + moved(each), 0);
    const focused = document.activeElement && document.activeElement.dataset.name;
    this.list.replaceChildren(...ranked.map(([name, sum]) => this.line(name, sum, all)));
    if (focused !== undefined) [...this.list.children].find((each) => each.dataset.name === focused)?.focus();
  }

  line(name, sum, all) {
    const share = all ? (sum.in + sum.out) / all : 0;
    const [into, out] = ["in", "out"].map((way) => {
      const part = make("span", { className: `part ${way}` });
      part.style.width = `${all ? (100 * sum[way]) / all : 0}%`;
      return part;
    });
    const pair = new Pair();
    pair.show(sum.in, sum.out, bytes);
    const more = [words.count(words.streams, sum.streams), sum.requests ? words.count(words.requests, sum.requests) : "", sum.refused ? words.count(words.refused, sum.refused) : ""];
    const called = name === OTHERS ? words.others : name || words.plainCode;
    const button = make(
      "button",
      { type: "button", className: "rank" },
      make("span", { className: "rank-name", textContent: called }),
      make("span", { className: "rank-more", textContent: more.filter(Boolean).join(" · ") }),
      pair.box,
      make("span", { className: "share", "aria-hidden": "true" }, into, out),
      make("span", { className: "percent", textContent: percent.format(share) }),
    );
    button.dataset.name = name;
    button.setAttribute("aria-pressed", String(this.name === name));
    button.addEventListener("click", () => this.choose({ name: this.name === name ? null : name }));
    return button;
  }
}
