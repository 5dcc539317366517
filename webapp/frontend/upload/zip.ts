// Many files as one: a zip without compression, made piece by piece while it goes up. One upload means one reading and
// one revision, and the folders, by which masks pair, keep their names.
//
// Where each byte of it lies follows from names and sizes alone: each checksum stands behind its file (a data
// descriptor) and in the directory at the end. So nothing is read before the first piece is sent, no more than a piece is
// in memory, and the same files make the same bytes, so that a cut upload goes on. The browser keeps a record of some
// kilobytes for every open file: files are opened when their bytes are wanted, and let go.

export interface Named {
  /** Path with "/", as it was dropped. */
  path: string;
  size: number;
  lastModified: number;
  open(): Promise<File>;
}

/** A file is no more what it was when it was chosen. */
export class Changed extends Error {
  constructor(name: string) {
    super(`${name} has changed on your disk since you chose it.`);
  }
}

const LARGE = 0xffffffff;

let tables: Uint32Array[] | null = null;

function crcTables(): Uint32Array[] {
  if (tables) return tables;
  const first = Uint32Array.from({ length: 256 }, (_, byte) => {
    let crc = byte;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
    return crc >>> 0;
  });
  tables = [first];
  for (let place = 1; place < 8; place += 1) {
    const before = tables[place - 1]!;
    tables.push(before.map((crc) => (crc >>> 8) ^ first[crc & 255]!));
  }
  return tables;
}

/** CRC-32 (ISO 3309), eight bytes at a time. `crc` is that of the bytes before. */
export function crc32(bytes: Uint8Array, crc = 0): number {
  const [t0, t1, t2, t3, t4, t5, t6, t7] = crcTables() as [...Uint32Array[]] & { length: 8 };
  let sum = ~crc >>> 0;
  let at = 0;
  for (const end = bytes.length - 7; at < end; at += 8) {
    sum ^= bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
    sum =
      t7![sum & 255]! ^ t6![(sum >>> 8) & 255]! ^ t5![(sum >>> 16) & 255]! ^ t4![sum >>> 24]! ^
      t3![bytes[at + 4]!]! ^ t2![bytes[at + 5]!]! ^ t1![bytes[at + 6]!]! ^ t0![bytes[at + 7]!]!;
  }
  for (; at < bytes.length; at += 1) sum = (sum >>> 8) ^ t0![(sum ^ bytes[at]!) & 255]!;
  return ~sum >>> 0;
}

/** Little-endian numbers of 2, 4 and 8 bytes. */
class Bytes {
  private readonly bytes: number[] = [];

  two(...values: number[]): this {
    for (const value of values) this.bytes.push(value & 255, (value >>> 8) & 255);
    return this;
  }

  four(...values: number[]): this {
    for (const value of values) this.two(value & 0xffff, value >>> 16);
    return this;
  }

  eight(...values: number[]): this {
    for (const value of values) this.four(value % 2 ** 32, Math.floor(value / 2 ** 32));
    return this;
  }

  done(): Uint8Array<ArrayBuffer> {
    return Uint8Array.from(this.bytes);
  }
}

// 1 January 1980, the first day that a zip knows: the same files make the same bytes.
const DAY = (1 << 5) | 1;
const UTF8_AND_DESCRIPTOR = (1 << 11) | (1 << 3);
const AT_ONCE = 32;
const READ = 4 * 2 ** 20;

const encoder = new TextEncoder();

/** What local header and directory have in common, from the version on. */
function common(record: Bytes, crc: number, size: number, name: number, extra: number): Bytes {
  return record.two(45, UTF8_AND_DESCRIPTOR, 0, 0, DAY).four(crc, size, size).two(name, extra);
}

/** A zip of `files`, in their order, as tus-js-client reads it: any piece of it at any time. */
export class ZipSource {
  readonly size: number;
  /** Where each file's header begins, and where the directory does. */
  private readonly offsets: Float64Array;
  private readonly crcs: Uint32Array;
  private readonly known: Uint8Array;
  /** Of files that are begun: the checksum of so many bytes. */
  private readonly begun = new Map<number, { at: number; crc: number }>();
  private directory: Uint8Array | null = null;

  /** `progress` is called with how many bytes have been read again, of files that were sent before a reload. */
  constructor(
    private readonly files: readonly Named[],
    private readonly progress: (bytes: number) => void,
  ) {
    this.offsets = new Float64Array(files.length + 1);
    this.crcs = new Uint32Array(files.length);
    this.known = new Uint8Array(files.length);
    let directory = 0;
    files.forEach(({ path, size }, index) => {
      const name = encoder.encode(path).length;
      const at = this.offsets[index]!;
      this.offsets[index + 1] = at + headerLength(name, size) + size + descriptorLength(size);
      directory += 46 + name + wide(size, at).length * 8 + (wide(size, at).length ? 4 : 0);
      if (!size) this.known[index] = 1;
    });
    const far = this.isFar(directory);
    this.size = this.offsets[files.length]! + directory + (far ? 76 : 0) + 22;
  }

  /** Bytes `start` to `end`. Raises Changed. */
  async slice(start: number, end: number): Promise<{ value: Blob; done: boolean }> {
    const value = new Uint8Array(end - start);
    const put = (bytes: Uint8Array, at: number): void => {
      const [from, to] = [Math.max(start, at), Math.min(end, at + bytes.length)];
      if (from < to) value.set(bytes.subarray(from - at, to - at), from - start);
    };
    const jobs: (() => Promise<void>)[] = [];
    for (let index = this.indexAt(start); index < this.files.length && this.offsets[index]! < end; index += 1) {
      const own = index;
      jobs.push(() => this.putFile(own, start, end, put));
    }
    await several(jobs);
    const directoryAt = this.offsets[this.files.length]!;
    if (end > directoryAt) put((this.directory ??= await this.directoryAndEnd()), directoryAt);
    return { value: new Blob([value]), done: end >= this.size };
  }

