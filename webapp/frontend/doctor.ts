// The doctor: copies its findings, and tries whether live links get through to this browser.
import { bindCopying } from "./shared/clipboard";

const PATIENCE_MS = 10_000;

/** Whether a socket opens. The server closes that of a job that there is not, but greets it first. */
function opens(): Promise<boolean> {
  return new Promise((resolve) => {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/ws/jobs/0/`);
    const end = (open: boolean) => {
      resolve(open);
      socket.close();
    };
    socket.onopen = () => end(true);
    socket.onerror = () => end(false);
    setTimeout(end, PATIENCE_MS, false);
  });
}

async function tryLiveLink(row: HTMLElement): Promise<void> {
  const said = document.querySelector<HTMLTemplateElement>((await opens()) ? "#live-link-well" : "#live-link-cut")!;
  row.replaceChildren(said.content.cloneNode(true));
}

bindCopying();
const row = document.querySelector<HTMLElement>("#live-link");
if (row) void tryLiveLink(row);
