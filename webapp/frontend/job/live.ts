// A job's live connection: all its events so far, then each new one, once and in order.
//
// The page names the last event that it has, the server answers with what came after. So a lost connection, a sleeping
// tab or a restarted server costs a pause and never an event. When sockets do not get through at all (a proxy of a core
// facility), the same is asked by plain requests.

export interface JobSnapshot {
  id: number;
  name: string;
  kind: string;
  state: string;
  state_label: string;
  reason: string;
  stop_wanted: string;
  epoch: number;
  attempt: number;
  step: number;
  total_steps: number | null;
  steps_per_epoch: number | null;
  checkpoint_step: number | null;
  progress: Progress | Record<string, never>;
  results: Record<string, unknown>;
  device: string;
  worker: string;
  silent_seconds: number | null;
  started_at: string | null;
  ended_at: string | null;
  may: string[];
}

export interface Progress {
  stage: string;
  done: number;
  total: number;
  unit: string;
  rate: number | null;
  left: number | null;
}

export interface JobEvent {
  id: number;
  epoch: number;
  kind: string;
  name: string;
  step: number | null;
  value: number | null;
  low: number | null;
  high: number | null;
  /** ISO 8601. */
  time: string;
  data: Record<string, unknown> | null;
}

export interface Message {
  job: JobSnapshot;
  events: JobEvent[];
  cursor: number;
  more: boolean;
}

export interface Link {
  close(): void;
}

export interface Options {
  /** Called with the time since when the connection has been down, and with null when it is back. */
  onLost?: (since: Date | null) => void;
  /** Events up to this id are not wanted. */
  after?: number;
}

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 15_000;
/** A socket without its first message by then is closed: the server answers the first request at once. */
const OPEN_TIMEOUT = 20_000;
const POLL = 3_000;
const ENDED = new Set(["done", "failed", "cancelled"]);

/** Follows job `jobId` until `close()`. `onMessage` gets only events that it has not had before, in order of id. */
export function connect(jobId: number, onMessage: (message: Message) => void, options: Options = {}): Link {
  let cursor = options.after ?? 0;
  let pause = FIRST_PAUSE;
  let failures = 0;
  let socket: WebSocket | null = null;
  let timer = 0;
  let closed = false;
  let lostSince: Date | null = null;
  let received = false;

  const schedule = (action: () => void, wait: number): void => {
    clearTimeout(timer);
    timer = window.setTimeout(action, wait);
  };

  const reportLost = (): void => {
    if (lostSince) return;
    lostSince = new Date();
    options.onLost?.(lostSince);
  };

  const receive = (message: Message): void => {
    received = true;
    if (lostSince) {
      lostSince = null;
      options.onLost?.(null);
    }
    const fresh = message.events.filter((event) => event.id > cursor);
    cursor = Math.max(cursor, message.cursor, ...fresh.slice(-1).map((event) => event.id));
    onMessage({ ...message, events: fresh });
  };

  const open = (): void => {
    if (closed) return;
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const own = new WebSocket(`${scheme}://${location.host}/ws/jobs/${jobId}/`);
    socket = own;
    // A proxy that swallows the upgrade leaves a socket that never opens.
    schedule(() => own.close(), OPEN_TIMEOUT);
    own.onopen = () => own.send(JSON.stringify({ after: cursor }));
    own.onmessage = (event) => {
      failures = 0;
      pause = FIRST_PAUSE;
      clearTimeout(timer);
      receive(JSON.parse(event.data as string) as Message);
    };
    own.onclose = (event) => {
      if (closed || socket !== own) return;
      socket = null;
      if (event.code === 4404) {
        // No longer a member, or signed out: the page that the server sends shows which.
        location.reload();
        return;
      }
      failures += 1;
      if (received) reportLost();
      // Where no socket ever got through, the first page must not wait for a second try.
      if (failures >= 3 || !received) schedule(poll, 0);
      else retry();
    };
  };

  // Full jitter: after a restart of the server, its readers do not all come back in the same instant.
  const retry = (): void => {
    schedule(open, pause / 2 + Math.random() * pause);
    pause = Math.min(pause * 2, LONGEST_PAUSE);
  };

  const poll = async (): Promise<void> => {
    if (closed) return;
    try {
      const answer = await fetch(`/jobs/${jobId}/events.json?after=${cursor}`, { credentials: "same-origin" });
      if (!answer.ok || answer.redirected) throw new Error(String(answer.status));
      const message = (await answer.json()) as Message;
      receive(message);
      failures += 1;
      if (ENDED.has(message.job.state) && !message.more) return;
      // Every so often the socket gets another chance.
      if (failures % 20 === 0) retry();
      else schedule(poll, message.more ? 0 : POLL);
    } catch {
      reportLost();
      retry();
    }
  };

  // A tab that slept, or a machine that changed networks, asks at once instead of waiting for its pause to end.
  const wake = (): void => {
    if (!closed && !socket && document.visibilityState === "visible") {
      pause = FIRST_PAUSE;
      schedule(open, 0);
    }
  };
  document.addEventListener("visibilitychange", wake);
  window.addEventListener("online", wake);

  open();
  return {
    close() {
      closed = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", wake);
      window.removeEventListener("online", wake);
      socket?.close();
    },
  };
}
