"""Convergence to a value as size grows: a hull over declared finite-size models, or Richardson on exact data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from theorysim.errors import require
from theorysim.verify.claim import ALPHA, Case, Kind
from theorysim.verify.extrapolation import (
    Functional,
    Hull,
    hull,
    independent_sizes,
    limit_gauges,
    limit_models,
    richardson,
    shared_seeds,
)
from theorysim.verify.judges._evidence import (
    Evidence,
    SizeSequence,
    decide,
    decide_certified,
    exact_sequences,
    invalid,
    region_of,
    sequences,
)
from theorysim.verify.judges._functionals import unusable
from theorysim.verify.verdict import Judgement


def checked_orders(name: str, orders: tuple[float, ...] | None) -> None:
    """One order, or a range (lo, hi)."""
    if orders is not None:
        sound = len(orders) in (1, 2) and all(order > 0 for order in orders) and list(orders) == sorted(set(orders))
        require(sound, f"{name} must be one positive order (a,) or a range (lo, hi), got {orders}")


def exact_orders(orders: tuple[float, ...] | None) -> tuple[float, ...]:
    """Orders tried on exact data: the ends and the (geometric) middle of the range, by default .5, 1, 2."""
    lo, *rest = orders or (0.5, 2.0)
    return (lo, float(np.sqrt(lo * rest[0])), rest[0]) if rest else (lo,)


def hull_evidence(label: str, predicted: float, region: tuple[float, float], result: Hull, models: Sequence, seeds: int,
                  tolerance: float | None, gates: dict[str, object]) -> Evidence:  # fmt: skip
    """Evidence of one sequence from its hull: the worst surviving model is shown."""
    worst = int(result.worst)
    found = result.functional
    estimates = found.estimate
    fits = {
        model.name: f"{estimates[k]:.6g} +- {found.se[k]:.2g}, lack of fit {found.lack_of_fit[k]:.2g}"
        + ("" if result.survived[k] else " (dropped)")
        for k, model in enumerate(models)
    }
    survived = bool(result.survived.any())
    return Evidence(
        label,
        predicted,
        float(estimates[worst]) if survived else float("nan"),
        (float(result.lower), float(result.upper)),
        region,
        float(result.p.verified),
        float(result.p.refuted),
        se=float(result.functional.se[worst]) if survived else None,
        df=float(result.functional.df[worst]) if survived else None,
        seeds=seeds,
        tolerance=tolerance,
        problem="" if survived else "lack of fit: no declared model survives (wrong order declared)",
        gates={"models": fits, **gates},
    )


@dataclass(frozen=True)
class Limit:
    """The mean tends to `predicted` as size grows, as theta + A n^-a (+ C n^-b) with a declared order a.

    Cases of one `group` with a size each form a sequence with independent seeds; a case whose size is a vector holds,
    along its last axis, sizes that share seeds. Four sizes at least, spanning a factor of 8. If the theory has its
    exact value at every size, test that instead (`Equivalence`).

    tolerance: of the limit's size, or `absolute`.
    orders: (a,) known or (lo, hi) a range; by default (1,), for exact data (.5, 2).
    next_orders: order or range of b; 2a by default.
    spread_decay: declared law of the per-mean sd, n^-spread_decay, which fixes the weights.
    bias: bound on an error that no seed reveals, in the observable's units.
    deterministic: exact data, one seed (each seed of a vector case is an instance of its own): three sizes at least;
        the verdict rests on a model-error interval and carries no probability.
    """

    tolerance: float = 0.05
    absolute: bool = False
    orders: tuple[float, ...] | None = None
    next_orders: tuple[float, ...] | None = None
    spread_decay: float = 0.5
    bias: float = 0.0
    deterministic: bool = False
    kind: Kind = "limit"

    def __post_init__(self) -> None:
        require(self.tolerance > 0, f"tolerance must be positive, got {self.tolerance}")
        require(self.bias >= 0, f"bias must be at least 0, got {self.bias}")
        checked_orders("orders", self.orders)
        checked_orders("next_orders", self.next_orders)

    def __call__(self, cases: Sequence[Case], alpha: float = ALPHA) -> Judgement:
        """Verified iff every sequence and component is; refuted iff some p-value is at most alpha/J."""
        if self.deterministic:
            return decide_certified([e for s in exact_sequences(cases) for e in self._exact(s)], self.kind)
        evidence = [e for sequence in sequences(cases) for e in self._statistical(sequence, alpha)]
        return decide(evidence, self.kind, alpha, bias=self.bias, absolute=self.absolute)

    def _statistical(self, sequence: SizeSequence, alpha: float) -> list[Evidence]:
        evidence = []
        for component, (label, predicted) in enumerate(zip(sequence.labels, sequence.predicted, strict=True)):
            values = [v[component] for v in sequence.columns]
            problem = next((problem for v in values if (problem := unusable(v))), "")
            if len(sequence.sizes) < 4:
                problem = f"a limit needs at least 4 sizes, got {len(sequence.sizes)}"
            elif not problem and any(np.ptp(v) == 0 for v in values):
                problem = "invalid data: no spread between seeds"
            seeds = min((len(v) for v in values), default=0)
            if problem:
                evidence.append(invalid(label, problem, float(predicted), seeds))
                continue
            region = region_of(float(predicted), self.tolerance, self.absolute)
            models = limit_models(
                tuple(np.log(sequence.sizes)), self.orders or (1.0,), self.next_orders, self.spread_decay
            )
            result = hull([self._fit(model, values, sequence.shared) for model in models], *region, alpha, self.bias)
            half = (region[1] - region[0]) / 2
            span = float(sequence.sizes[-1] / sequence.sizes[0])
            evidence.append(
                hull_evidence(label, float(predicted), region, result, models, seeds, half, {"size span": span})
            )
        return evidence

    @staticmethod
    def _fit(model, values: list[np.ndarray], shared: bool) -> Functional:
        if shared:
            return shared_seeds(model, np.stack(values, -1))
        seeds = np.array([len(v) for v in values], float)
        variances = np.array([v.var(ddof=1) / len(v) for v in values])
        return independent_sizes(model, np.array([v.mean() for v in values]), variances, seeds)

    def _exact(self, sequence: SizeSequence) -> list[Evidence]:
        x, orders = np.log(sequence.sizes), exact_orders(self.orders)
        evidence = []
        for label, predicted, values in zip(sequence.labels, sequence.predicted, sequence.values, strict=True):
            values = values.reshape(-1)
            problem = (
                ""
                if np.isfinite(values).all() and np.isfinite(predicted)
                else "invalid data: values that are not finite"
            )
            if len(x) < 3:
                problem = f"an exact limit needs at least 3 sizes, got {len(x)}"
            if problem:
                evidence.append(invalid(label, problem, float(predicted), 1))
                continue
            found = richardson(values, limit_gauges(x, orders), 2.0 ** np.array(orders))
            evidence.append(
                Evidence(
                    label,
                    float(predicted),
                    float(found.estimate),
                    (float(found.lower) - self.bias, float(found.upper) + self.bias),
                    region_of(float(predicted), self.tolerance, self.absolute),
                    1.0,
                    1.0,
                    seeds=1,
                    gates={"orders": orders, "extrapolated": tuple(map(float, found.extrapolated))},
                )
            )
        return evidence
