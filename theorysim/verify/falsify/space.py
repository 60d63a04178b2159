"""What a search may move at one setting, as a vector in a box, and the compiled programs that measure a batch of vectors."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, UInt32

from theorysim.errors import InputError, require
from theorysim.sweep.experiment import Experiment
from theorysim.sweep.keys import wrap_keys
from theorysim.verify.claim import Range, Results, Search, Setting
from theorysim.verify.falsify.draws import measure_with, pruned

FARTHEST = 6.0
"""Standard normal draws are moved up to this far from 0."""
MOST_TANGENTS = 128
"""Coordinates up to which a measurement that cannot be differentiated backwards is differentiated forwards."""

Keys = UInt32[np.ndarray, "P 2"]
Vectors = Float[np.ndarray, "P D"]


class Points(NamedTuple):
    """A batch of inputs of one space.

    keys: of the numbers that no vector moves. own: what these keys draw themselves. vectors: coordinates, see `Space`.
    """

    keys: Keys
    own: Float[np.ndarray, "P drawn"]
    vectors: Vectors

    def take(self, rows: Any) -> Points:
        """Some of the points."""
        return Points(self.keys[rows], self.own[rows], self.vectors[rows])

    def at(self, vectors: Vectors) -> Points:
        """The points with these keys and other coordinates."""
        return self._replace(vectors=vectors)

    def moved(self) -> Bool[np.ndarray, " P"]:
        """Whether draws differ from those of the key."""
        return (self.vectors[:, self.vectors.shape[1] - self.own.shape[1] :] != self.own).any(axis=1)


def require_field(setting: Setting, name: str) -> None:
    """Raise `InputError` unless a setting has the field `name`, which may be dotted."""
    head, _, rest = name.partition(".")
    fields = dataclasses.fields(setting) if getattr(type(setting), "__setting__", False) else ()
    known = head in {field.name for field in fields}
    require(known, f"fields searched must be those of {type(setting).__name__}, got {name!r}")
    if rest:
        require_field(getattr(setting, head), rest)


def substitute(setting: Setting, values: Mapping[str, Any]) -> Setting:
    """The setting with fields replaced, by dotted name. Raises `InputError` where they do not go together."""
    for name, value in values.items():
        head, _, rest = name.partition(".")
        inner = substitute(getattr(setting, head), {rest: value}) if rest else value
        setting = dataclasses.replace(setting, **{head: inner})
    return setting


@dataclasses.dataclass(frozen=True)
class Space:
    """The inputs around one setting: its fields with a range, then the numbers drawn from the key if `draws`.

    Coordinates are real numbers in [low, high]: fields in [0, 1] along their range, uniform draws in [0, 1), normal draws in
    [-6, 6]. `span` is their natural scale.
    batch: number of points that are measured at a time. results: names of those that are wanted.
    """

    experiment: Experiment
    setting: Setting
    search: Search
    batch: int
    results: tuple[str, ...]

    @cached_property
    def _leaves(self) -> dict[str, np.ndarray]:
        """Traced numbers of the setting, by dotted name."""
        found, _ = jax.tree_util.tree_flatten_with_path(self.setting)
        return {".".join(entry.name for entry in path): np.asarray(leaf) for path, leaf in found}

    @cached_property
    def ranges(self) -> dict[str, Range]:
        """Range of each searched field, by dotted name. Raises `InputError` for one that is no traced number."""
        for name in self.search.ranges:
            known = name in self._leaves
            require(known, f"range must be of a real field of {type(self.setting).__name__}, got {name!r}")
        return dict(self.search.ranges)

    @cached_property
    def _program(self) -> _Program:
        kinds = tuple((leaf.shape, leaf.dtype) for leaf in self._leaves.values())
        names = tuple(self._leaves)
        return _program(
            self.experiment,
            jax.tree.structure(self.setting),
            kinds,
            tuple(names.index(name) for name in self.ranges),
            self.search.draws,
            self.results,
        )

    @property
    def fields(self) -> int:
        """Number of coordinates that are fields."""
        return sum(self._leaves[name].size for name in self.ranges)

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return self.fields + self._program.drawn

    @cached_property
    def low(self) -> Float[np.ndarray, " D"]:
        return np.concatenate([np.zeros(self.fields), np.where(self._program.normal, -FARTHEST, 0.0)])

    @cached_property
    def high(self) -> Float[np.ndarray, " D"]:
        below_one = 1 - 2.0 ** -(52 if self.experiment.x64 else 23)
        return np.concatenate([np.ones(self.fields), np.where(self._program.normal, FARTHEST, below_one)])

    @cached_property
    def span(self) -> Float[np.ndarray, " D"]:
        return np.concatenate([np.ones(self.fields), np.where(self._program.normal, 2.0, 1.0)])

    @cached_property
    def centre(self) -> Float[np.ndarray, " D"]:
        """The plainest numbers: draws in the middle of their law; fields as they are."""
        return np.concatenate([self.start_fields, np.where(self._program.normal, 0.0, 0.5)])

    @cached_property
    def start_fields(self) -> Float[np.ndarray, " F"]:
        """The setting's own fields as coordinates, moved into their ranges."""
        own = [_coordinate(r, self._leaves[name].astype(float).ravel()) for name, r in self.ranges.items()]
        return np.concatenate([*own, np.zeros(0)])

    def draw(self, keys: Keys) -> Float[np.ndarray, "P drawn"]:
        """What keys draw."""
        if not self.search.draws:
            return np.zeros((len(keys), 0))
        leaves = self._stacked([self.setting] * self.batch)
        parts = [keys[at : at + self.batch] for at in range(0, len(keys), self.batch)]
        drawn = [self._program.draws(_repeat_last(part, self.batch), leaves)[: len(part)] for part in parts]
        return np.concatenate([np.zeros((0, self._program.drawn)), *drawn])

    def start(self, keys: Keys) -> Points:
        """The points that keys draw, at the setting's own fields."""
        own = self.draw(keys)
        return Points(keys, own, np.concatenate([np.tile(self.start_fields, (len(keys), 1)), own], axis=1))

    def coordinate(self, name: str, value: float) -> Float[np.ndarray, " elements"]:
        """A searched field, all of its elements equal to `value`, as coordinates."""
        return np.full(self._leaves[name].size, _coordinate(self.ranges[name], np.asarray(value)))

    def rounded(self, vector: Float[np.ndarray, " D"], digits: int) -> Float[np.ndarray, " D"]:
        """Fields rounded to significant digits, draws to decimals."""
        fields = [
            _coordinate(self.ranges[name], _significant(np.ravel(value), digits))
            for name, value in self.values(vector).items()
        ]
        return np.concatenate([*fields, np.round(vector[self.fields :], digits - 1)])

    def values(self, vector: Float[np.ndarray, " D"]) -> dict[str, float | np.ndarray]:
        """The searched fields at a point."""
        values, offset = {}, 0
        for name, r in self.ranges.items():
            leaf = self._leaves[name]
            value = _value(r, vector[offset : offset + leaf.size]).reshape(leaf.shape)
            values[name] = value.astype(leaf.dtype) if leaf.ndim else float(value)
            offset += leaf.size
        return values

    def settings(self, vectors: Vectors) -> list[Setting | None]:
        """The setting of each point; None where the fields do not go together."""
        if not self.ranges:
            return [self.setting] * len(vectors)
        found: list[Setting | None] = []
        for vector in vectors:
            try:
                found.append(substitute(self.setting, self.values(vector)))
            except InputError:
                found.append(None)
        return found

    def measure(self, points: Points) -> tuple[list[Setting | None], dict[str, np.ndarray]]:
        """The settings of at most `batch` points, and the results, leading axis the point."""
        settings, arguments = self._arguments(points)
        results = self._program.forward(*arguments)
        return settings, {name: value[: len(points.keys)] for name, value in results.items()}

    def gradient(self, points: Points, cotangents: Results) -> Vectors:
        """Gradient over the coordinates of sum_name <cotangents[name], results[name]>, point by point.

        cotangents: by name of the results, leading axis the point.
        """
        _, arguments = self._arguments(points)
        padded = {name: _repeat_last(value, self.batch) for name, value in cotangents.items()}
        raw = self._program.gradient(*arguments, padded)[: len(points.keys)]
        return raw * self._speed(points.vectors)

    def direct(
        self, vectors: Vectors, index: int, value: Callable[[Setting], float], step: float = 1e-5
    ) -> Float[np.ndarray, " D"]:
        """Gradient at point `index` of a function of the setting alone, by central differences."""
        gradient = np.zeros(self.size)
        for place in range(self.fields):
            sides = np.tile(vectors[index], (2, 1))
            sides[:, place] = np.clip(sides[:, place] + [-step, step], 0, 1)
            low, high = self.settings(sides)
            if low is not None and high is not None:
                gradient[place] = (value(high) - value(low)) / (sides[1, place] - sides[0, place])
        return gradient

    def project(self, vectors: Vectors) -> Vectors:
        """The nearest points of the box."""
        return np.clip(vectors, self.low, self.high)

    def _speed(self, vectors: Vectors) -> Vectors:
        """Derivative of the raw numbers by the coordinates."""
        speed, offset = np.ones_like(vectors), 0
        for name, r in self.ranges.items():
            part = slice(offset, offset + self._leaves[name].size)
            ratio = math.log(r.high / r.low) if r.log else 0.0
            speed[:, part] = _value(r, vectors[:, part]) * ratio if r.log else r.high - r.low
            offset = part.stop
        return speed

    def _arguments(self, points: Points) -> tuple[list[Setting | None], tuple[Any, Any, Any]]:
        settings = self.settings(points.vectors)
        usable = [self.setting if setting is None else setting for setting in settings]
        raw = points.vectors.copy()
        for row, vector in enumerate(points.vectors):
            values = self.values(vector).values()
            raw[row, : self.fields] = np.concatenate([*(np.ravel(value) for value in values), np.zeros(0)])
        stacked = self._stacked([*usable, *[usable[-1]] * (self.batch - len(usable))])
        return settings, (_repeat_last(points.keys, self.batch), stacked, _repeat_last(raw, self.batch))

    def _stacked(self, settings: Sequence[Setting]) -> list[np.ndarray]:
        return [np.stack(list(map(np.asarray, column))) for column in zip(*map(jax.tree.leaves, settings), strict=True)]


