"""The specification of an intake. Imports no torch."""

from __future__ import annotations

from typing import ClassVar, Literal

from ml_core.specs.fields import InputSlot, Spec


class IntakeSpec(Spec):
    """Reads one upload into items: decodes, checks, hashes, makes thumbnails. Housekeeping, not an experiment."""

    title: ClassVar[str] = "Intake"
    verb: ClassVar[str] = "Reading"
    inputs: ClassVar = (InputSlot("upload", "Upload", "upload"),)
    needs_torch: ClassVar[bool] = False

    kind: Literal["intake"] = "intake"
    filename: str
    thumbnail_size: int = 160