  close(): void {}

  /** The first file of which some byte lies at `place` or behind it. */
  private indexAt(place: number): number {
    let [low, high] = [0, this.files.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.offsets[middle + 1]! <= place) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  private async putFile(
    index: number,
    start: number,
    end: number,
    put: (bytes: Uint8Array, at: number) => void,
  ): Promise<void> {
    const { path, size } = this.files[index]!;
    const name = encoder.encode(path);
    const at = this.offsets[index]!;
    const data = at + headerLength(name.length, size);
    if (start < data) put(header(name, size), at);
    const [from, to] = [Math.max(0, start - data), Math.min(size, end - data)];
    if (from < to) put(await this.read(index, from, to), data + from);
    if (end > data + size && start < this.offsets[index + 1]!) put(descriptor(await this.crcOf(index), size), data + size);
  }

  /** Bytes of a file, which on the way go into its checksum. */
  private async read(index: number, from: number, to: number): Promise<Uint8Array> {
    const wanted = this.files[index]!;
    const bytes = await bytesOf(wanted, from, to).catch(() => null);
    if (bytes?.length !== to - from) throw new Changed(wanted.path);
    const state = this.begun.get(index) ?? { at: 0, crc: 0 };
    // A piece that is sent once more has been counted; one behind a gap (after a reload) is counted when it is asked for.
    if (!this.known[index] && state.at >= from && state.at < to) {
      state.crc = crc32(bytes.subarray(state.at - from), state.crc);
      state.at = to;
      this.begun.set(index, state);
      if (to === wanted.size) {
        this.known[index] = 1;
        this.crcs[index] = state.crc;
        this.begun.delete(index);
      }
    }
    return bytes;
  }

  private async crcOf(index: number, seen: (bytes: number) => void = () => undefined): Promise<number> {
    const { size } = this.files[index]!;
    while (!this.known[index]) {
      const at = this.begun.get(index)?.at ?? 0;
      const to = Math.min(size, at + READ);
      await this.read(index, at, to);
      seen(to - at);
    }
    return this.crcs[index]!;
  }

  private isFar(directory: number): boolean {
    return this.files.length >= 0xffff || this.offsets[this.files.length]! >= LARGE || directory >= LARGE;
  }

  private async directoryAndEnd(): Promise<Uint8Array> {
    let seen = 0;
    const unknown = [...this.files.keys()].filter((index) => !this.known[index]);
    const readMore = (bytes: number): void => this.progress((seen += bytes));
    await several(unknown.map((index) => async () => void (await this.crcOf(index, readMore))));
    const count = this.files.length;
    const offset = this.offsets[count]!;
    const made = new Uint8Array(this.size - offset);
    let at = 0;
    const add = (bytes: Uint8Array): void => {
      made.set(bytes, at);
      at += bytes.length;
    };
    this.files.forEach(({ path, size }, index) => {
      const name = encoder.encode(path);
      const place = this.offsets[index]!;
      const more = wide(size, place);
      const extra = more.length ? new Bytes().two(1, 8 * more.length).eight(...more).done() : new Uint8Array();
      const entry = new Bytes().four(0x02014b50).two(45);
      common(entry, this.crcs[index]!, Math.min(size, LARGE), name.length, extra.length);
      add(entry.two(0, 0, 0).four(0, Math.min(place, LARGE)).done());
      add(name);
      add(extra);
    });
    const directory = at;
    const end = new Bytes();
    if (this.isFar(directory)) {
      end.four(0x06064b50).eight(44).two(45, 45).four(0, 0).eight(count, count, directory, offset);
      end.four(0x07064b50, 0).eight(offset + directory).four(1);
    }
    const few = Math.min(count, 0xffff);
    end.four(0x06054b50).two(0, 0, few, few).four(Math.min(directory, LARGE), Math.min(offset, LARGE)).two(0);
    add(end.done());
    return made;
  }
}

async function bytesOf({ size, lastModified, open }: Named, from: number, to: number): Promise<Uint8Array | null> {
  const file = await open();
  if (file.size !== size || file.lastModified !== lastModified) return null;
  return new Uint8Array(await file.slice(from, to).arrayBuffer());
}

function headerLength(name: number, size: number): number {
  return 30 + name + (size >= LARGE ? 20 : 0);
}

function header(name: Uint8Array, size: number): Uint8Array {
  const large = size >= LARGE;
  const record = new Bytes().four(0x04034b50);
  const fixed = common(record, 0, large ? LARGE : 0, name.length, large ? 20 : 0).done();
  const extra = large ? new Bytes().two(1, 16).eight(0, 0).done() : new Uint8Array();
  return Uint8Array.from([...fixed, ...name, ...extra]);
}

function descriptorLength(size: number): number {
  return size >= LARGE ? 24 : 16;
}

/** The checksum behind a file, and its size. */
function descriptor(crc: number, size: number): Uint8Array {
  const record = new Bytes().four(0x08074b50, crc);
  return (size >= LARGE ? record.eight(size, size) : record.four(size, size)).done();
}

/** What of an entry of the directory takes more than 32 bits. */
function wide(size: number, offset: number): number[] {
  return [...(size >= LARGE ? [size, size] : []), ...(offset >= LARGE ? [offset] : [])];
}

/** Does `jobs`, a few at a time. */
async function several(jobs: (() => Promise<void>)[]): Promise<void> {
  let next = 0;
  const work = async (): Promise<void> => {
    while (next < jobs.length) await jobs[next++]!();
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
}
