"""The two sides of a bound at given results: slack, what decides, the derivative of the slack, and certified violations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from theorysim.errors import InputError, require
from theorysim.sweep.keys import wrap_keys
from theorysim.verify.claim import Case, Check, Results, Setting
from theorysim.verify.falsify.space import Irreversible
from theorysim.verify.judges import Bound

MOST_SIDES = 600
"""Measured numbers up to which a prediction is differentiated by differences."""


class Sides(NamedTuple):
    """Both sides at several samples of one setting, components flattened.

    observed, predicted: shape (S, C), in the dtype of the data. admissible: shape (S,).
    """

    observed: np.ndarray
    predicted: np.ndarray
    admissible: Bool[np.ndarray, " S"]

    def slack(self, bound: Bound) -> Float[np.ndarray, "S C"]:
        """Right side minus left side; NaN where undefined or inadmissible."""
        with np.errstate(invalid="ignore"):
            slack = np.asarray(self.predicted, float) - np.asarray(self.observed, float)
        slack = slack if bound.sense == "<=" else -slack
        return np.where(self.admissible[:, None], slack, np.nan)

    def relative(self, bound: Bound, absolute: bool = False) -> Float[np.ndarray, "S C"]:
        """Slack over |predicted|, over |observed| where that is 0; the slack itself if `absolute`.

        +inf where undefined or inadmissible, where both sides are 0, and where a side that is infinite satisfies the bound.
        """
        slack, predicted = self.slack(bound), np.abs(np.asarray(self.predicted, float))
        scale = np.where(predicted == 0, np.abs(np.asarray(self.observed, float)), predicted)
        with np.errstate(invalid="ignore", divide="ignore"):
            relative = slack if absolute else slack / scale
        infinite = np.where(slack == -np.inf, -np.inf, np.inf)
        return np.where(np.isfinite(relative), relative, infinite)

    def usage(self, bound: Bound) -> Float[np.ndarray, "S C"]:
        """Left over right side, where both are finite and the right side is positive; -inf elsewhere."""
        observed, predicted = np.asarray(self.observed, float), np.asarray(self.predicted, float)
        left, right = (observed, predicted) if bound.sense == "<=" else (predicted, observed)
        usable = self.admissible[:, None] & (right > 0) & np.isfinite(left) & np.isfinite(right)
        return np.where(usable, left / np.where(usable, right, 1), -np.inf)


class _Noted(Mapping[str, np.ndarray]):
    """Results that note which of them are read."""

    def __init__(self, results: Results) -> None:
        self._results, self.read = results, dict[str, None]()

    def __getitem__(self, name: str) -> np.ndarray:
        self.read[name] = None
        return self._results[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._results)

    def __len__(self) -> int:
        return len(self._results)


def sides(check: Check, setting: Setting, results: Results) -> Sides:
    """Both sides at the samples of one setting."""
    with np.errstate(all="ignore"):
        observed = np.asarray(check.observable(setting, results))
        predicted = np.asarray(check.predict(setting, {name: results[name] for name in check.inputs}))
        admissible = np.ones(len(observed), bool)
        if check.admissible is not None:
            admissible = np.asarray(check.admissible(setting, results), bool)
    return of_case(Case(setting, observed, predicted, admissible=admissible))


def sides_of_each(check: Check, setting: Setting, results: Results) -> Sides:
    """Both sides at the samples of one setting; NaN for those to which the check does not apply, because it refuses them."""
    try:
        return sides(check, setting, results)
    except InputError:
        found: list[Sides | None] = []
        for row in range(len(next(iter(results.values())))):
            try:
                found.append(sides(check, setting, {name: value[row : row + 1] for name, value in results.items()}))
            except InputError:
                found.append(None)
    components = max((one.observed.shape[1] for one in found if one), default=1)
    nothing = np.full((1, components), np.nan)
    rows = [one or Sides(nothing, nothing, np.ones(1, bool)) for one in found]
    return Sides(*(np.concatenate(parts) for parts in zip(*rows, strict=True)))


def reads(check: Check, setting: Setting, results: Results) -> list[str]:
    """Names of the results that a check looks at."""
    noted = _Noted({name: value[:1] for name, value in results.items()})
    with np.errstate(all="ignore"):
        check.observable(setting, noted)
        if check.admissible is not None:
            check.admissible(setting, noted)
    return list(dict.fromkeys([*noted.read, *check.inputs]))


def of_case(case: Case) -> Sides:
    """Both sides of a case, components flattened."""
    observed = np.asarray(case.observed)
    require(observed.ndim >= 1, f"observed must have a leading seed axis, got a scalar at {case.setting}")
    predicted = np.broadcast_to(np.asarray(case.predicted), observed.shape)
    admissible = np.ones(len(observed), bool) if case.admissible is None else np.asarray(case.admissible, bool)
    rows = len(observed)
    return Sides(observed.reshape(rows, -1), predicted.reshape(rows, -1), admissible)


def violates(check: Check, setting: Setting, results: Results, key: np.ndarray | None) -> bool:
    """Whether the one sample of `results` (leading axis 1) is a counterexample by the check's own judge.

    key: what the sample was drawn from, for the replay in the next precision; None where its draws were moved, when a
        violation must exceed 1000 rounding bounds instead.
    """
    found = sides(check, setting, results)
    replay = check.replay

    def again(index: int) -> tuple[np.ndarray, np.ndarray]:
        assert replay is not None
        finer = {name: np.asarray(value)[None] for name, value in replay(setting, wrap_keys(key)).items()}
        both = sides(replace(check, admissible=None), setting, finer)
        return both.observed[0], both.predicted[0]

    case = Case(setting, found.observed, found.predicted, admissible=found.admissible)
    if replay is not None and key is not None:
        case = case._replace(replay=again)
    with np.errstate(all="ignore"):
        return check.judge([case]).status == "refuted"


def slope(
    check: Check, bound: Bound, setting: Setting, results: Results, component: int, absolute: bool = False
) -> dict[str, np.ndarray]:
    """Derivative of a component's relative slack by the measured numbers, at one sample (leading axis 1), by differences.

    absolute: of the slack itself. Raises `Irreversible` where these are too many.
    """
    noted = _Noted(results)
    with np.errstate(all="ignore"):
        check.observable(setting, noted)
    real = lambda name: np.issubdtype(np.asarray(results[name]).dtype, np.floating)
    measured = [name for name in noted.read if real(name)]
    instance = [name for name in check.inputs if real(name)]
    here = sides(check, setting, results)
    o, p = float(here.observed[0, component]), float(here.predicted[0, component])
    sign = 1.0 if bound.sense == "<=" else -1.0
    if absolute:
        by_observed, by_predicted = -sign, sign
    elif p != 0:
        by_observed, by_predicted = -sign / abs(p), sign * o * np.sign(p) / p**2
    else:
        by_observed = by_predicted = 0.0

    def observed(rows: Results) -> np.ndarray:
        values = np.asarray(check.observable(setting, rows), float)
        return values.reshape(len(values), -1)[:, component]

    shape = np.asarray(check.observable(setting, results)).shape[1:]

    def predicted(rows: Results) -> np.ndarray:
        count = len(next(iter(rows.values())))
        values = check.predict(setting, {name: rows[name] for name in check.inputs})
        return np.broadcast_to(np.asarray(values, float), (count, *shape)).reshape(count, -1)[:, component]

    total = {name: np.zeros(np.shape(results[name])) for name in dict.fromkeys([*measured, *instance])}
    for names, read, side, weight in (
        (measured, noted.read, observed, by_observed),
        (instance, check.inputs, predicted, by_predicted),
    ):
        if weight and names:
            for name, derivative in _differences({other: results[other] for other in read}, names, side).items():
                total[name] += weight * np.where(np.isfinite(derivative), derivative, 0.0)
    return total


def _differences(results: Results, names: list[str], side: Callable[[Results], np.ndarray]) -> dict[str, np.ndarray]:
    """Differences of a side by every element of the named results: central ones, else to the side on which there is a value."""
    count = sum(np.size(results[name]) for name in names)
    if count > MOST_SIDES:
        raise Irreversible(f"the bound depends on {count} measured numbers")
    found = {}
    for name in names:
        found[name] = np.zeros(np.shape(results[name]))
        for below, above in ((1, 1), (0, 1), (1, 0)):
            try:
                found[name] = _difference(results, name, side, below, above)
            except ValueError:  # outside the domain of the prediction
                continue
            break
    return found


def _difference(
    results: Results, name: str, side: Callable[[Results], np.ndarray], below: int, above: int, step: float = 1e-5
) -> np.ndarray:
    """Difference quotients by the elements of one result, `below` and `above` steps away."""
    value = np.asarray(results[name])
    flat = value.ravel().astype(float)
    size = np.where(np.isfinite(flat), np.abs(flat), 0.0)
    h = step * np.maximum(size, 1e-2 * np.max(size, initial=0.0) or 1e-3) * np.isfinite(flat)
    diagonal = np.arange(flat.size)
    moved = np.tile(flat, (2, flat.size, 1))
    moved[0, diagonal, diagonal] -= below * h
    moved[1, diagonal, diagonal] += above * h
    rows = {other: np.repeat(np.asarray(array), 2 * flat.size, axis=0) for other, array in results.items()}
    rows[name] = moved.reshape(2 * flat.size, *value.shape[1:])
    with np.errstate(all="ignore"):
        low, high = side(rows).reshape(2, flat.size)
        return ((high - low) / ((below + above) * h)).reshape(value.shape)
