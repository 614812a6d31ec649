"""Writing a file as bare clients have to, with the standard library alone: quickly, or so that it lasts."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def write(path: Path, clip: bytes) -> None:
    """Write a file."""
    path.write_bytes(clip)


def write_durably(path: Path, clip: bytes) -> None:
    """Write a file, digest it, and make it last under its name."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        file.write(clip)
        hashlib.sha256(clip).hexdigest()
        os.fsync(file.fileno())
    part.rename(path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
