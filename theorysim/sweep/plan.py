"""The plan of a sweep: settings grouped by program, and each group's samples cut into rectangles that fit in memory."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import numpy as np

from theorysim.errors import InputError, require
from theorysim.sweep.experiment import Experiment, Setting
from theorysim.sweep.keys import sample_keys
from theorysim.sweep.memory import format_memory
from theorysim.sweep.program import Leaves, Program, Task, observables, occupied, text
from theorysim.sweep.settings import canonical, describe
from theorysim.sweep.store import Chunk

PIECES = 8
"""Chunks into which the samples of a group are cut on a CPU, where each runs on a core of its own. On an accelerator
one chunk keeps the whole device busy."""

CPU_OPERATIONS, ACCELERATOR_OPERATIONS = 1e11, 1e14
"""Most floating-point operations of a chunk, where the experiment states them (tens of seconds): a long run then
advances and a killed one loses little."""


class Group(NamedTuple):
    """Settings that share a program, by position in the run."""

    members: tuple[int, ...]
    tree: Any
    leaves: Leaves
    outputs: dict[str, jax.ShapeDtypeStruct]
    operations: float


class Fit(NamedTuple):
    """The rectangle (settings, seeds) of a group's chunks and the bytes that one of them occupies."""

    rectangle: tuple[int, int]
    need: float


