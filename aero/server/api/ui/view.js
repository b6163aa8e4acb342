// What the page shows of workers and targets: made once, changed where something changed, so that focus stays.

const $ = (id) => document.getElementById(id);

/** An element with properties and children; text goes in as text, never as HTML. */
function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Two numbers with the colours of their directions. */
class Pair {
  constructor() {
    this.in = make("span", { className: "in" });
    this.out = make("span", { className: "out" });
    this.box = make("span", { className: "pair" }, this.in, this.out);
    this.in.title = words.in;
    this.out.title = words.out;
  }

  show(into, out, format) {
    write(this.in, format(into));
    write(this.out, format(out));
    this.in.classList.toggle("zero", into === 0);
    this.out.classList.toggle("zero", out === 0);
  }
}

function cell(label, ...children) {
  return make("td", { role: "cell", "data-label": label }, ...children);
}

/** A target as people and the throughput's series call it: one name may serve TCP and UDP. */
function called(target) {
  return target.proto === "udp" ? `${target.name}/udp` : target.name;
}

/** One line of a worker's table. */
class TargetRow {
  constructor(target, toggle) {
    this.name = called(target);
    this.link = target.url ? make("a", { textContent: target.name, href: target.url, rel: "noreferrer", target: "_blank" }) : null;
    this.local = cell(words.local);
    this.where = make("span");
    this.switch = make("button", { type: "button", className: "switch", hidden: true });
    this.switch.addEventListener("click", () => toggle(this.target));
    this.listen = cell(words.listen, this.where, this.switch);
    this.streams = cell(words.streams);
    this.now = new Pair();
    this.total = new Pair();
    this.plot = new Plot(150, 28);
    const head = make("th", { scope: "row", role: "rowheader" }, this.link || this.name);
    this.box = make(
      "tr",
      { role: "row" },
      head,
      this.local,
      this.listen,
      this.streams,
      cell(words.now, this.now.box),
      cell(words.total, this.total.box),
      cell(words.lastMinutes, make("div", { className: "plot small" }, this.plot.box)),
    );
    this.local.className = this.listen.className = "address";
    this.streams.className = "number";
  }

  show(target, series, inView) {
    write(this.local, target.local);
    this.target = target;
    const closed = target.open === false;
    const where = closed ? words.closed : [target.listen, ...(target.domains || [])].filter(Boolean).join(", ") || words.muxOnly;
    write(this.where, target.healthy === false ? `${where} – ${words.down(target.why)}` : where);
    this.switch.hidden = target.open === undefined;
    write(this.switch, closed ? words.openIt : words.closeIt);
    this.switch.setAttribute("aria-label", words.toggle(this.name, closed));
    this.listen.classList.toggle("sick", target.healthy === false);
    write(this.streams, plain.format(target.streams ?? target.flows));
    this.streams.title = target.drops ? words.drops(Object.entries(target.drops).filter(([, count]) => count)) : "";
    this.total.show(target.bytes_in, target.bytes_out, bytes);
    const { in: into, out } = series.last;
    this.now.show(into, out, rate);
    if (inView) this.plot.show(series, Math.max(series.peak, 1), words.plot(this.name, rate(into), rate(out)));
  }
}

/** One worker: who it is, what can be done with it, and its targets. */
class WorkerCard {
  constructor(worker, actions) {
    this.cid = worker.cid;
    this.actions = actions;
    this.inView = false; // until it has been seen where it is
    this.rows = new Map();
    this.dot = make("span", { className: "dot", "aria-hidden": "true" });
    this.where = make("span", { className: "where" });
    this.links = make("span", { className: "links" });
    this.up = make("span");
    this.ping = make("button", { type: "button", className: "ping", title: words.pingNow(worker.tag) });
    this.ping.addEventListener("click", () => actions.ping(this.worker));
    const kick = make("button", { type: "button", className: "kick", textContent: words.kick });
    kick.setAttribute("aria-label", words.kickNow(worker.tag, worker.cid));
    kick.addEventListener("click", () => actions.kick(this.worker));
    this.now = new Pair();
    this.plot = new Plot(220, 40);
    const title = make("h3", { id: `title-${worker.cid}` }, this.dot, worker.tag);
    const heads = [words.target, words.local, words.listen, words.streams, words.now, words.total, words.lastMinutes];
    this.body = make("tbody", { role: "rowgroup" });
    this.table = make(
      "table",
      { role: "table" },
      make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, ...heads.map((text) => make("th", { scope: "col", role: "columnheader", textContent: text })))),
      this.body,
    );
    this.table.setAttribute("aria-labelledby", title.id);
    this.none = make("p", { className: "quiet", textContent: words.noTargets });
    const about = make("p", { className: "about" }, this.where, make("code", { textContent: worker.cid }), this.up, this.links, this.ping);
    const traffic = make("div", { className: "traffic" }, this.now.box, make("div", { className: "plot middle" }, this.plot.box));
    this.box = make("article", { className: "card worker" }, make("header", {}, make("div", { className: "who" }, title, about), traffic, kick), this.table, this.none);
    this.box.setAttribute("aria-labelledby", title.id);
  }

  show(worker, past) {
    this.worker = worker;
    this.past = past;
    const away = worker.links === 0;
    this.dot.dataset.state = away ? "away" : "up";
    write(this.where, `${worker.host} ${words.from(worker.address)}`);
    write(this.up, words.since(span((Date.now() - Date.parse(worker.connected_at)) / 1000)));
    write(this.links, away ? words.away : `${words.links(worker.links)} (${worker.transports.join(", ")})`);
    this.links.classList.toggle("warn", away);
    this.pinged(worker.ping_ms);
    const series = past.of(worker.cid);
    const { in: into, out } = series.last;
    this.now.show(into, out, rate);
    if (this.inView) this.plot.show(series, Math.max(series.peak, 1), words.plot(worker.tag, rate(into), rate(out)));
    this.showTargets(worker, past);
  }

  showTargets(worker, past) {
    this.table.hidden = worker.targets.length === 0;
    this.none.hidden = !this.table.hidden;
    const gone = new Set(this.rows.keys());
    worker.targets.forEach((target, place) => {
      gone.delete(called(target));
      let row = this.rows.get(called(target));
      if (!row) {
        row = new TargetRow(target, (which) => this.actions.toggle(this.worker, which));
        this.rows.set(called(target), row);
      }
      if (this.body.children[place] !== row.box) this.body.insertBefore(row.box, this.body.children[place] || null);
      row.show(target, past.of(`${worker.cid} ${called(target)}`), this.inView);
    });
    for (const name of gone) {
      this.rows.get(name).box.remove();
      this.rows.delete(name);
    }
  }

  pinged(ms) {
    write(this.ping, `${words.ping} ${ms === null ? words.noPing : milliseconds(ms)}`);
  }
}

