// Talking to the server: calls with the token, the stream of events, and noticing that nobody answers.

const SECRET = "aero-secret"; // the token, or the key that changes need; this tab's storage has it
let readsNeedSecret = false; // while they do not, a poll does not show it to whoever may listen at this port
const CALL_MS = 8000; // longer than the server takes for a ping
const SILENCE_MS = 25000; // two heartbeats and a half

class NotAllowed extends Error {} // its message is the server's

class Refused extends Error {}

/** One call; the answer's JSON. Throws NotAllowed (token or key), Refused (the server said no) or what fetch throws. */
async function call(path, options = {}) {
  const changes = options.method === "POST";
  const shown = authorization(changes);
  const answer = await fetch(path, {
    ...options,
    headers: { ...shown, ...options.headers },
    signal: AbortSignal.timeout(CALL_MS),
    cache: "no-store",
  });
  const content = await answer.json();
  if (answer.status === 401) {
    if (!changes) readsNeedSecret = true;
    if (hasSecret() && !shown.Authorization) return call(path, options);
    throw new NotAllowed(content.error);
  }
  if (!answer.ok) throw new Refused(content.error);
  return content;
}

function authorization(changes) {
  return hasSecret() && (changes || readsNeedSecret) ? { Authorization: `Bearer ${sessionStorage.getItem(SECRET)}` } : {};
}

function hasSecret() {
  return Boolean(sessionStorage.getItem(SECRET));
}

/** Keeps what an address from `aero page` brings, and takes it off the address line. */
function takeSecretFromAddress() {
  const found = location.hash.match(/^#key=(.+)$/);
  if (!found) return;
  sessionStorage.setItem(SECRET, decodeURIComponent(found[1]));
  history.replaceState(null, "", location.pathname);
}

function pause(ms) {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Listens to the server's events for ever: calls onEvent(event) for each, onEnd() when the stream breaks. */
class Listener {
  constructor(onEvent, onEnd) {
    this.onEvent = onEvent;
    this.onEnd = onEnd;
    this.lastId = "0"; // never given: everything that is remembered comes first
  }

  /** One connection from its beginning to its end. */
  async listen() {
    const abort = new AbortController();
    let watchdog = setTimeout(() => abort.abort(), SILENCE_MS);
    try {
      const answer = await fetch("/events", {
        headers: { ...authorization(false), "Last-Event-ID": this.lastId },
        signal: abort.signal,
        cache: "no-store",
      });
      if (!answer.ok) return;
      const decoder = new TextDecoder();
      const reader = answer.body.getReader();
      let text = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        clearTimeout(watchdog);
        watchdog = setTimeout(() => abort.abort(), SILENCE_MS);
        text += decoder.decode(value, { stream: true });
        const parts = text.split("\n\n");
        text = parts.pop();
        parts.forEach((part) => this.take(part));
      }
    } catch {
      // Broken, or silent for too long: the same to those who look.
    } finally {
      clearTimeout(watchdog);
      this.onEnd();
    }
  }

  take(part) {
    let data = "";
    for (const line of part.split("\n")) {
      if (line.startsWith("id: ")) this.lastId = line.slice(4);
      if (line.startsWith("data: ")) data += line.slice(6);
    }
    if (data) this.onEvent(JSON.parse(data));
  }
}
