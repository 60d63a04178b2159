"""Planted mistakes: predictions changed on purpose, to learn which mistakes a check catches.

A plant changes the prediction alone, so it costs no simulation. How large a bound's or an order's plant must be depends on
the data: it is set by a pilot, the measurement of other seeds, never by the data that are judged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any, Literal, NamedTuple

import numpy as np

from theorysim.verify.claim import Case, Judge
from theorysim.verify.judges import (
    PMF,
    Bound,
    Equivalence,
    ExpectationBound,
    Identity,
    Law,
    Limit,
    Ordering,
    ProbabilityBound,
    Rate,
    Threshold,
)
from theorysim.verify.judges._evidence import draws_of, matched
from theorysim.verify.judges.bound import UNREPLAYED_MARGIN
from theorysim.verify.laws import Discrete, as_law

Size = Literal["small", "stated", "gross"]
SIZES: tuple[Size, ...] = ("small", "stated", "gross")

TIGHTENED = 0.99
"""Quantile over the pilot's draws to which the constant of a bound is tightened: violated by one draw in a hundred."""

MARGIN = 1e-6
"""Relative margin of such a constant over rounding, at least, for inequalities that hold with equality."""

FEW_MARGIN = 0.01
"""The same where a bound is asked of few inputs alone."""


class Plant(NamedTuple):
    """A planted mistake.

    name: what is wrong with the prediction.
    size: small (3 %, within most tolerances: shows how close a check looks), stated (10 %, or two tolerances: what a check
        must refute) or gross (a factor of two and the like).
    wrong: whether it leaves the tolerance, so that `verified` is a wrong verdict.
    distort: a claim's evidence with the prediction so changed.
    """

    name: str
    size: Size
    wrong: bool
    distort: Callable[[Sequence[Case]], list[Case]]


@singledispatch
def plants(judge: Judge, pilot: Any) -> list[Plant]:
    """The mistakes planted in a check with this judge; a judge of one's own registers its own with `plants.register`.

    pilot: what `read_pilot` made of other seeds, None where there are none: plants that need it are then left out.
    """
    return []


@singledispatch
def read_pilot(judge: Judge, cases: Sequence[Case]) -> Any:
    """What the plants of this judge need to know of other seeds, in JSON's types; None where they need nothing."""
    return None


def _each(change: Callable[[np.ndarray], Any]) -> Callable[[Sequence[Case]], list[Case]]:
    def one(case: Case) -> Case:
        replay = case.replay

        def again(index: int) -> tuple[np.ndarray, np.ndarray]:
            assert replay is not None
            observed, predicted = replay(index)
            return observed, change(np.asarray(predicted))

        return case._replace(predicted=change(np.asarray(case.predicted)), replay=None if replay is None else again)

    return lambda cases: [one(case) for case in cases]


def _factor(factor: float) -> Callable[[Sequence[Case]], list[Case]]:
    return _each(lambda predicted: factor * predicted)


def _shift(by: float) -> Callable[[Sequence[Case]], list[Case]]:
    return _each(lambda predicted: predicted + by)


@plants.register(Equivalence)
@plants.register(Limit)
def _of_values(judge: Equivalence | Limit, pilot: Any) -> list[Plant]:
    if judge.absolute:
        sizes: tuple[tuple[Size, float], ...] = (("small", 0.6), ("stated", 2.0), ("gross", 20.0))
        return [Plant(f"value + {by:g} tolerances", size, by > 1, _shift(by * judge.tolerance)) for size, by in sizes]
    factors: tuple[tuple[Size, float], ...] = (("small", 1.03), ("stated", 1.1), ("gross", 2.0))
    return [Plant(f"value x {by:g}", size, abs(by - 1) > judge.tolerance, _factor(by)) for size, by in factors]


@plants.register
def _of_thresholds(judge: Threshold, pilot: Any) -> list[Plant]:
    result = []
    for sign, sense in (("+", 1), ("-", -1)):
        by = 2 * sense * judge.tolerance
        result.append(
            Plant(f"location {sign} 2 tolerances", "stated", True, _shift(by) if judge.absolute else _factor(1 + by))
        )
    return result