/** The list of workers, filtered by tag. */
class WorkerList {
  constructor(actions) {
    this.actions = actions;
    this.cards = new Map();
    this.tag = decodeURIComponent(location.hash.slice(1));
    this.workers = [];
    this.seen = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        const card = this.cards.get(entry.target.dataset.cid);
        if (!card) continue;
        card.inView = entry.isIntersecting;
        if (card.inView) card.show(card.worker, card.past);
      }
    }, { rootMargin: "200px" });
  }

  /** Workers that are not here and should be. */
  showLate(late) {
    const wanted = late.filter((each) => !this.tag || each.tag === this.tag);
    $("late").replaceChildren(
      ...wanted.map((each) => {
        const away = span((Date.now() - Date.parse(each.since)) / 1000);
        const title = make("h3", {}, make("span", { className: "dot", "data-state": "late", "aria-hidden": "true" }), each.tag);
        return make("article", { className: "card late-worker", "aria-label": each.tag }, title, make("p", { textContent: words.late(each.host, away, span(each.usual_s)) }));
      }),
    );
  }

  show(workers, past) {
    this.workers = [...workers].sort((a, b) => a.tag.localeCompare(b.tag) || a.host.localeCompare(b.host) || a.cid.localeCompare(b.cid));
    this.showTags();
    const wanted = this.workers.filter((worker) => !this.tag || worker.tag === this.tag);
    const gone = new Set(this.cards.keys());
    wanted.forEach((worker, place) => {
      gone.delete(worker.cid);
      const card = this.cards.get(worker.cid) || this.add(worker);
      if ($("list").children[place] !== card.box) $("list").insertBefore(card.box, $("list").children[place] || null);
      card.show(worker, past);
    });
    for (const cid of gone) this.remove(cid);
    $("empty").hidden = workers.length > 0;
    $("nobody").hidden = workers.length === 0 || wanted.length > 0;
  }

  add(worker) {
    const card = new WorkerCard(worker, this.actions);
    card.box.dataset.cid = worker.cid;
    this.cards.set(worker.cid, card);
    this.seen.observe(card.box);
    return card;
  }

  remove(cid) {
    const { box } = this.cards.get(cid);
    this.seen.unobserve(box);
    const lost = box.contains(document.activeElement);
    box.remove();
    this.cards.delete(cid);
    if (lost) $("workers").focus();
  }

  showTags() {
    const tags = [...new Set(this.workers.map((worker) => worker.tag))];
    if (this.tag && !tags.includes(this.tag)) tags.unshift(this.tag);
    const wanted = tags.length > 1 || this.tag ? ["", ...tags] : [];
    const shown = [...$("tags").children].map((button) => button.dataset.tag);
    if (shown.join() !== wanted.join()) {
      $("tags").replaceChildren(...wanted.map((tag) => this.tagButton(tag)));
    }
    for (const button of $("tags").children) button.setAttribute("aria-pressed", String(button.dataset.tag === this.tag));
  }

  tagButton(tag) {
    const button = make("button", { type: "button", textContent: tag || words.everyTag });
    button.dataset.tag = tag;
    button.addEventListener("click", () => {
      this.tag = tag;
      history.replaceState(null, "", tag ? `#${encodeURIComponent(tag)}` : " ");
      this.actions.filtered();
    });
    return button;
  }
}

/** The events, newest first, as many as the server remembers. */
class EventList {
  show(event) {
    const line = words.happened[event.event];
    const at = new Date(event.at);
    const time = make("time", { dateTime: event.at, textContent: clock.format(at), title: day.format(at) });
    const text = make("span", { textContent: line ? line(event) : event.event });
    const box = make("li", { className: event.fault ? "fault" : "" }, time, text);
    box.dataset.event = event.event;
    $("events").prepend(box);
    while ($("events").children.length > 200) $("events").lastChild.remove();
    $("no-events").hidden = true;
  }
}
