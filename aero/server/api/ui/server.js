// Talking to the server: calls with the token, the stream of events, and noticing that nobody answers.

const TOKEN_KEY = "aero-token";
const CALL_MS = 8000; // longer than the server takes for a ping
const SILENCE_MS = 25000; // two heartbeats and a half

class NotAllowed extends Error {}

class Refused extends Error {}

/** One call; the answer's JSON. Throws NotAllowed (the token), Refused (the server said no) or what fetch throws. */
async function call(path, options = {}) {
  const answer = await fetch(path, {
    ...options,
    headers: { ...authorization(), ...options.headers },
    signal: AbortSignal.timeout(CALL_MS),
    cache: "no-store",
  });
  if (answer.status === 401) throw new NotAllowed();
  const content = await answer.json();
  if (!answer.ok) throw new Refused(content.error);
  return content;
}

function authorization() {
  const token = sessionStorage.getItem(TOKEN_KEY);
  return token ? { Authorization: `Bearer ${token}` } : {};
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
        headers: { ...authorization(), "Last-Event-ID": this.lastId },
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
