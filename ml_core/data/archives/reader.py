"""Detects whether an upload is a zip or a tar archive and opens it. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from ml_core.data.archives.entries import Archive
from ml_core.errors import UserError


def opened(path: Path, *, filename: str) -> Archive | None:
    """Opens the upload as an archive; None where it is none. Raises UserError where the whole archive is refused."""
    from ml_core.data.archives.tar_archive import Tar, is_tar
    from ml_core.data.archives.zip_archive import Zip, is_zip

    archive: Archive
    if is_zip(path):
        archive = Zip(path, filename=filename)
    elif is_tar(path, filename=filename):
        archive = Tar(path, filename=filename)
    else:
        return None
    if not archive.members:
        archive.close()
        raise UserError(f"There are no files in {filename}. Archive the folder of images again and add it.")
    return archive
