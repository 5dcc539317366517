// What was dropped or picked: files, or whole folders with their paths.
import { crc32, type Named } from "./zip";

const NOISE = /(^|\/)(\.[^/]*|__MACOSX|thumbs\.db|desktop\.ini)(\/|$)/i;
const ARCHIVE = /\.(zip|tar|tar\.gz|tgz)$/i;
const TABLE = /\.(csv|tsv)$/i;
/** A stack of this size goes up by itself: read for a zip first, it would be late by the time that reading takes. */
const LARGE = 64 * 2 ** 20;

function inFile(entry: FileSystemFileEntry): Promise<File> {
  return new Promise((resolve, reject) => entry.file(resolve, reject));
}

function someOf(reader: FileSystemDirectoryReader): Promise<FileSystemEntry[]> {
  return new Promise((resolve, reject) => reader.readEntries(resolve, reject));
}

async function walk(entry: FileSystemEntry, found: Named[], say: (found: number) => void): Promise<void> {
  if (entry.isFile) {
    found.push({ path: entry.fullPath.replace(/^\//, ""), file: await inFile(entry as FileSystemFileEntry) });
    if (found.length % 100 === 0) say(found.length);
    return;
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  // The list comes in pieces of a hundred; an empty piece is its end.
  for (let piece = await someOf(reader); piece.length; piece = await someOf(reader)) {
    for (const child of piece) await walk(child, found, say);
  }
}

/** Everything in a drop, folders included; `say` is told how many so far. Call it while the drop is being handled. */
export async function filesDropped(data: DataTransfer, say: (found: number) => void): Promise<Named[]> {
  // The list is emptied as soon as the event is over, so all entries are taken before the first wait.
  const entries = [...data.items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  const found: Named[] = [];
  for (const entry of entries) await walk(entry, found, say);
  return found;
}

export function filesPicked(list: FileList): Named[] {
  return [...list].map((file) => ({ path: file.webkitRelativePath || file.name, file }));
}

/** What goes in one upload: an archive by itself, a large stack by itself, everything else together. */
export interface Parcel {
  name: string;
  files: Named[];
  size: number;
}

export function parcels(files: readonly Named[]): Parcel[] {
  const wanted = files.filter(({ path }) => !NOISE.test(path));
  // What a table says of files must come with them, and the files of a folder belong together by their paths.
  const labelled = wanted.some(({ path }) => TABLE.test(path));
  const isAlone = ({ path, file }: Named): boolean =>
    ARCHIVE.test(path) || (!labelled && !path.includes("/") && file.size >= LARGE);
  const made = wanted.filter(isAlone).map((one) => parcel(one.file.name, [one]));
  const loose = wanted.filter((one) => !isAlone(one));
  loose.sort((a, b) => (a.path < b.path ? -1 : 1));
  if (loose.length === 1 && !loose[0]!.path.includes("/")) made.push(parcel(loose[0]!.file.name, loose));
  else if (loose.length) made.push(parcel(nameOf(loose), loose));
  return made;
}

function parcel(name: string, files: Named[]): Parcel {
  return { name, files, size: files.reduce((sum, { file }) => sum + file.size, 0) };
}

/** The folder that all lie in, or how many there are. */
function nameOf(files: readonly Named[]): string {
  const tops = new Set(files.map(({ path }) => (path.includes("/") ? path.split("/")[0]! : "")));
  const [top] = tops;
  return tops.size === 1 && top ? `${top}.zip` : `${files.length} files.zip`;
}

/** The same files give the same mark, so that after a reload they go on where they were cut off. */
export function markOf(parcel: Parcel): string {
  const text = parcel.files.map(({ path, file }) => `${path}\n${file.size}\n${file.lastModified}`).join("\n");
  const bytes = new TextEncoder().encode(text);
  // Outside https and loopback there is no crypto.subtle; the text itself would be too long a key for many files.
  return `${parcel.name}-${parcel.size}-${bytes.length}-${crc32(bytes).toString(16)}`;
}
