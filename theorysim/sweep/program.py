"""The compiled program of a sweep: one sample of a measurement under vmap, and the task that carries it to a worker."""

from __future__ import annotations

import contextlib
import re
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any, NamedTuple

import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from threadpoolctl import threadpool_limits

from theorysim.sweep.experiment import Experiment, Setting
from theorysim.sweep.keys import wrap_keys

Leaves = tuple[jax.ShapeDtypeStruct, ...]

_BATCHED_LAPACK = re.compile(r'custom_call @lapack_\w+\(.*num_batch_dims = "[1-9]')
_LAPACK_RUNS = threading.Lock()


@dataclass(frozen=True)
class Program:
    """What is compiled.

    token: names the measure across processes, where each unpickling may make a new function.
    brief: whether it runs for less time than compiling it takes, see `_options`.
    """

    token: str
    x64: bool
    measure: Callable[[Any, Setting], Mapping[str, Any]] = field(compare=False)
    brief: bool = False

    @classmethod
    def of(cls, experiment: Experiment, brief: bool = False) -> Program:
        return cls(_token(experiment.measure), experiment.x64, experiment.measure, brief)

    def sample(self, key_data: Any, setting: Setting) -> dict[str, Any]:
        return {name: jnp.asarray(value) for name, value in self.measure(wrap_keys(key_data), setting).items()}


class Task(NamedTuple):
    """A chunk's worth of work, which may travel to another process.

    keys: key data, uint32 (batch, 2). setting: leaves of leading axis batch.
    """

    program: Program
    keys: np.ndarray
    setting: Setting


class Result(NamedTuple):
    """values: by name, leading axis batch."""

    values: dict[str, np.ndarray]
    seconds: float
    device: str


def compute_chunk(task: Task) -> Result:
    """Compute one task, in whichever thread or process it finds itself: what an executor runs."""
    # enable_x64 is local to a thread, so each task enters it anew.
    start = time.perf_counter()
    leaves, tree = jax.tree.flatten(task.setting)
    samples = tuple(jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype) for leaf in leaves)
    program = compiled(task.program, tree, samples, len(task.keys))
    with jax.enable_x64(task.program.x64), _LAPACK_RUNS if program.alone else contextlib.nullcontext(), _one_thread:
        values = jax.device_get(program.run(task.keys, task.setting))
    return Result(values, time.perf_counter() - start, jax.local_devices()[0].device_kind)


class _OneThread:
    """While any chunk is computed, LAPACK uses one thread in this process, as many as chunks are computed beside each other.

    So its results do not depend on how many there are, and threads of chunks do not start as many threads again.
    """

    def __init__(self) -> None:
        self._lock, self._inside = threading.Lock(), 0
        self._limits: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._limits = threadpool_limits(1, "blas")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._limits.restore_original_limits()


_one_thread = _OneThread()


@lru_cache(maxsize=1024)
def _token(measure: Callable[..., Any]) -> str:
    return uuid.uuid4().hex


@lru_cache(maxsize=1024)
def traced(program: Program, tree: Any, leaves: Leaves) -> tuple[Any, dict[str, jax.ShapeDtypeStruct]]:
    """One sample as a closed jaxpr, and the names, shapes and dtypes of what it yields. The measure is traced only here."""
    with jax.enable_x64(program.x64):
        key = jax.ShapeDtypeStruct((2,), np.uint32)
        closed, outputs = jax.make_jaxpr(program.sample, return_shape=True)(key, tree.unflatten(leaves))
    return closed, outputs


def observables(program: Program, tree: Any, leaves: Leaves) -> dict[str, jax.ShapeDtypeStruct]:
    """Names, shapes and dtypes of what one sample yields."""
    outputs = traced(program, tree, leaves)[1]
    return {name: jax.ShapeDtypeStruct(outputs[name].shape, outputs[name].dtype) for name in sorted(outputs)}


