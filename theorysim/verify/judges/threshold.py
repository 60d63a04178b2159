"""The location of a transition, per size and extrapolated in size."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from theorysim.errors import InputError, require
from theorysim.verify.claim import ALPHA, Case, Kind
from theorysim.verify.extrapolation import hull, independent_sizes, limit_models
from theorysim.verify.intervals import median_test
from theorysim.verify.judges._evidence import (
    Evidence,
    decide,
    decide_certified,
    draws_of,
    has_vector_size,
    invalid,
    label_of,
    matched,
    region_of,
    sequences,
)
from theorysim.verify.judges.limit import checked_orders, hull_evidence
from theorysim.verify.primitive import interval, p_values
from theorysim.verify.transition import isotonic_location, logistic_location, median_location
from theorysim.verify.verdict import Judgement

Levels = tuple[float, ...] | Callable[[Any], Sequence[float]]
DISAGREEMENT = 5.0
"""Distance of isotonic and logistic location, in s.e. of the former (twice the latter's), that forbids a verdict."""


class _Location(NamedTuple):
    estimate: float
    se: float
    seeds: int
    problem: str
    gates: dict[str, object]


@dataclass(frozen=True)
class Threshold:
    """The transition lies at `predicted`, at every size (orders None) or as size grows.

    What a case holds:
    - with `levels` (the same for all cases, or a function of the setting): outcomes 0 or 1 of shape (seeds, levels),
      every seed tried at every level; the location is the height-1/2 point of the success curve, by logistic regression
      with a quadratic term where needed, cross-checked by isotonic regression. About 9 levels over 2 widths on either
      side.
    - without: each seed's own threshold, shape (seeds,), found by bisection (success monotone in the level); the
      location is their median, with order-statistic limits.
    - deterministic: brackets (lower, upper) of a sign change along the last axis; verified iff the bracket lies inside
      the tolerance region. Extrapolate exact locations with `Limit(deterministic=True)`.

    tolerance: of the predicted location, or `absolute`.
    orders: a = 1/nu of the shift n^-a, (a,) known or (lo, hi) a range; None where nothing is extrapolated.
    independent: outcomes at different levels come from different seeds, so that counts have binomial errors.
    spread_decay: declared law of the location's sd, n^-spread_decay.
    """

    tolerance: float = 0.05
    absolute: bool = False
    orders: tuple[float, ...] | None = None
    levels: Levels | None = None
    independent: bool = False
    deterministic: bool = False
    spread_decay: float = 0.5
    kind: Kind = "threshold"

    def __post_init__(self) -> None:
        require(self.tolerance > 0, f"tolerance must be positive, got {self.tolerance}")
        checked_orders("orders", self.orders)
        alone = not (self.deterministic and (self.levels is not None or self.orders is not None))
        require(alone, "deterministic takes brackets alone: levels and orders must be None")

    def __call__(self, cases: Sequence[Case], alpha: float = ALPHA) -> Judgement:
        """Verified iff every location (or extrapolated sequence) is; refuted iff some p-value is at most alpha/J."""
        if self.deterministic:
            return decide_certified([e for case in cases for e in self._brackets(case)], self.kind)
        if self.orders is None:
            evidence = [e for case in cases for e in self._single(case, alpha)]
        else:
            evidence = self._extrapolated(cases, self.orders, alpha)
        return decide(evidence, self.kind, alpha, absolute=self.absolute)

    def _locations(self, case: Case) -> tuple[list[str], np.ndarray, list[_Location]]:
        """Labels, predictions and locations of a case's components."""
        draws = draws_of(case)
        if self.levels is None:
            predicted = draws.predicted[:, 0] if draws.predicted.shape[1] else np.full(len(draws.labels), np.nan)
            return draws.labels, predicted, [self._median(v) for v in draws.observed]
        levels = np.asarray(self.levels(case.setting) if callable(self.levels) else self.levels, float)
        if draws.observed.shape[0] != len(levels):
            raise InputError(
                f"observed of {label_of(case.setting)} must be (seeds, levels) with {len(levels)} levels, "
                f"got shape {np.shape(case.observed)}"
            )
        predicted = np.ravel(draws.predicted)[:1] if draws.predicted.size else np.array([np.nan])
        return [label_of(case.setting)], predicted, [self._curve(levels, draws.observed.T)]

    def _curve(self, levels: np.ndarray, outcomes: np.ndarray) -> _Location:
        seeds = len(outcomes)
        nothing = _Location(math.nan, math.nan, seeds, "invalid data: fewer than 2 seeds", {})
        if seeds < 2:
            return nothing
        if not np.isin(outcomes, (0.0, 1.0)).all():
            return nothing._replace(problem="invalid data: outcomes that are neither 0 nor 1")
        successes, trials = outcomes.sum(0), np.full(len(levels), float(seeds))
        fit = logistic_location(levels, successes, trials, None if self.independent else outcomes)
        if not (math.isfinite(fit.location) and fit.se > 0):
            return nothing._replace(problem="no success curve crosses 1/2 within the levels")
        isotonic = isotonic_location(levels, successes, trials)
        gates: dict[str, object] = {
            "slope": fit.slope,
            "quadratic": fit.quadratic,
            "curvature t": fit.curvature_t,
            "isotonic": isotonic,
        }
        far = not abs(isotonic - fit.location) <= DISAGREEMENT * 2 * fit.se
        problem = "logistic and isotonic locations disagree" if far else ""
        return _Location(fit.location, fit.se, seeds, problem, gates)

    @staticmethod
    def _median(thresholds: np.ndarray) -> _Location:
        seeds = len(thresholds)
        if seeds < 8 or np.isnan(thresholds).any():
            problem = (
                "invalid data: NaN" if seeds >= 8 else f"a median of thresholds needs at least 8 seeds, got {seeds}"
            )
            return _Location(math.nan, math.nan, seeds, problem, {})
        estimate, se = median_location(thresholds)
        problem = "" if math.isfinite(se) and se > 0 else "invalid data: no finite spread between seeds"
        return _Location(estimate, se, seeds, problem, {"location": "median of the seeds' thresholds"})

    def _single(self, case: Case, alpha: float) -> list[Evidence]:
        labels, predictions, locations = self._locations(case)
        evidence = []
        for k, (label, predicted, found) in enumerate(zip(labels, map(float, predictions), locations, strict=True)):
            if found.problem:
                evidence.append(invalid(label, found.problem, predicted, found.seeds))
                continue
            region = region_of(predicted, self.tolerance, self.absolute)
            df = found.seeds - 1
            if self.levels is None:
                test = median_test(draws_of(case).observed[k], *region, alpha)
                p, limits = test.p, (test.lower, test.upper)
            else:
                p, limits = (
                    p_values(found.estimate, found.se, df, *region),
                    interval(found.estimate, found.se, df, alpha),
                )
            evidence.append(
                Evidence(
                    label,
                    predicted,
                    found.estimate,
                    (float(limits[0]), float(limits[1])),
                    region,
                    float(p.verified),
                    float(p.refuted),
                    se=found.se,
                    df=df,
                    seeds=found.seeds,
                    tolerance=(region[1] - region[0]) / 2,
                    gates=found.gates,
                )
            )
        return evidence

    def _extrapolated(self, cases: Sequence[Case], orders: tuple[float, ...], alpha: float) -> list[Evidence]:
        # each case becomes its locations, shape (1, components), so that the grouping by size is that of every limit
        located: dict[int, list[_Location]] = {}
        reduced = []
        for index, case in enumerate(cases):
            if has_vector_size(case):
                raise InputError(f"size of {label_of(case.setting)} must be a number for a threshold, got a vector")
            _, predictions, locations = self._locations(case)
            located[index] = locations
            reduced.append(
                case._replace(
                    observed=np.full((1, len(locations)), float(index)), predicted=predictions, admissible=None
                )
            )
        evidence = []
        for sequence in sequences(reduced):
            for component, (label, value) in enumerate(zip(sequence.labels, sequence.predicted, strict=True)):
                found = [located[int(v[component, 0])][component] for v in sequence.columns]
                predicted = float(value)
                seeds = min(location.seeds for location in found)
                problem = next((location.problem for location in found if location.problem), "")
                if len(found) < 4:
                    problem = f"an extrapolated threshold needs at least 4 sizes, got {len(found)}"
                if problem:
                    evidence.append(invalid(label, problem, predicted, seeds))
                    continue
                region = region_of(predicted, self.tolerance, self.absolute)
                estimates = np.array([location.estimate for location in found])
                variances = np.array([location.se for location in found]) ** 2
                counts = np.array([location.seeds for location in found], float)
                models = limit_models(tuple(np.log(sequence.sizes)), orders, None, self.spread_decay)
                result = hull([independent_sizes(m, estimates, variances, counts) for m in models], *region, alpha)
                gates: dict[str, object] = {
                    "locations": tuple(map(float, estimates)),
                    "location s.e.": tuple(map(float, np.sqrt(variances))),
                    "largest size": found[-1].gates,
                }
                half = (region[1] - region[0]) / 2
                evidence.append(hull_evidence(label, predicted, region, result, models, seeds, half, gates))
        return evidence

    def _brackets(self, case: Case) -> list[Evidence]:
        observed, predicted, mask = matched(case)
        if observed.ndim < 2 or observed.shape[-1] != 2:
            raise InputError(
                f"observed of {label_of(case.setting)} must hold brackets (lower, upper) along its last axis, "
                f"got shape {observed.shape}"
            )
        samples = np.flatnonzero(mask)
        evidence = []
        for index in np.ndindex(len(samples), *observed.shape[1:-1]):
            sample = (int(samples[index[0]]), *index[1:])
            lower, upper = map(float, observed[sample])
            expected = float(predicted[sample][0])
            label = label_of(case.setting, sample)
            if not lower <= upper or not math.isfinite(expected):
                evidence.append(invalid(label, "invalid data: not a bracket", expected, 1))
                continue
            region = region_of(expected, self.tolerance, self.absolute)
            middle = (lower + upper) / 2
            evidence.append(Evidence(label, expected, middle, (lower, upper), region, 1.0, 1.0, seeds=1))
        return evidence
