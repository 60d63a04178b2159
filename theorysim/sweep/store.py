"""A run on disk, chunk by chunk: Zarr data that `xr.open_zarr` reads, and one marker per completed chunk.

    <store>/<experiment id>/<fingerprint>/manifest.json      what is run, and in chunks of which shape
                                         /data.zarr          observables, dimensions (setting, seed, ...)
                                         /chunks/000007.json SHA-256 of the chunk's values, written after them

A chunk counts once its marker is there, and markers appear by renaming, so a killed run loses only the chunks in
flight. A lock keeps two processes from writing one run at the same time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import jax
import numpy as np
import zarr

from theorysim.errors import InputError

try:
    import fcntl
except ImportError:  # Windows: two processes on one store are not kept apart there
    fcntl = None


class Chunk(NamedTuple):
    """A rectangle of samples: all `seeds` of all `settings` (positions in the run), which belong to one group."""

    number: int
    group: int
    settings: tuple[int, ...]
    seeds: range

    @property
    def samples(self) -> int:
        return len(self.settings) * len(self.seeds)


class Store:
    """One run's folder, opened for writing; a context manager that holds the lock.

    Raises `InputError` when the folder cannot be written or another process writes it.
    """

    def __init__(self, root: Path | str, experiment_id: str, fingerprint: str) -> None:
        self.path = Path(root) / experiment_id / fingerprint
        self._markers = self.path / "chunks"
        try:
            self._markers.mkdir(parents=True, exist_ok=True)
            self._lock = (self.path / "lock").open("w")
            write_atomically(self.path / "probe", "")
            (self.path / "probe").unlink()
        except OSError as error:
            raise InputError(f"store must be a folder that can be written, got {root}: {error.strerror}") from None
        try:
            if fcntl is not None:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise InputError(f"store {self.path} is in use by another run: wait for it or name another store") from None
        except OSError:  # a file system without locks
            pass

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._lock.close()

    def manifest(self) -> dict[str, Any] | None:
        """What an earlier run wrote down, None for a new folder."""
        path = self.path / "manifest.json"
        if not path.exists():
            return None
        with _named(path, "delete this folder to start afresh"):
            return json.loads(path.read_text())

    def create(
        self,
        manifest: Mapping[str, Any],
        shapes: Mapping[str, jax.ShapeDtypeStruct],
        coordinates: Mapping[str, Sequence[Any]],
        rectangles: Sequence[tuple[int, int]],
    ) -> None:
        """Lay out the arrays, then write the manifest. Zarr chunks are such that rectangles consist of whole ones."""
        # Rectangles are either as wide as the run or a power of two, so the narrowest divides the others.
        tile = min(seeds for _, seeds in rectangles)
        group = zarr.create_group(self.path / "data.zarr", overwrite=True, zarr_format=3)
        lengths = tuple(len(values) for values in coordinates.values())
        for name, values in coordinates.items():
            kind = str if isinstance(values[0], str) else np.int64
            array = group.create_array(name, shape=(len(values),), dtype=kind, dimension_names=(name,))
            array[:] = np.asarray(values)
        for name, sample in shapes.items():
            group.create_array(
                name,
                shape=(*lengths, *sample.shape),
                chunks=(1, tile, *(max(length, 1) for length in sample.shape)),
                dtype=sample.dtype,
                dimension_names=(*coordinates, *dimensions(name, sample)),
                # A chunk that equals the fill value is written all the same: its bytes are part of the record.
                config={"write_empty_chunks": True},
            )
        write_atomically(self.path / "manifest.json", json.dumps(manifest, indent=1))

    def arrays(self) -> dict[str, Any]:
        """The Zarr arrays by name."""
        with zarr.config.set({"array.write_empty_chunks": True}):
            return dict(zarr.open_group(self.path / "data.zarr", mode="r+").arrays())

    def finish(self, attributes: Mapping[str, Any]) -> None:
        """Record provenance beside the completed data."""
        zarr.open_group(self.path / "data.zarr", mode="r+").attrs.update(attributes)

    def marker(self, chunk: Chunk) -> Path:
        """The file whose presence says that `chunk` is complete."""
        return self._markers / f"{chunk.number:06d}.json"

    def write(self, chunk: Chunk, values: Mapping[str, np.ndarray], arrays: Mapping[str, Any], notes: Any) -> None:
        """Store a chunk: `values` by name, shape (settings, seeds, ...), then its marker."""
        for name, value in values.items():
            for row, index in enumerate(chunk.settings):
                arrays[name][index, chunk.seeds.start : chunk.seeds.stop] = value[row]
        checksums = {name: _checksum(value) for name, value in values.items()}
        write_atomically(self.marker(chunk), json.dumps({"sha256": checksums, **notes}))

    def read(self, chunk: Chunk, arrays: Mapping[str, Any], names: Sequence[str]) -> dict[str, np.ndarray] | None:
        """A stored chunk, checked; None if it is not complete. Raises `InputError` if it is corrupt."""
        marker = self.marker(chunk)
        if not marker.exists():
            return None
        with _named(marker, "delete this file and run again to compute the chunk anew"):
            checksums = json.loads(marker.read_text())["sha256"]
            seeds = slice(chunk.seeds.start, chunk.seeds.stop)
            values = {name: np.stack([arrays[name][index, seeds] for index in chunk.settings]) for name in names}
            for name, value in values.items():
                if checksums[name] != _checksum(value):
                    raise ValueError(f"values of {name!r} do not match their checksum")
        return values


def dimensions(name: str, sample: jax.ShapeDtypeStruct) -> tuple[str, ...]:
    """Names of an observable's own axes: `risk_0`, `risk_1`, ..."""
    return tuple(f"{name}_{axis}" for axis in range(len(sample.shape)))


def write_atomically(path: Path, text: str) -> None:
    """Write a file that is either complete or absent, also after a crash."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _checksum(value: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()


@contextlib.contextmanager
def _named(path: Path, remedy: str) -> Any:
    """Whatever fails while decoding stored data becomes one line that names the file and the remedy."""
    try:
        yield
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"stored chunk {path} is corrupt ({reason}): {remedy}") from error
