// The job that reads an upload into the dataset: its progress, in words.
import { connect, type JobSnapshot } from "../job/live";
import { integerText } from "../shared/numbers";
import { duration } from "../shared/times";

const ENDED = new Set(["done", "failed", "cancelled"]);

/** "Reading: 97 of 165 files · 3 s left". */
export function readingWords(job: JobSnapshot): string {
  const { progress } = job;
  if (job.state === "queued" || job.state === "waiting") return "Arrived. Waiting to be read";
  if (!("done" in progress)) return "Reading: starting";
  const counted = progress.total
    ? `Reading: ${integerText(progress.done)} of ${integerText(progress.total)} ${progress.unit}`
    : `Reading: ${integerText(progress.done)} ${progress.unit} so far`;
  return progress.left === null || progress.left < 1 ? counted : `${counted} · ${duration(progress.left)} left`;
}

/** Calls `ended` once the job has ended; `show` with each snapshot before. */
export function followReading(jobId: number, show: (job: JobSnapshot) => void, ended: () => void): void {
  const link = connect(jobId, ({ job, more }) => {
    if (!ENDED.has(job.state)) show(job);
    else if (!more) {
      link.close();
      ended();
    }
  });
}
