"""Options that several commands share, each checked before anything is computed."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from theorysim.cache import writable
from theorysim.cli.process import Rejected, set_up
from theorysim.errors import InputError, require

if TYPE_CHECKING:
    from theorysim.sweep.progress import Progress
    from theorysim.verify.session import Session

SEEDS = 2**63


def _option(metavar: str, read: Any, write: Any = str) -> Any:
    """A tyro constructor of one word, whose complaints stay one line."""
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda words: read(words[0]),
        is_instance=lambda value: True,
        str_from_instance=lambda value: [write(value)],
    )


def number(name: str, kind: type[int] | type[float]) -> Any:
    """A tyro constructor of the option `name`, one number."""

    def read(text: str) -> float:
        try:
            return kind(text)
        except ValueError:
            raise Rejected(f"{name} must be {'an integer' if kind is int else 'a number'}, got {text!r}") from None

    return _option(kind.__name__.upper(), read)


def _seed(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not 0 <= value < SEEDS:
        raise Rejected(f"--seed must be an integer from 0 to 2^63 - 1, got {text!r}")
    return value


def path_option(name: str) -> Any:
    """A tyro constructor of the option `name`, a path."""

    def read(text: str) -> Path:
        if not text or "\0" in text:
            raise Rejected(f"{name} must be a path, got {text!r}")
        return Path(text)

    return _option("DIR" if name in ("--store", "--out") else "PATH", read)


Seed = Annotated[int, _option("INT", _seed)]
Store = Annotated[Path | None, path_option("--store")]
Out = Annotated[Path, path_option("--out")]
Json = Annotated[Path | None, path_option("--json")]
Memory = Annotated[str | None, _option("GB", str)]
Data = Annotated[str | None, _option("digits|digits:A,B|PATH.npz", str)]


@dataclass(frozen=True, kw_only=True)
class Run:
    """Options of every command that computes."""

    preset: Literal["quick", "standard", "paper"] = "quick"
    """Sizes and seeds: quick takes seconds to minutes on two cores, paper the sizes of the paper."""

    seed: Seed = 0
    """Base seed of all random numbers, from 0 to 2^63 - 1."""

    store: Store = None
    """Folder that keeps every finished chunk, so that an interrupted run resumes. Default: keep nothing."""

    memory: Memory = None
    """Memory for the sweep: GB, or with a unit as in 512MiB. Default: a safe share of the machine's."""

    def check(self) -> None:
        """What can be checked before anything is computed. Raises InputError for an unusable store or memory."""
        if self.store is not None:
            check_folder("--store", self.store)
        self._memory()

    def session(self, progress: Progress | None = None) -> Session:
        """The session of these options, in a process set up for it. Raises InputError for memory that is not there."""
        set_up()
        from theorysim.verify.session import Session

        return Session(preset=self.preset, seed=self.seed, store=self.store, memory=self._memory(), progress=progress)

    def _memory(self) -> float | None:
        """Bytes. Raises InputError unless the machine (its accelerator, where there is one) has as much."""
        if self.memory is None:
            return None
        import jax

        from theorysim.sweep.memory import format_memory, host_memory, parse_memory

        amount = parse_memory(self.memory)
        device = jax.devices()[0]
        total = host_memory() if device.platform == "cpu" else (device.memory_stats() or {}).get("bytes_limit", amount)
        allowed = f"memory must be at most the {format_memory(total)} of this machine"
        require(amount <= total, f"{allowed}, got {self.memory!r}")
        return amount


@dataclass(frozen=True, kw_only=True)
class Judging(Run):
    """Options of every command that judges."""

    adaptive: bool = False
    """Look at the data while they come in, from an eighth to twice the design's seeds, and stop at the first verdict."""

    def session(self, progress: Progress | None = None) -> Session:
        """As for every command."""
        return replace(super().session(progress), adaptive=self.adaptive)


def check_folder(name: str, folder: Path) -> None:
    """Raise InputError unless files can be written in `folder`, which is created if need be."""
    try:
        writable(folder)
    except OSError as error:
        raise InputError(
            f"{name} must be a folder that can be written, got {str(folder)!r}: {error.strerror}"
        ) from None


def check_file(name: str, path: Path) -> None:
    """Raise InputError unless the file `path` can be written; it is left as it is."""
    complaint = f"{name} must be a file that can be written, got {str(path)!r}"
    require(not path.is_dir(), f"{complaint}: it is a folder")
    require(path.parent.is_dir(), f"{complaint}: there is no folder {str(path.parent)!r}")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise InputError(f"{complaint}: {error.strerror}") from None
    require(not path.exists() or os.access(path, os.W_OK), f"{complaint}: permission denied")
