// Many files as one: a zip without compression, put together from the files where they lie, without reading them into
// memory. One upload means one reading and one revision, and the folders, by which masks pair, keep their names.

export interface Named {
  /** Path with "/", as it was dropped. */
  path: string;
  file: File;
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

async function crcOf(file: File, progress: (bytes: number) => void): Promise<number> {
  let crc = 0;
  const reader = file.stream().getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return crc;
    crc = crc32(value, crc);
    progress(value.length);
  }
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

// 1 January 1980, the first day that a zip knows: the same files make the same bytes, so a cut upload can go on.
const DAY = (1 << 5) | 1;
const UTF8 = 1 << 11;

/** What local header and directory have in common, from the version on. */
function common(record: Bytes, version: number, crc: number, size: number, name: number, extra: number): Bytes {
  return record.two(version, UTF8, 0, 0, DAY).four(crc, Math.min(size, LARGE), Math.min(size, LARGE)).two(name, extra);
}

/** The zip of `files`, in their order. `progress` is told how many bytes have been looked at. Reads each file once. */
export async function zipOf(files: readonly Named[], progress: (bytes: number) => void): Promise<Blob> {
  const parts: BlobPart[] = [];
  const directory: BlobPart[] = [];
  let offset = 0;
  let directorySize = 0;
  let seen = 0;
  for (const { path, file } of files) {
    const crc = await crcOf(file, (bytes) => progress((seen += bytes)));
    const name = new TextEncoder().encode(path);
    const { size } = file;
    const large = size >= LARGE;
    const local = common(new Bytes().four(0x04034b50), large ? 45 : 20, crc, size, name.length, large ? 20 : 0).done();
    const localExtra = large ? new Bytes().two(1, 16).eight(size, size).done() : new Uint8Array();
    parts.push(local, name, localExtra, file);

    const far = offset >= LARGE;
    const wide = [...(large ? [size, size] : []), ...(far ? [offset] : [])];
    const extra = wide.length ? new Bytes().two(1, 8 * wide.length).eight(...wide).done() : new Uint8Array();
    const entry = common(new Bytes().four(0x02014b50).two(45), 45, crc, size, name.length, extra.length)
      .two(0, 0, 0)
      .four(0, Math.min(offset, LARGE))
      .done();
    directory.push(entry, name, extra);
    directorySize += entry.length + name.length + extra.length;
    offset += local.length + name.length + localExtra.length + size;
  }
  const count = files.length;
  const end = new Bytes();
  if (count >= 0xffff || offset >= LARGE || directorySize >= LARGE) {
    end.four(0x06064b50).eight(44).two(45, 45).four(0, 0).eight(count, count, directorySize, offset);
    end.four(0x07064b50, 0).eight(offset + directorySize).four(1);
  }
  const few = Math.min(count, 0xffff);
  end.four(0x06054b50).two(0, 0, few, few).four(Math.min(directorySize, LARGE), Math.min(offset, LARGE)).two(0);
  return new Blob([...parts, ...directory, end.done()], { type: "application/zip" });
}