class Irreversible(Exception):
    """A measurement has no gradient that could be computed; the message says why."""


class _Program:
    """One sample of an experiment as a function of (key, leaves, raw vector), under vmap."""

    def __init__(
        self,
        experiment: Experiment,
        tree: Any,
        kinds: Any,
        moved: tuple[int, ...],
        draws: bool,
        wanted: tuple[str, ...],
    ) -> None:
        self._x64, self._wanted = experiment.x64, wanted
        self._tree, self._moved, self._draws, self._measure = tree, moved, draws, experiment.measure
        self._kinds = [kinds[index] for index in moved]
        laws: list[tuple[str, tuple[int, ...], Any]] = []

        def trace(key: Any, leaves: Any) -> Any:
            results, drawn = measure_with(self._measure, wrap_keys(key), tree.unflatten(leaves))
            laws.extend((one.law, one.values.shape, one.values.dtype) for one in drawn)
            return results

        with jax.enable_x64(self._x64):
            leaves = [jax.ShapeDtypeStruct(shape, jax.dtypes.canonicalize_dtype(dtype)) for shape, dtype in kinds]
            jax.eval_shape(trace, jax.ShapeDtypeStruct((2,), np.uint32), leaves)
        self._laws = laws if draws else []
        sizes = [math.prod(shape) for _, shape, _ in self._laws]
        self.drawn = sum(sizes)
        self.normal = np.repeat([law == "normal" for law, _, _ in self._laws], sizes).astype(bool)
        self._forward = jax.jit(jax.vmap(self._sample))
        self._draw = jax.jit(jax.vmap(self._drawn))
        self._backward = {
            "backwards": jax.jit(jax.vmap(self._pull)),
            "forwards": jax.jit(jax.vmap(self._push)),
        }
        self._mode: str | None = None

    def forward(self, keys: Any, leaves: Any, raw: Any) -> dict[str, np.ndarray]:
        with jax.enable_x64(self._x64):
            return jax.device_get(self._forward(keys, leaves, raw))

    def draws(self, keys: Any, leaves: Any) -> np.ndarray:
        with jax.enable_x64(self._x64):
            return np.asarray(jax.device_get(self._draw(keys, leaves)), float)

    def gradient(self, keys: Any, leaves: Any, raw: Any, cotangents: Any) -> np.ndarray:
        """By reverse differentiation, else by forward differentiation, else raises `Irreversible`."""
        modes = [self._mode] if self._mode else ["backwards", *["forwards"] * (raw.shape[1] <= MOST_TANGENTS)]
        reason = ""
        for mode in modes:
            try:
                with jax.enable_x64(self._x64):
                    found = jax.device_get(self._backward[mode](keys, leaves, raw, cotangents))
            except (ValueError, TypeError, NotImplementedError, AssertionError) as error:
                reason = " ".join(str(error).split()).partition(". ")[0][:120]
                continue
            self._mode = mode
            return np.asarray(found, float)
        raise Irreversible(reason or f"a loop of open length and {raw.shape[1]} coordinates")

    def _sample(self, key: Any, leaves: Any, raw: Any) -> dict[str, Any]:
        """The wanted results."""

        def wanted(key: Any, leaves: Any, raw: Any) -> list[Any]:
            results = self._all(key, leaves, raw)
            return [jnp.asarray(results[name]) for name in self._wanted]

        found = pruned(jax.make_jaxpr(wanted)(key, leaves, raw))(*jax.tree.leaves((key, leaves, raw)))
        return dict(zip(self._wanted, found, strict=True))

    def _all(self, key: Any, leaves: Any, raw: Any) -> Any:
        leaves, offset = list(leaves), 0
        for index, (shape, dtype) in zip(self._moved, self._kinds, strict=True):
            count = math.prod(shape)
            leaves[index] = raw[offset : offset + count].reshape(shape).astype(dtype)
            offset += count
        values = []
        for _, shape, dtype in self._laws:
            count = math.prod(shape)
            values.append(raw[offset : offset + count].reshape(shape).astype(dtype))
            offset += count
        given = values if self._draws else None
        return measure_with(self._measure, wrap_keys(key), self._tree.unflatten(leaves), given)[0]

    def _drawn(self, key: Any, leaves: Any) -> Any:
        def draws(key: Any, leaves: Any) -> Any:
            _, drawn = measure_with(self._measure, wrap_keys(key), self._tree.unflatten(leaves))
            return jnp.concatenate([jnp.zeros(0), *(jnp.ravel(one.values) for one in drawn)])

        return pruned(jax.make_jaxpr(draws)(key, leaves))(*jax.tree.leaves((key, leaves)))[0]

    def _pull(self, key: Any, leaves: Any, raw: Any, cotangents: dict[str, Any]) -> Any:
        results, pull = jax.vjp(lambda raw: self._of(cotangents, key, leaves, raw), raw)
        return pull({name: cotangents[name].astype(value.dtype) for name, value in results.items()})[0]

    def _of(self, names: Mapping[str, Any], key: Any, leaves: Any, raw: Any) -> dict[str, Any]:
        """Those of the wanted results that have a cotangent."""
        results = self._sample(key, leaves, raw)
        return {name: results[name] for name in names}

    def _push(self, key: Any, leaves: Any, raw: Any, cotangents: dict[str, Any]) -> Any:
        def contracted(raw: Any) -> Any:
            results = self._of(cotangents, key, leaves, raw)
            return sum(jnp.sum(jnp.where(c == 0, 0, results[name] * c)) for name, c in cotangents.items())

        return jax.vmap(lambda tangent: jax.jvp(contracted, (raw,), (tangent,))[1])(
            jnp.eye(raw.shape[0], dtype=raw.dtype)
        )


@lru_cache(maxsize=64)
def _program(*arguments: Any) -> _Program:
    return _Program(*arguments)


def _value(r: Range, unit: np.ndarray) -> np.ndarray:
    """The number at `unit` in [0, 1] along a range."""
    found = r.low * (r.high / r.low) ** unit if r.log else r.low + (r.high - r.low) * unit
    return np.clip(found, r.low, r.high)


def _coordinate(r: Range, value: np.ndarray) -> np.ndarray:
    """The place in [0, 1] of a number along a range."""
    value = np.clip(value, r.low, r.high)
    return np.log(value / r.low) / math.log(r.high / r.low) if r.log else (value - r.low) / (r.high - r.low)


def _significant(values: np.ndarray, digits: int) -> np.ndarray:
    """Values rounded to significant digits."""
    return np.array([float(f"{value:.{digits - 1}e}") for value in values])


def _repeat_last(rows: np.ndarray, count: int) -> np.ndarray:
    return np.concatenate([rows, np.repeat(rows[-1:], count - len(rows), axis=0)])