def text(program: Program, tree: Any, leaves: Leaves) -> str:
    """The program of one sample as StableHLO, constants included."""
    with jax.enable_x64(program.x64):
        key = jax.ShapeDtypeStruct((2,), np.uint32)
        return jax.jit(program.sample).lower(key, tree.unflatten(leaves)).as_text()


class Compiled(NamedTuple):
    """run: the executable. alone: whether it must not run beside another of this kind, see `_factorises_batches`."""

    run: Any
    alone: bool


@lru_cache(maxsize=256)
def compiled(program: Program, tree: Any, leaves: Leaves, batch: int) -> Compiled:
    """The program for `batch` samples, divided among the local devices where there are several."""
    devices = jax.local_devices()
    closed, outputs = traced(program, tree, leaves)
    structure = jax.tree.structure(outputs)

    def sample(key: Any, setting: Setting) -> dict[str, Any]:
        flat = jax.extend.core.jaxpr_as_fun(closed)(*jax.tree.leaves((key, setting)))
        return jax.tree.unflatten(structure, flat)

    lowered = _lowered(jax.vmap(sample), program, tree, leaves, batch)
    alone = devices[0].platform == "cpu" and _factorises_batches(lowered)
    if alone:
        one_after_another = lambda *samples: jax.lax.map(lambda one: sample(*one), samples)
        lowered = _lowered(one_after_another, program, tree, leaves, batch)
        alone = _factorises_batches(lowered)
    with jax.enable_x64(program.x64):
        return Compiled(lowered.compile(_options(program)), alone)


def _lowered(function: Callable[..., Any], program: Program, tree: Any, leaves: Leaves, batch: int) -> Any:
    devices = jax.local_devices()
    options: dict[str, Any] = {}
    if len(devices) > 1:
        mesh, spec = jax.sharding.Mesh(np.array(devices), ("sample",)), PartitionSpec("sample")
        function = jax.shard_map(function, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
        options = {"in_shardings": NamedSharding(mesh, spec), "out_shardings": NamedSharding(mesh, spec)}
    keys = jax.ShapeDtypeStruct((batch, 2), np.uint32)
    setting = tree.unflatten([jax.ShapeDtypeStruct((batch, *leaf.shape), leaf.dtype) for leaf in leaves])
    with jax.enable_x64(program.x64):
        return jax.jit(function, **options).lower(keys, setting)


def _options(program: Program) -> dict[str, Any]:
    """Options of the compiler: on CPUs, less effort for brief programs.

    They compile in half the time. Most run as fast, those that do little but exp or log up to 1.4 times as long.
    """
    if not program.brief or jax.local_devices()[0].platform != "cpu":
        return {}
    effort = {"xla_backend_optimization_level": 1, "xla_cpu_use_fusion_emitters": False}
    return {name: value for name, value in effort.items() if _is_known(name, value)}


@cache
def _is_known(name: str, value: Any) -> bool:
    """Whether this version of the compiler has an option: they are not part of JAX's promised interface."""
    try:
        jax.jit(lambda x: x).lower(0.0).compile({name: value})
    except jax.errors.JaxRuntimeError:
        return False
    return True


def _factorises_batches(lowered: Any) -> bool:
    """Whether a program for CPUs factorises batches of matrices, or solves with them.

    jaxlib divides such a batch among the threads that run programs, and waits for them there: two of these calls at once, of one
    program or of two, wait for each other for ever (seen with 0.10). Samples are therefore computed one after another where
    they would be batched so, and a program that still is runs alone.
    """
    return _BATCHED_LAPACK.search(lowered.as_text()) is not None


def occupied(program: Program, tree: Any, leaves: Leaves, batch: int) -> float:
    """Bytes that the program for `batch` samples occupies while it runs, by the compiler's own account."""
    analysis = compiled(program, tree, leaves, batch).run.memory_analysis()
    device = analysis.temp_size_in_bytes + analysis.argument_size_in_bytes + analysis.output_size_in_bytes
    # Devices of a CPU are parts of one memory.
    return device * (jax.local_device_count() if jax.local_devices()[0].platform == "cpu" else 1)
