// The page's life: ask, show, listen, notice when nobody answers; and what people can do.

takeSecretFromAddress(); // before anything takes what stands behind # for a tag

const STEP_MS = 2000; // as often as the server samples
const past = new Past();
const listener = new Listener(happened, () => {});
const eventList = new EventList();
const workerList = new WorkerList({ ping: pingWorker, kick: askKick, toggle: toggleTarget, filtered: showWorkers });
const plot = new LargePlot($("all-plot"), STEP_MS / 1000);
const historyView = new HistoryView($("all-plot"), $("all-plot"), askHistory);
let current = { workers: [], late: [] };
let health = null;
let seenAt = Date.now();
let lost = false;
let asking = null;
let kicking = null;
const OPEN_S = 30 * 60; // how long a closed target is opened for
let afterSecret = refresh;

function fillWords() {
  document.documentElement.lang = LANGUAGE === "zh" ? "zh-CN" : "en";
  for (const element of document.querySelectorAll("[data-word]")) element.textContent = words[element.dataset.word];
  for (const element of document.querySelectorAll("[data-label]")) element.setAttribute("aria-label", words[element.dataset.label]);
  const { linkPort, auth } = document.documentElement.dataset;
  const local = ["localhost", "127.0.0.1", "[::1]"].includes(location.hostname);
  const host = local ? "HOST" : location.hostname;
  $("command").textContent = `python3 aero.pyz client --server ${host}:${linkPort}${auth ? " --auth CODE" : ""} --tag demo --target web@127.0.0.1:80`;
  $("empty-more").textContent = [local ? words.emptyHost : "", auth ? words.emptyAuth : ""].join(" ").trim();
  write($("state-text"), words.connecting);
}

// Asking and showing

/** Asks for everything and shows it; one at a time. */
function refresh() {
  if (!asking) asking = askAll().finally(() => (asking = null));
  return asking;
}

async function askAll() {
  try {
    const since = past.number === null ? "" : `?since=${past.number}`;
    const list = await call("/list"); // first: it finds out whether reading needs the token, which /health never says
    const [newHealth, traffic] = await Promise.all([call("/health"), call(`/traffic${since}`)]);
    health = newHealth;
    current = list;
    past.take(traffic);
    found();
    showAll();
  } catch (error) {
    if (error instanceof NotAllowed) askSecret();
    else missed();
  }
}

function showAll() {
  const keys = new Set(current.workers.flatMap((worker) => [worker.cid, ...worker.targets.map((target) => `${worker.cid} ${called(target)}`)]));
  past.keep(keys);
  const all = past.of("");
  write($("all-in"), rate(all.last.in));
  write($("all-out"), rate(all.last.out));
  write($("all-workers"), plain.format(health.workers));
  write($("all-streams"), plain.format(health.streams));
  plot.show(all);
  document.title = words.title(health.workers);
  showWorkers();
}

function showWorkers() {
  workerList.show(current.workers, past);
  workerList.showLate(current.late);
}

/** An answer about the past; null where there is none, and why it is said. */
async function askHistory(path) {
  try {
    return await call(path);
  } catch (error) {
    if (error instanceof NotAllowed) askSecret();
    else note(error instanceof Refused ? words.failed(error.message) : words.lost);
    return null;
  }
}

// Whether the server answers

function found() {
  seenAt = Date.now();
  if (lost) note(words.back);
  lost = false;
  $("lost").hidden = true;
  document.body.classList.remove("stale");
  $("state").dataset.state = "up";
  write($("state-text"), words.connected(health.version, span(health.uptime_s)));
}

function missed() {
  lost = true;
  $("state").dataset.state = "lost";
  write($("state-text"), words.lostShort);
  document.title = words.lostTitle;
  document.body.classList.add("stale");
  write($("lost-more"), words.lostMore(span((Date.now() - seenAt) / 1000)));
  $("lost").hidden = false;
}

function note(text) {
  const box = make("p", { textContent: text });
  $("notes").append(box);
  setTimeout(() => box.remove(), 6000);
}

