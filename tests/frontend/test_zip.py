"""The zip that a browser makes while it sends it, asked for in pieces as a cut and resumed upload asks."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "webapp" / "frontend" / "upload" / "zip.ts"

# Each run sends pieces of `piece` bytes to a file. At each place in `again`, the piece was lost, so it is asked for
# twice; from the place `reload` on, a new page goes on that has not seen what went up before.
SCRIPT = """
import { readFileSync, openSync, writeSync, readdirSync, statSync } from "node:fs";
import { ZipSource } from "./zip.js";
const [, , folder, given] = process.argv;
const names = readdirSync(folder, { recursive: true }).filter((name) => statSync(`${folder}/${name}`).isFile()).sort();
const files = names.map((path) => {
  const file = new File([readFileSync(`${folder}/${path}`)], path, { lastModified: 5 });
  return { path, size: file.size, lastModified: 5, open: async () => file };
});
for (const { target, piece, again, reload } of JSON.parse(given)) {
  let looked = 0;
  const made = () => new ZipSource(files, (bytes) => (looked = bytes));
  let source = made();
  const out = openSync(target, "w");
  let reloaded = false;
  for (let start = 0; start < source.size; ) {
    if (!reloaded && start >= reload) [source, reloaded] = [made(), true];
    const end = Math.min(source.size, start + piece);
    if (again.includes(start)) await source.slice(start, end);
    const { value, done } = await source.slice(start, end);
    if (value.size !== end - start || done !== (end === source.size)) throw new Error(`${start}`);
    writeSync(out, new Uint8Array(await value.arrayBuffer()), 0, value.size, start);
    start = end;
  }
  console.log(looked);
}
"""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the module as JavaScript."""
    if not (ROOT / "node_modules" / "typescript").is_dir() or not shutil.which("node"):
        pytest.skip("The front end's packages are not installed: run `npm ci`.")
    folder = tmp_path_factory.mktemp("zip")
    options = ["--ignoreConfig", "--module", "esnext", "--target", "es2022", "--lib", "es2022,dom", "--outDir"]
    command = ["node_modules/.bin/tsc", str(SOURCE), *options, str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "send.js").write_text(SCRIPT)
    return folder


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    chance = random.Random(3)
    sizes = [0, 1, 29, 4096, 70_000, 0, *(chance.randint(0, 3000) for _ in range(60))]
    made = {f"mouse {n % 3}/μm/{n:02}.tif": os.urandom(size) for n, size in enumerate(sizes)}
    for name, content in made.items():
        path = tmp_path / "files" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return made


@dataclass(frozen=True)
class Run:
    piece: int
    again: tuple[int, ...] = ()
    reload: int = 2**50


def sent(scripts: Path, folder: Path, *runs: Run) -> list[tuple[Path, int]]:
    """Of each run the zip, and how many bytes were read once more for it."""
    targets = [folder / f"{number}.zip" for number in range(len(runs))]
    given = [{"target": str(target), **asdict(run)} for target, run in zip(targets, runs, strict=True)]
    command = ["node", str(scripts / "send.js"), str(folder / "files"), json.dumps(given)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return list(zip(targets, map(int, done.stdout.split()), strict=True))


@pytest.mark.slow
def test_the_zip_holds_the_files_whatever_pieces_it_is_asked_for_in(
    scripts: Path, files: dict[str, bytes], tmp_path: Path
) -> None:
    size = sum(len(content) for content in files.values())
    lost = tuple(range(0, size, 15_000))
    reloads = [Run(5000, reload=place) for place in (1, size // 2, size)]
    (whole, _), *others = sent(scripts, tmp_path, Run(10**9), Run(997), Run(5000, again=lost), *reloads)
    with zipfile.ZipFile(whole) as zipped:
        assert zipped.testzip() is None
        assert {name: zipped.read(name) for name in zipped.namelist()} == files
        assert zipped.namelist() == sorted(files)
    assert [other.read_bytes() == whole.read_bytes() for other, _ in others] == [True] * 5
    looked = [bytes_again for _, bytes_again in others]
    assert looked[:2] == [0, 0], "nothing is read twice, but what is sent twice"
    assert looked[2] < looked[3] < looked[4] <= size, "after a reload, what went up before"
    if shutil.which("unzip"):
        tried = subprocess.run(["unzip", "-tq", whole], capture_output=True, text=True, timeout=60)
        assert tried.returncode == 0, tried.stdout