@plants.register
def _of_rates(judge: Rate, pilot: Any) -> list[Plant]:
    up, down = (
        Plant(f"exponent {sign} 2 tolerances", "stated", True, _shift(sense * 2 * judge.tolerance))
        for sign, sense in (("+", 1), ("-", -1))
    )
    # that an exponent is at most so large is not refuted by claiming less
    return {"two-sided": [up, down], "upper": [down], "lower": [up]}[judge.side]


@plants.register
def _of_identities(judge: Identity, pilot: Any) -> list[Plant]:
    def distort(case: Case) -> Case:
        observed, predicted, _ = matched(case)
        size = np.maximum(np.maximum(np.abs(observed), np.abs(predicted)), judge._scale(case, observed, predicted))
        return case._replace(predicted=predicted + 1e3 * judge.tolerance * size)

    return [Plant("value + 1000 tolerances", "stated", True, lambda cases: [distort(case) for case in cases])]


@read_pilot.register
def _bound_pilot(judge: Bound, cases: Sequence[Case]) -> Any:
    """The factor (where both sides are positive), or else the shift, that makes one draw in a hundred violate."""
    ratios, slacks, scales = [], [], []
    for case in cases:
        observed, predicted, mask = matched(case)
        a, b = (side[mask].astype(float).reshape(int(mask.sum()), -1) for side in (observed, predicted))
        lhs, rhs = (a, b) if judge.sense == "<=" else (b, a)
        if a.size == 0:
            continue
        slacks.append((rhs - lhs).min(1))
        scales.append((np.abs(lhs) + np.abs(rhs)).max(1))
        positive = bool((a > 0).all() and (b > 0).all())
        ratios.append((lhs / rhs).max(1) if positive else np.full(len(a), math.nan))
    if not slacks:
        return None
    ratio, slack = np.concatenate(ratios), np.concatenate(slacks)
    # rounding may hide what breaks by less than the margin, or keep it from being certified; where inputs are few, the tightest
    # inequality must break, of the pilot's as of other random ones
    certified = 4 * UNREPLAYED_MARGIN * judge.rounding
    level, margin = (1.0, FEW_MARGIN) if judge.exhaustive else (TIGHTENED, max(MARGIN, certified))
    if np.isfinite(ratio).all():
        factor = float(np.quantile(ratio, level)) * (1 - margin)
        return {"factor": factor if judge.sense == "<=" else 1 / factor}
    if not np.isfinite(slack).all():
        return None
    by = float(np.quantile(slack, 1 - level))
    by += margin * max(abs(by), float(np.median(np.concatenate(scales))))
    return {"shift": -by if judge.sense == "<=" else by}


@plants.register
def _of_bounds(judge: Bound, pilot: Any) -> list[Plant]:
    if pilot is None:
        return []
    distort = _factor(pilot["factor"]) if "factor" in pilot else _shift(pilot["shift"])
    name = "constant too tight by 1 %" if judge.exhaustive else "constant violated by 1 draw in 100"
    return [Plant(name, "stated", True, distort)]


@read_pilot.register
def _expectation_pilot(judge: ExpectationBound, cases: Sequence[Case]) -> Any:
    """Mean of every setting and component."""
    return [np.asarray(case.observed, float)[matched(case)[2]].mean(0).tolist() for case in cases]


@plants.register
def _of_expectations(judge: ExpectationBound, pilot: Any) -> list[Plant]:
    if pilot is None:
        return []
    tolerance = judge.tolerance or 0.05
    sense = -1 if judge.sense == "<=" else 1

    def distort(cases: Sequence[Case]) -> list[Case]:
        means = [np.asarray(mean) for mean in pilot]
        halves = [tolerance if judge.absolute else tolerance * np.abs(mean) for mean in means]
        return [
            case._replace(predicted=np.broadcast_to(mean + sense * 2 * half, np.shape(case.observed)))
            for case, mean, half in zip(cases, means, halves, strict=True)
        ]

    return [Plant("bound beyond the mean by 2 tolerances", "stated", True, distort)]


