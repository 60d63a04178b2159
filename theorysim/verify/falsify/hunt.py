"""The books of a search: what was tried, what came closest, and which violations the check's own judge certifies."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from theorysim.sweep import canonical, describe
from theorysim.verify.claim import Check, Results, Search, Setting
from theorysim.verify.falsify.outcome import Place
from theorysim.verify.falsify.sides import Sides, sides_of_each, violates
from theorysim.verify.falsify.space import Points, Space
from theorysim.verify.judges import Bound

SUSPECTS = 16
"""Violations of one batch, worst first, that are put to the judge until it certifies one."""


class Violation(NamedTuple):
    """A certified violation, as a single point."""

    space: Space
    point: Points
    place: Place


class Batch(NamedTuple):
    """What was measured at a batch of points.

    relative: slack over scale, shape (P, C); +inf where inadmissible or undefined. settings: of each point, None where its fields
    do not go together. results: leading axis the point. violation: the first that is certified.
    """

    relative: Float[np.ndarray, "P C"]
    settings: list[Setting | None]
    results: dict[str, np.ndarray]
    violation: Violation | None

    @property
    def least(self) -> Float[np.ndarray, " P"]:
        """Of each point."""
        return self.relative.min(axis=1)


@dataclass
class Hunt:
    """One check's search.

    points: number of points measured at a time. deadline: of `time.monotonic`. absolute: slack is not divided by the prediction,
    which is 0. reads: names of the results that the check looks at.
    """

    check: Check
    bound: Bound
    points: int
    deadline: float
    absolute: bool = False
    reads: tuple[str, ...] = ()
    progress: Any = None
    trials: int = 0
    undefined: int = 0
    usage: float = -math.inf
    least: Place | None = None
    spaces: dict[str, Space] = field(default_factory=dict)
    worst: dict[str, list[tuple[float, Points]]] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        """Whether time is up."""
        return time.monotonic() > self.deadline

    def space(self, setting: Setting) -> Space:
        """The space around a setting."""
        text = canonical(setting)
        if text not in self.spaces:
            search = self.check.search or Search()
            self.spaces[text] = Space(self.check.experiment, setting, search, self.points, self.reads)
            self.worst[text] = []
        return self.spaces[text]

    def measure(self, space: Space, points: Points, found: str) -> Batch:
        """Measure at most `points` points and enter them in the books."""
        settings, results = space.measure(points)
        rows: dict[str, list[int]] = {}
        for index, setting in enumerate(settings):
            if setting is not None:
                rows.setdefault(canonical(setting), []).append(index)
        parts: list[tuple[list[int], np.ndarray]] = []
        violation = None
        for indices in rows.values():
            setting, part = settings[indices[0]], {name: value[indices] for name, value in results.items()}
            both = sides_of_each(self.check, setting, part)
            self.trials += int(both.admissible.sum())
            slacks, certified = self.enter(space, setting, part, both, points.take(indices).take, found)
            violation = violation or certified
            parts.append((indices, slacks))
        components = max((slacks.shape[1] for _, slacks in parts), default=1)
        relative = np.full((len(settings), components), math.inf)
        for indices, slacks in parts:
            relative[indices, : slacks.shape[1]] = slacks  # one alone where the check refuses all of them
        if self.progress is not None:
            self.progress.begin(f"{self.check.name}: {found}", len(settings))
            self.progress.advance(len(settings))
        return Batch(relative, settings, results, violation)

    def enter(
        self,
        space: Space,
        setting: Setting,
        results: Results,
        both: Sides,
        points: Callable[[Sequence[int]], Points],
        found: str,
    ) -> tuple[Float[np.ndarray, "P C"], Violation | None]:
        """Enter measured points of one setting; returns their relative slacks and the worst violation that is certified.

        points: of given rows.
        """
        relative = both.relative(self.bound, self.absolute)
        self.undefined += int((np.isnan(both.slack(self.bound)) & both.admissible[:, None]).sum())
        self.usage = max(self.usage, float(both.usage(self.bound).max(initial=-math.inf)))
        least = relative.min(axis=1, initial=math.inf)
        worst_first = np.argsort(least, kind="stable")

        def place(row: int) -> Place:
            component, point = int(relative[row].argmin()), points([row])
            return Place(
                setting=describe(setting),
                key=(int(point.keys[0, 0]), int(point.keys[0, 1])),
                draws=tuple(point.vectors[0, space.fields :].tolist()) if point.moved()[0] else None,
                instance={name: np.asarray(results[name][row]).tolist() for name in self.check.inputs},
                component=component,
                observed=float(both.observed[row, component]),
                predicted=float(both.predicted[row, component]),
                slack=float(both.slack(self.bound)[row, component]),
                relative=float(relative[row, component]),
                found=found,
            )

        first = int(worst_first[0])
        if least[first] < (math.inf if self.least is None else self.least.relative):
            self.least = place(first)
        book = self.worst[canonical(space.setting)]
        if space.size:
            kept = [int(row) for row in worst_first[: self.points] if math.isfinite(least[row])]
            known = points(kept)
            for index, row in enumerate(kept):
                _insert(book, float(least[row]), known.take([index]), self.points)
        for row in worst_first[:SUSPECTS]:
            if not least[row] < 0:
                break
            one = {name: value[row : row + 1] for name, value in results.items()}
            point = points([int(row)])
            if violates(self.check, setting, one, None if point.moved()[0] else point.keys[0]):
                return relative, Violation(space, point, place(int(row)))
        return relative, None


def _insert(book: list[tuple[float, Points]], least: float, point: Points, most: int) -> None:
    """Keep the worst point of each key, the worst `most` in all."""
    key = point.keys.tobytes()
    for index, (known, other) in enumerate(book):
        if other.keys.tobytes() == key:
            if known <= least:
                return
            del book[index]
            break
    book.append((least, point))
    book.sort(key=lambda entry: entry[0])
    del book[most:]