/** Asks again and again: every step, or less often where answers take long or nobody looks. */
async function keepAsking() {
  for (;;) {
    if (waitsForToken()) {
      await pause(STEP_MS / 4);
      continue;
    }
    const began = performance.now();
    await refresh();
    const took = performance.now() - began;
    await pause(Math.max(document.hidden ? 5 * STEP_MS : STEP_MS, 4 * took) - Math.min(took, STEP_MS / 2));
  }
}

async function keepListening() {
  for (;;) {
    if (!waitsForToken()) await listener.listen();
    await pause(STEP_MS);
  }
}

function happened(event) {
  eventList.show(event);
  if (Date.now() - Date.parse(event.at) < 60000) refresh();
}

// What people can do

/** Does something; where that needs the key, asks for it and does it then. */
async function act(action) {
  try {
    return await action();
  } catch (error) {
    if (error instanceof NotAllowed) askSecret(readsNeedSecret ? "" : error.message, () => act(action));
    else note(words.failed(error instanceof Refused ? error.message : words.lost));
    return null;
  }
}

async function pingWorker(worker) {
  const answer = await act(() => call(`/ping?cid=${worker.cid}`));
  if (!answer) return;
  const card = workerList.cards.get(worker.cid);
  if (card) card.pinged(answer.rtt_ms);
  note(words.pinged(worker.tag, milliseconds(answer.rtt_ms)));
}

function askKick(worker) {
  kicking = worker;
  const streams = worker.targets.reduce((sum, target) => sum + (target.streams ?? target.flows), 0);
  write($("kick-title"), words.kickTitle(worker.tag));
  write($("kick-text"), words.kickText(worker.cid, worker.host, streams));
  $("kick").showModal();
  $("kick-no").focus();
}

async function kickNow() {
  $("kick").close();
  const { cid, tag } = kicking;
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: "{}" };
  await act(async () => {
    await call(`/kick?cid=${cid}`, options);
    note(words.kicked(tag));
    refresh();
  });
}

/** Opens a closed target for half an hour, or closes it. */
async function toggleTarget(worker, target) {
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: "{}" };
  const seconds = target.open ? 0 : OPEN_S;
  await act(async () => {
    await call(`/open?target=${worker.cid}@/${target.name}&for=${seconds}`, options);
    note(seconds ? words.opened(worker.tag, target.name, OPEN_S / 60) : words.shut(worker.tag, target.name));
    refresh();
  });
}

/** Asks for the token, without which there is nothing to see, or (`why`, in the server's words) for the key. */
function askSecret(why = "", retry = refresh) {
  if ($("token").open) return;
  afterSecret = retry;
  write($("token-title"), why ? words.keyTitle : words.tokenTitle);
  write($("token-text"), why ? words.keyText : words.tokenText);
  write($("token-label"), why ? words.key : words.token);
  write($("token-wrong"), why ? words.keyWrong : words.tokenWrong);
  write($("token-why"), why ? words.says(why) : "");
  $("token-wrong").hidden = !hasSecret();
  $("token-no").hidden = !why;
  $("token").showModal();
}

function takeSecret() {
  sessionStorage.setItem(SECRET, $("token-field").value.trim());
  leaveSecret();
  afterSecret();
}

function leaveSecret() {
  $("token-field").value = "";
  $("token").close();
}

/** True while nothing can be shown: the token is asked for. */
function waitsForToken() {
  return readsNeedSecret && $("token").open;
}

function onSubmit(form, action) {
  $(form).addEventListener("submit", (event) => {
    event.preventDefault();
    action();
  });
}

fillWords();
onSubmit("kick-form", kickNow);
onSubmit("token-form", takeSecret);
$("kick-no").addEventListener("click", () => $("kick").close());
$("token-no").addEventListener("click", leaveSecret);
$("token").addEventListener("cancel", (event) => waitsForToken() && event.preventDefault());
$("copy").addEventListener("click", () =>
  act(async () => {
    await navigator.clipboard.writeText($("command").textContent);
    note(words.copied);
  }),
);
window.addEventListener("hashchange", takeSecretFromAddress);
document.addEventListener("visibilitychange", () => document.hidden || refresh() && historyView.refresh());
keepAsking();
keepListening();