@read_pilot.register
def _probability_pilot(judge: ProbabilityBound, cases: Sequence[Case]) -> Any:
    """Shift of every setting and component after which the bound fails twice as often as is allowed."""
    rate = min(0.5, 2 * judge.delta * (1 + judge.tolerance))
    result = []
    for case in cases:
        draws = draws_of(case)
        excess = draws.observed - draws.predicted
        result.append(np.quantile(excess, 1 - rate if judge.sense == "<=" else rate, axis=1).tolist())
    return result


@plants.register
def _of_probabilities(judge: ProbabilityBound, pilot: Any) -> list[Plant]:
    if pilot is None:
        return []

    def distort(cases: Sequence[Case]) -> list[Case]:
        result = []
        for case, shifts in zip(cases, pilot, strict=True):
            observed, predicted, _ = matched(case)
            result.append(case._replace(predicted=predicted + np.reshape(shifts, observed.shape[1:])))
        return result

    return [Plant("bound failing twice as often as allowed", "stated", True, distort)]


@plants.register
def _of_orders(judge: Ordering, pilot: Any) -> list[Plant]:
    def reverse(case: Case) -> Case:
        observed, predicted, _ = matched(case)
        return case._replace(observed=predicted, predicted=observed)

    return [Plant("order reversed", "stated", True, lambda cases: [reverse(case) for case in cases])]


@dataclass(frozen=True)
class _Moved:
    """The law of centre + scale (X - centre) + shift."""

    law: Any
    centre: float
    scale: float
    shift: float

    def _to(self, x: Any) -> Any:
        return self.centre + self.scale * (np.asarray(x) - self.centre) + self.shift

    def cdf(self, x: Any, /) -> Any:
        return self.law.cdf(self.centre + (np.asarray(x) - self.shift - self.centre) / self.scale)

    def ppf(self, u: Any, /) -> Any:
        return self._to(self.law.ppf(u))

    def mean(self) -> Any:
        return self._to(self.law.mean())

    def std(self) -> Any:
        return self.scale * self.law.std()


@plants.register
def _of_laws(judge: Law, pilot: Any) -> list[Plant]:
    def moved(scale: float, sds: float) -> Callable[[Sequence[Case]], list[Case]]:
        def move(law: Any) -> Any:
            if judge.bounded:
                lower, centre, upper = (float(q) for q in law.ppf(np.array([0.25, 0.5, 0.75])))
                sd = (upper - lower) / 1.349
            else:
                centre, sd = float(law.mean()), float(law.std())
            if isinstance(law, Discrete):
                return Discrete(centre + scale * (law.points - centre) + sds * sd, law.probabilities)
            return _Moved(law, centre, scale, sds * sd)

        return lambda cases: [case._replace(predicted=move(as_law(case.predicted))) for case in cases]

    return [
        Plant("scale x 1.1", "stated", abs(1 / 1.1**2 - 1) > judge.second_tolerance, moved(1.1, 0.0)),
        Plant("shift by 0.1 sd", "stated", judge.mean_tolerance < 0.1, moved(1.0, 0.1)),
    ]


@plants.register
def _of_probability_vectors(judge: PMF, pilot: Any) -> list[Plant]:
    def tilted(p: np.ndarray) -> np.ndarray:
        """Probabilities tilted along the outcomes until they lie two tolerances off in Pearson's distance."""
        outcomes = np.arange(len(p), dtype=float)
        z = outcomes - p @ outcomes
        z /= math.sqrt(p @ z**2)
        q = np.maximum(p * (1 + 2 * judge.tolerance * z), 0.0)
        return q / q.sum()

    def change(predicted: Any) -> Any:
        if isinstance(predicted, np.ndarray) and predicted.dtype == object and predicted.ndim == 0:
            predicted = predicted.item()
        if isinstance(predicted, Discrete):
            return Discrete(predicted.points, tilted(predicted.probabilities))
        return tilted(np.asarray(predicted, float))

    return [
        Plant(
            "probabilities off by 2 tolerances",
            "stated",
            True,
            lambda cases: [case._replace(predicted=change(case.predicted)) for case in cases],
        )
    ]