@dataclass(frozen=True)
class Plan:
    """What a run computes, and how it may be cut.

    seeds, first: the seed indices first, ..., first + seeds - 1 of every setting.
    tile: seeds of a chunk where the caller fixes them, so that runs over different seeds share a program.
    brief: whether programs run for less time than compiling them with all optimisations takes.
    """

    experiment: Experiment
    settings: tuple[Setting, ...]
    seeds: int
    seed: int
    first: int = 0
    tile: int | None = None
    brief: bool = False

    @cached_property
    def texts(self) -> list[str]:
        """Canonical texts of the settings."""
        return [canonical(setting) for setting in self.settings]

    @cached_property
    def program(self) -> Program:
        return Program.of(self.experiment, self.brief)

    @cached_property
    def groups(self) -> list[Group]:
        """Settings by program. Raises `InputError` where two groups yield different observables."""
        members: dict[Any, list[int]] = {}
        for index, setting in enumerate(self.settings):
            leaves, tree = jax.tree.flatten(setting)
            with jax.enable_x64(self.experiment.x64):
                kinds = tuple(jax.ShapeDtypeStruct(np.shape(leaf), _dtype(leaf)) for leaf in leaves)
            members.setdefault((tree, kinds), []).append(index)
        groups = []
        for (tree, leaves), indices in members.items():
            outputs = observables(self.program, tree, leaves)
            require(
                bool(outputs) and not {"setting", "seed"} & set(outputs),
                f"observables of {self.experiment.id} need names other than setting and seed, got {sorted(outputs)}",
            )
            count = self.experiment.operations
            operations = max(count(self.settings[i]) for i in indices) if count else 0.0
            groups.append(Group(tuple(indices), tree, leaves, outputs, operations))
        for group in groups[1:]:
            if group.outputs != groups[0].outputs:
                raise InputError(
                    f"observables of {self.experiment.id} must have one shape in all settings, got "
                    f"{self._outputs(groups[0])}; {self._outputs(group)}"
                )
        return groups

    def _outputs(self, group: Group) -> str:
        shapes = ", ".join(f"{name} {shape.dtype}{list(shape.shape)}" for name, shape in group.outputs.items())
        return f"{shapes} at {describe(self.settings[group.members[0]])}"

    def fingerprint(self, *context: str) -> str:
        """Names a run by all that its numbers depend on, the program's text included: edited measures start afresh."""
        what = [self.experiment.id, self.texts, self.seeds, self.seed, self.experiment.x64, *context]
        if self.first:
            what.append(self.first)
        if self.brief:
            what.append("brief")
        digest = hashlib.sha256(json.dumps(what).encode())
        for group in self.groups:
            digest.update(text(self.program, group.tree, group.leaves).encode())
        return digest.hexdigest()[:32]

    def fit(self, number: int, share: float, most: float) -> Fit:
        """The largest rectangle of group `number` within `share` bytes; a single sample may take `most`.

        Raises `InputError` where it does not.
        """
        group = self.groups[number]
        if self.experiment.admit is not None:
            for member in group.members:
                self.experiment.admit(self.settings[member], most)
        seeds = self.tile or self.seeds
        samples = len(group.members) * seeds
        cpu = jax.local_devices()[0].platform == "cpu"
        batch = math.ceil(samples / PIECES) if cpu and self.tile is None else samples
        if group.operations > 0:
            batch = min(batch, int((CPU_OPERATIONS if cpu else ACCELERATOR_OPERATIONS) / group.operations))
        batch = min(samples, max(batch, jax.local_device_count()))
        while True:
            rectangle = _rectangle(batch, len(group.members), seeds)
            need = self.need(number, rectangle)
            if need <= share or (rectangle == (1, 1) and need <= most):
                return Fit(rectangle, need)
            if rectangle == (1, 1):
                raise InputError(
                    f"one sample of {self.label(number)} needs {format_memory(need)}, more than the memory budget of "
                    f"{format_memory(most)}: raise it with --memory"
                )
            batch = max(1, min(math.prod(rectangle) - 1, int(0.95 * math.prod(rectangle) * share / need)))

    def refit(self, number: int, rectangle: tuple[int, int], most: float) -> Fit:
        """The rectangle that a store prescribes. Raises `InputError` if it needs more than `most` bytes."""
        need = self.need(number, rectangle)
        if need > most:
            raise InputError(
                f"a stored chunk of {self.label(number)} needs {format_memory(need)}, more than the memory budget of "
                f"{format_memory(most)}: raise it with --memory, or use another store"
            )
        return Fit(rectangle, need)

    def need(self, number: int, rectangle: tuple[int, int]) -> float:
        """Bytes that a chunk of this shape occupies."""
        group = self.groups[number]
        return occupied(self.program, group.tree, group.leaves, _batch(rectangle))

    def label(self, number: int) -> str:
        """A group's experiment and first setting, for messages."""
        return f"{self.experiment.id} at {describe(self.settings[self.groups[number].members[0]])}"

    def fit_all(
        self, share: float, most: float, stored: Sequence[tuple[int, int]] | None, numbers: Iterable[int]
    ) -> list[Fit]:
        """The fits of the groups `numbers`; programs are compiled several at a time."""

        def one(number: int) -> Fit:
            return self.fit(number, share, most) if stored is None else self.refit(number, stored[number], most)

        with ThreadPoolExecutor(cores(), "compile") as pool:
            return list(pool.map(one, numbers))

    def cut(self, rectangles: Sequence[tuple[int, int]]) -> list[Chunk]:
        """The chunks of all groups."""
        numbers = itertools.count()
        return [
            Chunk(next(numbers), number, group.members[i : i + rows], range(j, min(j + columns, self.seeds)))
            for number, (group, (rows, columns)) in enumerate(zip(self.groups, rectangles, strict=True))
            for i in range(0, len(group.members), rows)
            for j in range(0, self.seeds, columns)
        ]

    def task(self, chunk: Chunk, rectangle: tuple[int, int]) -> Task:
        """Keys and leaves of a chunk's samples; a partial chunk repeats its last one, so that one shape is compiled."""
        group, settings = self.groups[chunk.group], [self.settings[index] for index in chunk.settings]
        indices = range(self.first + chunk.seeds.start, self.first + chunk.seeds.stop)
        keys = np.concatenate([sample_keys(self.experiment.id, s, self.seed, indices) for s in settings])
        sample = np.minimum(np.arange(_batch(rectangle)), chunk.samples - 1)
        columns = zip(*map(jax.tree.leaves, settings), strict=True)
        leaves = [
            np.stack([np.asarray(leaf, kind.dtype) for leaf in column])[sample // len(chunk.seeds)]
            for column, kind in zip(columns, group.leaves, strict=True)
        ]
        return Task(self.program, keys[sample], group.tree.unflatten(leaves))


def _dtype(leaf: Any) -> np.dtype:
    return jax.dtypes.canonicalize_dtype(leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype)


def _batch(shape: tuple[int, int]) -> int:
    """Samples in a program: a rectangle's, made up to a multiple of the devices."""
    devices = jax.local_device_count()
    return math.ceil(shape[0] * shape[1] / devices) * devices


def _rectangle(batch: int, settings: int, seeds: int) -> tuple[int, int]:
    """At most `batch` samples as (settings, seeds): whole settings, or of one setting a power of two of seeds."""
    return (min(batch // seeds, settings), seeds) if batch >= seeds else (1, 2 ** (batch.bit_length() - 1))


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
