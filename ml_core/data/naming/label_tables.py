"""Reads tables with the labels of images: `labels.csv`, and the metadata of CEM500K. Imports no torch.

A table is a CSV or TSV file with a column of file names and at least one of those below. Columns are recognised by
their headings in any spelling: `File name`, `file_name` and `filename` are the same.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import IO, Any

from ml_core.data.formats.image_file import Refused, credible
from ml_core.data.naming.pairing import split_of

SUFFIXES = frozenset({".csv", ".tsv"})
MAX_BYTES = 512 * 2**20
_LONGEST = 2**16

_COLUMNS = {
    "name": ("filename", "file", "name", "imagename", "image", "imagefile", "path", "filepath", "patch", "img"),
    "label": ("label", "class", "classname", "category"),
    "split": ("split", "subset", "partition", "set"),
    "group": ("group", "stack", "volume", "animal", "series"),
    "pixel_size_nm": ("pixelsizenm", "pixelsize", "nmperpixel", "pixelspacingnm", "pixelspacing"),
    "organism": ("organism", "species"),
    "source": ("source", "dataset", "datasetname", "experiment", "study", "accession"),
    "technique": ("imagingtechnique", "technique", "modality"),
    "tissue": ("tissue", "tissuetype", "tissueorigin"),
}
"""Column -> the headings by which it is recognised, the most specific first."""
_FACTS = ("organism", "source", "technique", "tissue")


@dataclass(frozen=True, slots=True)
class Entry:
    """A table's row about the images that match `name`: a path, a file's own name, or the prefix of many names."""

    name: str
    label: str = ""
    split: str = ""
    group: str = ""
    pixel_size_nm: float | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    """`organism`, `source`, `technique`, `tissue`, where known."""

    def as_json(self) -> dict[str, Any]:
        said = {key: getattr(self, key) for key in ("name", "label", "split", "group", "pixel_size_nm", "facts")}
        return {key: value for key, value in said.items() if value}


def read(stream: IO[bytes]) -> Iterator[Entry] | None:
    """The entries of a table; None where it is a table of something else. Raises Refused where it is no table.

    Where there is no label column, the organism is the label, as in CEM500K's metadata.
    """
    lines = _lines(io.TextIOWrapper(stream, encoding="utf-8-sig", errors="replace", newline=""))
    heading = next(lines, "")
    delimiter = max(",;\t|", key=heading.count)
    columns = _columns(next(csv.reader([heading], delimiter=delimiter), []))
    if "name" not in columns or len(columns) < 2:
        return None
    if "label" not in columns and "organism" in columns:
        columns["label"] = columns["organism"]
    return _entries(csv.reader(lines, delimiter=delimiter), columns)


class LabelLookup:
    """Finds an image's entry: by its path, else by its own name with or without suffix where only one entry has it,
    else by the longest entry that its name begins with (`EMPIAR-10311` matches `EMPIAR-10311_0001.tiff`)."""

    def __init__(self, entries: Iterable[Entry], *, folder: str = "") -> None:
        self.entries = list(entries)
        self._folder = folder
        self._paths: dict[str, int] = {}
        self._own: dict[str, int | None] = {}
        self._used: set[int] = set()
        for place, entry in enumerate(self.entries):
            path = PurePosixPath(entry.name.replace("\\", "/"))
            self._paths.setdefault(str(path), place)
            for own in {path.name, _stem(path)}:
                self._own[own] = place if own not in self._own else None

    def find(self, name: str) -> Entry | None:
        place = self._place(name)
        if place is None:
            return None
        self._used.add(place)
        return self.entries[place]

    @property
    def unused(self) -> list[str]:
        """The names of entries that match no image."""
        return [entry.name for place, entry in enumerate(self.entries) if place not in self._used]

    def _place(self, name: str) -> int | None:
        path = PurePosixPath(name)
        for known in (name, name.removeprefix(f"{self._folder}/") if self._folder else name):
            if known in self._paths:
                return self._paths[known]
        for own in (path.name, _stem(path)):
            if (place := self._own.get(own)) is not None:
                return place
        stem = _stem(path)
        for match in reversed(list(re.finditer(r"[-_. ]", stem))):
            if (place := self._own.get(stem[: match.start()])) is not None:
                return place
        return None


def _entries(rows: Iterator[list[str]], columns: Mapping[str, int]) -> Iterator[Entry]:
    try:
        for row in rows:
            said = {key: row[at].strip()[:400] for key, at in columns.items() if at < len(row)}
            if said.get("name"):
                yield Entry(
                    said["name"],
                    label=_printable(said.get("label", ""))[:200],
                    split=split_of(said.get("split", "")),
                    group=_printable(said.get("group", "")),
                    pixel_size_nm=_number(said.get("pixel_size_nm", "")),
                    facts={key: _printable(said[key]) for key in _FACTS if said.get(key)},
                )
    except csv.Error as error:
        raise Refused(f"The table cannot be read ({error}).", "Save it as CSV and add it again.") from error


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    while line := text.readline(_LONGEST):
        if len(line) == _LONGEST or "\0" in line:
            raise Refused("This is no table: its lines are endless, or not text.", "Save it as CSV and add it again.")
        yield line


def _columns(headings: list[str]) -> dict[str, int]:
    """Column -> its index, by the headings."""
    plain = [re.sub(r"[^a-z0-9]", "", heading.lower()) for heading in headings]
    found = {}
    for key, names in _COLUMNS.items():
        places = [plain.index(name) for name in names if name in plain]
        if places:
            found[key] = places[0]
    return found


def _number(text: str) -> float | None:
    try:
        return credible(float(text))
    except ValueError:
        return None


def _printable(text: str) -> str:
    return "".join(c for c in text if c.isprintable())


def _stem(path: PurePosixPath) -> str:
    return path.name.removesuffix(path.suffix) if re.fullmatch(r"\.[A-Za-z]\w{0,4}", path.suffix) else path.name
