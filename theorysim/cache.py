"""The folder where compiled programs are kept between runs."""

from __future__ import annotations

import os
from pathlib import Path

CACHE = "THEORYSIM_CACHE"


def cache_folder(part: str) -> Path:
    """The folder of this name in $THEORYSIM_CACHE, else in theorysim in $XDG_CACHE_HOME or ~/.cache; created if need be.

    Raises OSError where it cannot be written, RuntimeError where there is no home folder.
    """
    folder = Path(os.environ.get(CACHE) or _user_cache() / "theorysim") / part
    writable(folder)
    return folder


def _user_cache() -> Path:
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"])
    if os.environ.get("HOME") == "":  # which pathlib takes for the root folder
        raise RuntimeError
    return Path.home() / ".cache"


def writable(folder: Path) -> None:
    """Create `folder` if need be and write a file in it. Raises OSError where that fails."""
    folder.mkdir(parents=True, exist_ok=True)
    probe = folder / f".theorysim-{os.getpid()}"
    probe.touch()
    probe.unlink()
