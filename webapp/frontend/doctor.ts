// The page Doctor: copies its findings, and tests whether a live link opens from this browser.
import { bindCopying } from "./shared/clipboard";

const TIMEOUT_MS = 10_000;

/** Whether a socket opens. The server closes the socket of a job that does not exist, but opens it first. */
function canOpenSocket(): Promise<boolean> {
  return new Promise((resolve) => {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/ws/jobs/0/`);
    const finish = (open: boolean) => {
      resolve(open);
      socket.close();
    };
    socket.onopen = () => finish(true);
    socket.onerror = () => finish(false);
    setTimeout(finish, TIMEOUT_MS, false);
  });
}

async function testLiveLink(row: HTMLElement): Promise<void> {
  const answer = (await canOpenSocket()) ? "#live-link-well" : "#live-link-cut";
  const template = document.querySelector<HTMLTemplateElement>(answer)!;
  row.replaceChildren(template.content.cloneNode(true));
}

bindCopying();
const row = document.querySelector<HTMLElement>("#live-link");
if (row) void testLiveLink(row);
