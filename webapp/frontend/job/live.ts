// A job's live link: everything it has said so far, then everything it says, each once and in order.
//
// The socket carries hints of nothing: the page names the last event that it has, the server answers with what came
// after. So a cut link, a sleeping tab or a restarted server costs a pause and never an event. When sockets do not get
// through at all (a proxy of a core facility), the same is asked by plain requests.

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
  /** Called with the time since when the link has been down, and with null when it is back. */
  onLost?: (since: Date | null) => void;
  /** Events up to this id are not wanted. */
  after?: number;
}

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 15_000;
/** The server speaks at least this often while it has news, and answers the first request at once. */
const SILENCE = 20_000;
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
  let heard = false;

  const later = (action: () => void, wait: number): void => {
    clearTimeout(timer);
    timer = window.setTimeout(action, wait);
  };

  const lost = (): void => {
    if (lostSince) return;
    lostSince = new Date();
    options.onLost?.(lostSince);
  };

  const receive = (message: Message): void => {
    heard = true;
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
    const mine = new WebSocket(`${scheme}://${location.host}/ws/jobs/${jobId}/`);
    socket = mine;
    // A proxy that swallows the upgrade leaves a socket that never opens.
    later(() => mine.close(), SILENCE);
    mine.onopen = () => mine.send(JSON.stringify({ after: cursor }));
    mine.onmessage = (event) => {
      failures = 0;
      pause = FIRST_PAUSE;
      clearTimeout(timer);
      receive(JSON.parse(event.data as string) as Message);
    };
    mine.onclose = (event) => {
      if (closed || socket !== mine) return;
      socket = null;
      if (event.code === 4404) {
        // No longer a member, or signed out: the page itself says which.
        location.reload();
        return;
      }
      failures += 1;
      if (heard) lost();
      // Where no socket ever got through, the first page must not wait for a second try.
      if (failures >= 3 || !heard) later(poll, 0);
      else again();
    };
  };

  // Full jitter: after a restart of the server, its readers do not all come back in the same instant.
  const again = (): void => {
    later(open, pause / 2 + Math.random() * pause);
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
      if (failures % 20 === 0) again();
      else later(poll, message.more ? 0 : POLL);
    } catch {
      lost();
      again();
    }
  };

  // A tab that slept, or a machine that changed networks, asks at once instead of waiting for its pause to end.
  const wake = (): void => {
    if (!closed && !socket && document.visibilityState === "visible") {
      pause = FIRST_PAUSE;
      later(open, 0);
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
