"""Colours that colorize jobs gave to the images of a dataset: which jobs, and one image's planes out of very many."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from django.conf import settings
from django.core.files.storage import default_storage
from numpy.typing import NDArray

from ml_core.data.manifests import manifest as manifests
from webapp.datasets.models import Dataset, Item
from webapp.jobs.models import Artifact
from webapp.projects.access import visible
from webapp.projects.models import User

RUNS = 50
"""So many are offered, the newest first."""
_MOST_HEADER = 2**20


def colours_of(dataset: Dataset, *, user: User) -> list[Artifact]:
    """What jobs of the dataset's project made of any of its revisions, the newest first."""
    found = visible(Artifact.objects.select_related("job"), user, project="job__project").filter(
        job__project=dataset.project_id,
        kind="colour",
        facts__manifest__in=list(dataset.revisions.values_list("manifest", flat=True)),
    )
    return list(found.order_by("-id")[:RUNS])


def places_in(artifact: Artifact, items: Iterable[Item]) -> list[int | None]:
    """Which plane is that of each item, by the item's very pixels; None where the job has not seen them.

    Raises FileNotFoundError where the list of what the job saw is missing from the storage.
    """
    keys, places = _index(str(artifact.facts.get("manifest", "")))
    wanted = np.array([_key(item.image, item.page) for item in items], np.uint64)
    at = np.searchsorted(keys, wanted)
    return [
        int(places[n]) if n < len(keys) and keys[n] == key else None for n, key in zip(at.tolist(), wanted, strict=True)
    ]


def planes_of(artifact: Artifact, item: Item) -> NDArray[np.uint8] | None:
    """ab + 128 of an item, (2, h, w); None where the job has not seen it. Raises FileNotFoundError."""
    [place] = places_in(artifact, [item])
    return None if place is None else np.array(_planes(Path(default_storage.path(artifact.sha256)))[place])


def _planes(path: Path) -> NDArray[np.uint8]:
    """All planes (N, 2, h, w) of a file of safetensors, mapped: half a million take gigabytes, and one is wanted."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _MOST_HEADER:
            raise ValueError(f"{path} is not a file of colour planes")
        header = json.loads(file.read(length))["ab"]
    if header["dtype"] != "U8" or len(header["shape"]) != 4:
        raise ValueError(f"{path} holds {header['dtype']} of shape {header['shape']}, and no colours")
    start = 8 + length + header["data_offsets"][0]
    return np.memmap(path, np.uint8, mode="r", offset=start, shape=tuple(header["shape"]))


def _index(manifest: str) -> tuple[NDArray[np.uint64], NDArray[np.uint32]]:
    """Keys of a manifest's images in order, and the index of each. Made once and kept beside the blobs."""
    path = Path(settings.DATA) / "colours" / f"{manifest}.npy"
    if not path.exists():
        _make_index(manifest, path)
    rows = np.load(path, mmap_mode="r", allow_pickle=False)
    return rows["key"], rows["place"]


def _make_index(manifest: str, path: Path) -> None:
    items = manifests.stream(Path(default_storage.path(manifest)))
    keys = np.fromiter((_key(item.image.sha256, item.image.page) for item in items), np.uint64)
    rows = np.empty(len(keys), np.dtype([("key", np.uint64), ("place", np.uint32)]))
    # Of an image that is there twice, either has its colours.
    order = np.argsort(keys, kind="stable")
    rows["key"], rows["place"] = keys[order], order
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        np.save(file, rows)
    os.replace(file.name, path)  # Two that make it at once make the same.


def _key(sha256: str, page: int) -> int:
    """64 bits of an image's hash with its page: among half a million, two are alike once in a hundred million times."""
    return (int(sha256[:16], 16) + page * 0x9E3779B97F4A7C15) % 2**64
