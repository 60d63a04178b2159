"""Runs an experiment over settings and seeds: one compiled program per shape, as many samples under one vmap as fit.

Settings of one tree structure and leaf shapes form a group and share a program. The samples of a group are cut into
rectangles (settings x seeds); a rectangle is one task for a `concurrent.futures.Executor` and one chunk of the store.
"""

from __future__ import annotations

import contextlib
import datetime
import platform
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, ThreadPoolExecutor, as_completed
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr

import theorysim
from theorysim.errors import InputError, require
from theorysim.sweep.experiment import Experiment, Setting
from theorysim.sweep.memory import default_budget
from theorysim.sweep.plan import Plan, cores
from theorysim.sweep.program import Result, compute_chunk
from theorysim.sweep.progress import Progress
from theorysim.sweep.store import Chunk, Store, dimensions


class SweepError(RuntimeError):
    """A run that stopped for a reason outside its input: a lost worker, a full disk. One line; run again to resume."""


def run(
    experiment: Experiment,
    settings: Sequence[Setting],
    seeds: int,
    *,
    seed: int = 0,
    first: int = 0,
    tile: int | None = None,
    brief: bool = False,
    store: Path | str | None = None,
    memory: float | None = None,
    progress: Progress | None = None,
    executor: Executor | None = None,
    workers: int | None = None,
) -> xr.Dataset:
    """Measure every setting with `seeds` independent seeds.

    Args:
        experiment: what is measured.
        settings: distinct settings; all must yield observables of the same names, shapes and dtypes.
        seeds: independent samples per setting.
        seed: base seed, from which all keys are derived (with the experiment's id, the setting and the seed index).
        first: index of the first seed; a run that continues another starts where that one ended.
        tile: seeds of a chunk, a power of two, by default as many as fit: runs over other seeds then share a program.
        brief: compile with less effort, for runs that take less time than compilation; results differ by rounding.
        store: folder in which completed chunks are kept; an interrupted run resumes from it.
        memory: bytes that the chunks in flight may occupy together, by default a share of the machine's total.
        progress: a bar shared with other runs; by default an own one.
        executor: where chunks are computed, by default threads of this process. Other processes need a measure that
            can be pickled.
        workers: chunks computed at the same time; the memory budget is divided among them. By default the
            executor's own number where it has one, or one per core (one on an accelerator).

    Returns:
        Dataset with the dimensions (setting, seed, then `name_0`, `name_1`, ... of each observable), the canonical text
        of each setting and the seed index as coordinates, and provenance attributes. With one chunk size, which is a
        function of settings, seeds, memory and workers, results are the same bit for bit; with another they differ by
        rounding.

    Raises:
        InputError: bad arguments, a sample beyond the memory budget, a store that is unwritable, corrupt or in use.
        SweepError: a chunk failed (lost worker, full disk, device out of memory). Completed chunks remain in the store.
    """
    started, clock = datetime.datetime.now(datetime.UTC), time.perf_counter()
    plan = Plan(experiment, tuple(settings), seeds, seed, first, tile, brief)
    texts = plan.texts
    require(len(texts) > 0, f"settings of {experiment.id} must not be empty, got ()")
    repeated = next((text for text, count in Counter(texts).items() if count > 1), None)
    require(repeated is None, f"settings of {experiment.id} must differ, got {repeated} twice")
    for name, value, least in (
        ("seeds", seeds, 1),
        ("seed", seed, 0),
        ("first", first, 0),
        ("tile", 1 if tile is None else tile, 1),
        ("workers", 1 if workers is None else workers, 1),
    ):
        valid = isinstance(value, int) and value >= least
        require(valid, f"{name} must be an integer >= {least}, got {value}")
    require(tile is None or tile & (tile - 1) == 0, f"tile must be a power of two, got {tile}")
    require(memory is None or memory > 0, f"memory must be a positive number of bytes, got {memory}")

    device = jax.local_devices()[0]
    budget = default_budget(device) if memory is None else float(memory)
    if workers is None and executor is not None:  # a pool's own number; workers on other machines have a budget each
        workers = getattr(executor, "_max_workers", 1)
    width = workers or (cores() if device.platform == "cpu" else 1)
    share = budget / width
    # Threads of our own are reduced in number for a large sample; another executor's workers have a share each.
    most = budget if executor is None else share
    shapes = plan.groups[0].outputs
    attributes = {
        "experiment": experiment.id,
        "parameters": texts,
        "seeds": seeds,
        "seed": seed,
        "first": first,
        "x64": int(experiment.x64),
        "platform": device.platform,
        "device": device.device_kind,
        "devices": jax.local_device_count(),
        "theorysim": theorysim.__version__,
        "jax": jax.__version__,
        "jaxlib": version("jaxlib"),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "start": started.isoformat(timespec="seconds"),
    }

    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(Progress()) if progress is None else progress
        bar.begin(experiment.id, len(texts) * seeds)
        disk: Store | None = None
        manifest: dict[str, Any] | None = None
        if store is not None:
            fingerprint = attributes["fingerprint"] = plan.fingerprint(jax.__version__, device.platform)
            disk = stack.enter_context(Store(store, experiment.id, fingerprint))
            manifest = disk.manifest()

        # What is stored fixes the shape of the chunks, so that a resumed run computes what the first one would have.
        stored = [tuple(rectangle) for rectangle in manifest["rectangles"]] if manifest else None
        fits = [] if stored else plan.fit_all(share, most, None, range(len(plan.groups)))
        rectangles = stored or [fit.rectangle for fit in fits]
        chunks = plan.cut(rectangles)
        attributes["chunks"] = [f"{rows} settings x {columns} seeds" for rows, columns in rectangles]

        data = {name: np.empty((len(texts), seeds, *s.shape), s.dtype) for name, s in shapes.items()}
        arrays: dict[str, Any] = {}
        missing = chunks
        if disk is not None:
            with _disk_errors(disk, experiment.id, 0, len(chunks)):
                if manifest is None:
                    manifest = {**attributes, "rectangles": rectangles}
                    disk.create(manifest, shapes, {"setting": texts, "seed": range(first, first + seeds)}, rectangles)
                arrays = disk.arrays()
            missing = []
            for chunk in chunks:
                values = disk.read(chunk, arrays, tuple(shapes))
                if values is None:
                    missing.append(chunk)
                else:
                    _place(data, chunk, values)
                    bar.advance(chunk.samples)
        if stored and missing:
            fits = plan.fit_all(share, most, stored, sorted({chunk.group for chunk in missing}))
        for fit in fits:
            width = max(1, min(width, int(budget // max(fit.need, 1))))
        if executor is None and missing:
            executor = stack.enter_context(ThreadPoolExecutor(min(width, len(missing)), "sweep"))

        done = len(chunks) - len(missing)
        futures: dict[Future[Result], Chunk] = {}
        failure: Exception | None = None
        try:
            for chunk in missing:
                task = plan.task(chunk, rectangles[chunk.group])
                try:
                    futures[executor.submit(compute_chunk, task)] = chunk  # type: ignore[union-attr]
                except BrokenExecutor as error:
                    failure = error
                    break
            for future in as_completed(list(futures)):
                chunk = futures[future]
                try:
                    result = future.result()
                except CancelledError:
                    continue
                except Exception as error:
                    # Chunks that other workers have finished, or are about to finish, are still kept.
                    failure = failure or error
                    _cancel(futures)
                    continue
                extent = (len(chunk.settings), len(chunk.seeds))
                values = {n: v[: chunk.samples].reshape(*extent, *v.shape[1:]) for n, v in result.values.items()}
                if disk is not None:
                    with _disk_errors(disk, experiment.id, done, len(chunks)):
                        disk.write(chunk, values, arrays, {"seconds": result.seconds, "device": result.device})
                _place(data, chunk, values)
                bar.advance(chunk.samples)
                done += 1
        finally:
            _cancel(futures)
        if failure is not None:
            if isinstance(failure, InputError):
                raise failure
            kept = _kept(disk, done, len(chunks))
            raise SweepError(f"{experiment.id}: a worker failed ({_line(failure)}); {kept}") from failure
        attributes["duration"] = round(time.perf_counter() - clock, 3)
        if disk is not None:
            with _disk_errors(disk, experiment.id, done, len(chunks)):
                disk.finish(attributes)

    variables = {name: (("setting", "seed", *dimensions(name, shapes[name])), data[name]) for name in shapes}
    return xr.Dataset(variables, {"setting": texts, "seed": np.arange(first, first + seeds)}, attributes)


def _place(data: Mapping[str, np.ndarray], chunk: Chunk, values: Mapping[str, np.ndarray]) -> None:
    for name, value in values.items():
        data[name][list(chunk.settings), chunk.seeds.start : chunk.seeds.stop] = value


def _cancel(futures: Iterable[Future[Any]]) -> None:
    for future in futures:
        future.cancel()


def _line(error: BaseException) -> str:
    """An exception as one line."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= 300 else text[:297] + "..."


def _kept(disk: Store | None, done: int, total: int) -> str:
    if disk is None:
        return f"{done} of {total} chunks were done, none is kept without a store"
    return f"{done} of {total} chunks are kept in {disk.path}, run again to resume"


@contextlib.contextmanager
def _disk_errors(disk: Store, experiment_id: str, done: int, total: int) -> Iterator[None]:
    """A full or failing disk becomes one line that says what is kept."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise SweepError(f"{experiment_id}: cannot write the store ({reason}); {_kept(disk, done, total)}") from error
