"""`theorysim new`: a starting file for a theorem of one's own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from tyro.conf import Positional

from theorysim.errors import InputError, require

NAME = "my-theorem"
"""The slug in the starting file, which is a module of this library so that it is checked like one."""


@dataclass(frozen=True, kw_only=True)
class New:
    """Write a commented file with two claims and a figure, which runs, to start a theorem of one's own from."""

    file: Positional[Path]
    """The file to write, FILE.py. An existing file is never overwritten."""

    def __call__(self) -> int:
        name = str(self.file)
        usable = self.file.suffix == ".py" and re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", self.file.stem) is not None
        require(usable, f"file must be named FILE.py, of letters, digits, _ and -, got {name!r}")
        slug = self.file.stem.lower().replace("_", "-")
        text = files("theorysim.cli").joinpath("starting_file.py").read_text(encoding="utf-8")
        try:
            with self.file.open("x", encoding="utf-8") as stream:
                stream.write(text.replace(NAME, slug).replace("FILE.py", self.file.name))
        except FileExistsError:
            raise InputError(f"file must not exist yet, got {name!r}") from None
        except OSError as error:
            raise InputError(f"file must be one that can be written, got {name!r}: {error.strerror}") from None
        print(f"{name}: now theorysim verify {name}")
        return 0
