// What was dropped or picked: files, or whole folders with their paths.
import { crc32, type Named } from "./zip";

const ENTRIES_AT_ONCE = 32;

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

async function named(entry: FileSystemFileEntry): Promise<Named> {
  const open = (): Promise<File> => inFile(entry);
  const { size, lastModified } = await open();
  return { path: entry.fullPath.replace(/^\//, ""), size, lastModified, open };
}

async function walk(entry: FileSystemEntry, found: Named[], progress: (found: number) => void): Promise<void> {
  if (entry.isFile) {
    found.push(await named(entry as FileSystemFileEntry));
    if (found.length % 100 === 0) progress(found.length);
    return;
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  // The list comes in pieces of a hundred; an empty piece is its end.
  for (let piece = await someOf(reader); piece.length; piece = await someOf(reader)) {
    for (let start = 0; start < piece.length; start += ENTRIES_AT_ONCE) {
      await Promise.all(piece.slice(start, start + ENTRIES_AT_ONCE).map((child) => walk(child, found, progress)));
    }
  }
}

/** Everything in a drop, folders included; `progress` gets how many so far. Call it while the drop is being handled. */
export async function filesDropped(data: DataTransfer, progress: (found: number) => void): Promise<Named[]> {
  // The list is emptied as soon as the event is over, so all entries are taken before the first wait.
  const entries = [...data.items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  const found: Named[] = [];
  for (const entry of entries) await walk(entry, found, progress);
  return found;
}

export function filesPicked(list: FileList): Named[] {
  return [...list].map((file) => {
    const { size, lastModified } = file;
    return { path: file.webkitRelativePath || file.name, size, lastModified, open: () => Promise.resolve(file) };
  });
}

/** What goes into one upload: an archive by itself, a large stack by itself, everything else together. */
export interface Parcel {
  name: string;
  files: Named[];
  size: number;
  /** As one zip; else it is one file as it lies there. */
  packed: boolean;
}

export function parcels(files: readonly Named[]): Parcel[] {
  const wanted = files.filter(({ path }) => !NOISE.test(path));
  // A table must come with the files that it describes, and the files of a folder belong together by their paths.
  const labelled = wanted.some(({ path }) => TABLE.test(path));
  const isAlone = ({ path, size }: Named): boolean =>
    ARCHIVE.test(path) || (!labelled && !path.includes("/") && size >= LARGE);
  const made = wanted.filter(isAlone).map((one) => parcel(nameIn(one), [one], false));
  const loose = wanted.filter((one) => !isAlone(one));
  loose.sort((a, b) => (a.path < b.path ? -1 : 1));
  if (loose.length === 1 && !loose[0]!.path.includes("/")) made.push(parcel(nameIn(loose[0]!), loose, false));
  else if (loose.length) made.push(parcel(nameOf(loose), loose, true));
  return made;
}

function parcel(name: string, files: Named[], packed: boolean): Parcel {
  return { name, files, packed, size: files.reduce((sum, { size }) => sum + size, 0) };
}

/** Without its folders. */
function nameIn({ path }: Named): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** The folder that all lie in, or how many there are. */
function nameOf(files: readonly Named[]): string {
  const tops = new Set(files.map(({ path }) => (path.includes("/") ? path.split("/")[0]! : "")));
  const [top] = tops;
  return tops.size === 1 && top ? `${top}.zip` : `${files.length} files.zip`;
}

/** The same files give the same mark, so that after a reload they go on where they were cut off. */
export function markOf(parcel: Parcel): string {
  const text = parcel.files.map(({ path, size, lastModified }) => `${path}\n${size}\n${lastModified}`).join("\n");
  const bytes = new TextEncoder().encode(text);
  // Outside https and loopback there is no crypto.subtle; the text itself would be too long a key for many files.
  return `${parcel.name}-${parcel.size}-${bytes.length}-${crc32(bytes).toString(16)}`;
}
