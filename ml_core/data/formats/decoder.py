"""Decodes uploaded files in a child process with limits on memory and time.

A file that makes a decoder crash, loop or exhaust memory ends the child process, not the job: it is refused by name
and the next file gets a new child. Imports no torch.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import resource
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ml_core.data.formats import readers
from ml_core.data.formats.image_file import Refused
from ml_core.imaging import mask_values
from ml_core.imaging.inverted_contrast import contrast_features
from ml_core.imaging.mask_values import only_value
from ml_core.imaging.perceptual_hash import difference_hash
from ml_core.imaging.windowing import coarse, is_constant, lightness, windowed

MEMORY = 2 * 2**30
SECONDS = 60.0
"""Limit for one page: decoding the largest takes a fifth of it."""
LARGE = 2**26
"""From this number of values in a page its thumbnail is made from block means, to avoid a second full-size copy."""


class Decoder:
    """A child process that inspects one file after another. Not thread-safe."""

    def __init__(self, *, seconds: float = SECONDS) -> None:
        self._seconds = seconds
        self._child: subprocess.Popen[bytes] | None = None
        self._unread = b""

    def close(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            for stream in (self._child.stdin, self._child.stdout):
                if stream is not None:
                    stream.close()
            self._child = None
        self._unread = b""

    def inspect_file(
        self,
        path: Path,
        *,
        name: str,
        mask: bool,
        thumbnails: Path,
        size: int,
        marked: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[dict[str, Any]]:
        """Runs `inspect_file` in the child: its result for each page. Raises Refused, also where the child died.

        `progress` is called as (done, total) after each page and may raise.
        """
        child = self._started()
        assert child.stdin is not None
        question: dict[str, Any] = {
            "path": str(path),
            "name": name,
            "mask": mask,
            "thumbnails": str(thumbnails),
            "size": size,
            "marked": marked,
        }
        with contextlib.suppress(BrokenPipeError):  # Reading the answer reports what happened to the child.
            child.stdin.write(json.dumps(question).encode() + b"\n")
            child.stdin.flush()
        pages: list[dict[str, Any]] = []
        while True:
            answer = self._answer(child)
            if "page" in answer:
                pages.append(answer["page"])
                if progress is not None:
                    self._report(progress, len(pages), answer["page"]["pages"])
            elif "refused" in answer:
                raise Refused(*answer["refused"])
            else:
                return pages

    def _report(self, progress: Callable[[int, int], None], done: int, total: int) -> None:
        try:
            progress(done, total)
        except BaseException:
            self.close()  # its remaining answers would be read as those to the next request
            raise

    def _started(self) -> subprocess.Popen[bytes]:
        if self._child is None or self._child.poll() is not None:
            self.close()
            # One thread each: the files are many, and thread pools count towards the limit of memory.
            environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
            self._child = subprocess.Popen(
                [sys.executable, "-m", "ml_core.data.formats.decoder"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                cwd=Path(__file__).resolve().parents[3],
            )
        return self._child

    def _answer(self, child: subprocess.Popen[bytes]) -> dict[str, Any]:
        assert child.stdout is not None
        while b"\n" not in self._unread:  # Own buffer: select does not see what a stream object has read ahead.
            ready, _, _ = select.select([child.stdout], [], [], self._seconds)
            if not ready:
                self.close()
                raise Refused(
                    f"Reading it took longer than {self._seconds:.0f} s.", "Save it uncompressed, or in parts."
                )
            chunk = os.read(child.stdout.fileno(), 1 << 16)
            if not chunk:
                self.close()
                raise Refused("The file made its decoder crash.", "Open it in Fiji, save it as TIFF and add that.")
            self._unread += chunk
        line, _, self._unread = self._unread.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer


def inspect_file(
    path: Path, *, name: str, mask: bool, thumbnails: Path, size: int, marked: int | None = None
) -> Iterator[dict[str, Any]]:
    """Reads a whole file and yields, per page, the facts that the dataset stores. Raises Refused.

    Of a mask: `width`, `height` and `values` (pixels per class value). Of an image: also `dtype`, the window `low`
    and `high`, `pixel_size_nm`, whether it is `constant` or in `colour`, the bits of its `likeness`, its `tone`, and
    `thumbnail`, the SHA-256 of a WebP picture that was put into the folder `thumbnails`, its shorter side `size` px.

    With `marked`, every other value of a mask is background: where it holds others, or is in colour, the file is
    replaced by an 8-bit PNG that contains only that value. A stack is not rewritten; `only` is the value that counts.
    """
    if mask and marked is not None:
        _clean(path, name=name, marked=marked)
    with readers.opened(path, name=name) as file:
        header = file.header
        low, high = (0.0, 255.0) if mask else file.window()
        colour = False
        for page in range(header.pages):
            facts: dict[str, Any] = {
                "page": page,
                "pages": header.pages,
                "width": header.width,
                "height": header.height,
            }
            if mask:
                drawn = file.mask(page)
                if marked is not None and header.pages > 1:
                    yield facts | {"values": _values(only_value(drawn, marked)), "only": marked}
                else:
                    yield facts | {"values": _values(drawn)}
                continue
            pixels = file.pixels(page)
            coloured = None
            if pixels.ndim == 3:
                if page == 0:
                    colour = header.colour and readers.differs(pixels)
                if colour:
                    coloured = _small(_bytes(pixels[..., :3], low=low, high=high, size=size), size=size)
                pixels = lightness(pixels)
            small = _small(_bytes(pixels, low=low, high=high, size=size), size=size)
            yield facts | {
                "dtype": header.dtype,
                "low": low,
                "high": high,
                "pixel_size_nm": header.pixel_size_nm,
                "constant": is_constant(pixels),
                "colour": colour,
                "notes": list(header.notes),
                "likeness": difference_hash(np.asarray(small)),
                "tone": contrast_features(np.asarray(small)),
                "thumbnail": _thumbnail(coloured or small, folder=thumbnails),
            }


def _clean(path: Path, *, name: str, marked: int) -> None:
    with readers.opened(path, name=name) as file:
        if file.header.pages > 1:
            return
        mask = file.mask()
        plain = file.header.channels == 1 and not file.header.colour
    if plain and not set(_values(mask)) - {"0", str(marked)}:
        return
    Image.fromarray(only_value(mask, marked)).save(path, "PNG")


def _values(mask: NDArray[np.uint8]) -> dict[str, int]:
    values = mask_values.value_counts(mask)
    if len(values) > 64:
        raise Refused(
            f"The mask holds {len(values)} different values: that is a picture, not a mask.",
            "Export it as an 8-bit label image, one number per class, without smoothing.",
        )
    return values


def _bytes(pixels: NDArray[np.generic], *, low: float, high: float, size: int) -> NDArray[np.uint8]:
    """The uint8 pixels, low..high scaled to 0..255, from which a thumbnail of `size` px is made."""
    return windowed(coarse(pixels, least=4 * size) if pixels.size > LARGE else pixels, low=low, high=high)


def _small(pixels: NDArray[np.uint8], *, size: int) -> Image.Image:
    height, width = pixels.shape[:2]
    scale = min(1.0, size / min(height, width), 2 * size / max(height, width))
    return Image.fromarray(pixels).resize(
        (max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BOX, reducing_gap=2.0
    )


def _thumbnail(small: Image.Image, *, folder: Path) -> str:
    buffer = io.BytesIO()
    small.save(buffer, "WEBP", quality=82, method=2)
    digest = sha256(buffer.getvalue()).hexdigest()
    (folder / digest).write_bytes(buffer.getvalue())
    return digest


def _serve(questions: IO[bytes], answers: IO[bytes]) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for line in questions:
        question = json.loads(line)
        try:
            for page in inspect_file(
                Path(question["path"]),
                name=question["name"],
                mask=question["mask"],
                thumbnails=Path(question["thumbnails"]),
                size=question["size"],
                marked=question.get("marked"),
            ):
                _send(answers, {"page": page})
            _send(answers, {"end": True})
        except Refused as refused:
            _send(answers, {"refused": [refused.reason, refused.remedy]})
        except MemoryError:
            _send(answers, {"refused": ["The file needs too much memory to decode.", "Cut it into tiles."]})


def _send(answers: IO[bytes], what: dict[str, Any]) -> None:
    answers.write(json.dumps(what).encode() + b"\n")
    answers.flush()


if __name__ == "__main__":
    # Libraries print warnings, tifffile thousands for a broken file: they must not be mixed with the answers.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _serve(sys.stdin.buffer, out)
