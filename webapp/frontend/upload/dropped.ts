// What was dropped or picked: files, or whole folders with their paths.
import { crc32, type Named } from "./zip";

const NOISE = /(^|\/)(\.[^/]*|__MACOSX|thumbs\.db|desktop\.ini)(\/|$)/i;
const ARCHIVE = /\.zip$/i;

function inFile(entry: FileSystemFileEntry): Promise<File> {
  return new Promise((resolve, reject) => entry.file(resolve, reject));
}

function someOf(reader: FileSystemDirectoryReader): Promise<FileSystemEntry[]> {
  return new Promise((resolve, reject) => reader.readEntries(resolve, reject));
}

async function walk(entry: FileSystemEntry, found: Named[]): Promise<void> {
  if (entry.isFile) {
    found.push({ path: entry.fullPath.replace(/^\//, ""), file: await inFile(entry as FileSystemFileEntry) });
    return;
  }
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  // The list comes in pieces of a hundred; an empty piece is its end.
  for (let piece = await someOf(reader); piece.length; piece = await someOf(reader)) {
    for (const child of piece) await walk(child, found);
  }
}

/** Everything in a drop, folders included. Must be called while the drop is being handled. */
export async function filesDropped(data: DataTransfer): Promise<Named[]> {
  // The list is emptied as soon as the event is over, so all entries are taken before the first wait.
  const entries = [...data.items].map((item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  const found: Named[] = [];
  for (const entry of entries) await walk(entry, found);
  return found;
}

export function filesPicked(list: FileList): Named[] {
  return [...list].map((file) => ({ path: file.webkitRelativePath || file.name, file }));
}

/** What goes in one upload: an archive by itself, all loose files together. */
export interface Parcel {
  name: string;
  files: Named[];
  size: number;
}

export function parcels(files: readonly Named[]): Parcel[] {
  const wanted = files.filter(({ path }) => !NOISE.test(path));
  const loose = wanted.filter(({ path }) => !ARCHIVE.test(path));
  loose.sort((a, b) => (a.path < b.path ? -1 : 1));
  const made = wanted.filter(({ path }) => ARCHIVE.test(path)).map((one) => parcel(one.file.name, [one]));
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
