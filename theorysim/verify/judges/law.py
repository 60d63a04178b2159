"""A whole distribution: distance to the predicted law with moments beside it, and exact laws of discrete outcomes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize, stats

from theorysim.errors import require
from theorysim.verify.claim import ALPHA, Case, Kind
from theorysim.verify.intervals import dkw_band
from theorysim.verify.judges._evidence import Evidence, decide, invalid, label_of
from theorysim.verify.judges._functionals import unusable
from theorysim.verify.laws import Discrete, as_law, cdf_distance, design_effect, merged_bins, randomised_pit
from theorysim.verify.primitive import mean_test
from theorysim.verify.verdict import Judgement


def distance_p_values(
    distance: np.ndarray, draws: float | np.ndarray, tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    """DKW p-values of 'sup distance of the laws > tolerance' and '<= tolerance' from the empirical one."""
    slack = tolerance - np.asarray(distance)
    bound = np.minimum(1.0, 2 * np.exp(-2 * draws * slack**2))
    return np.where(slack > 0, bound, 1.0), np.where(slack < 0, bound, 1.0)


def chi_square_p_values(
    statistic: np.ndarray, bins: int, draws: float, tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    """p-values of 'Pearson distance > tolerance' and '<= tolerance': noncentral chi-square tails."""
    shift = draws * tolerance**2
    return stats.ncx2.cdf(statistic, bins - 1, shift), stats.ncx2.sf(statistic, bins - 1, shift)


@dataclass(frozen=True)
class Law:
    """The draws follow the predicted law up to a sup distance of cdfs, and so do their mean and second moment.

    `predicted` is an object with cdf, mean and std (see `theorysim.verify.laws`), one per case. Observed draws have
    shape (seeds,), one per seed, or (seeds, draws), several of each seed's instance: then seeds are the units of the
    moments and the band is widened by the measured design effect.

    tolerance: sup distance, covering the finite-size distance too.
    mean_tolerance: of the mean, in predicted sd. second_tolerance: relative, of the second moment about the predicted
        mean.
    spacing: of lattice outcomes compared with a continuous law, F(k) against G(k + spacing/2).
    bounded: for laws without moments, E tanh z and E tanh^2 z in place of the moments, z standardised by quartiles.
    quenched: a single instance shows the law: the draws of each instance are iid, instances are settings of the claim.
    pooled: probability integral transforms of all cases are pooled and compared with the uniform law (one law each).
    """

    tolerance: float = 0.03
    mean_tolerance: float = 0.05
    second_tolerance: float = 0.1
    spacing: float | None = None
    bounded: bool = False
    quenched: bool = False
    pooled: bool = False
    kind: Kind = "law"

    def __post_init__(self) -> None:
        require(0 < self.tolerance < 1, f"tolerance must lie in (0, 1), got {self.tolerance}")
        require(self.mean_tolerance > 0, f"mean_tolerance must be positive, got {self.mean_tolerance}")
        require(self.second_tolerance > 0, f"second_tolerance must be positive, got {self.second_tolerance}")
        require(self.spacing is None or self.spacing > 0, f"spacing must be positive, got {self.spacing}")
        require(not (self.pooled and self.quenched), "pooled and quenched must not both be True")

    def __call__(self, cases: Sequence[Case], alpha: float = ALPHA) -> Judgement:
        """Verified iff distance and both moments are, at every setting; refuted iff one is at alpha/(3 settings)."""
        samples = [(label_of(case.setting), *_sample(case)) for case in cases]
        if self.pooled:
            samples = _pooled(samples)
        evidence = []
        for label, draws, law in samples:
            instances = list(draws) if self.quenched and draws.ndim == 2 else [draws]
            for k, instance in enumerate(instances):
                name = f"{label}[{k}]" if len(instances) > 1 else label
                evidence.extend(self._evidence(name, instance, law, alpha))
        return decide(evidence, self.kind, alpha, absolute=True)

    def _evidence(self, label: str, draws: np.ndarray, law: Any, alpha: float) -> list[Evidence]:
        problem = unusable(draws.reshape(-1)) or unusable(np.atleast_1d(draws[..., 0] if draws.ndim == 2 else draws))
        if problem:
            return [invalid(label, problem, 0.0, len(draws))]
        distance = cdf_distance(draws.reshape(-1), law, spacing=self.spacing)
        effect = design_effect(draws) if draws.ndim == 2 else 1.0
        effective = draws.size / effect
        band = float(dkw_band(effective, alpha))
        p_v, p_r = distance_p_values(np.asarray(distance), effective, self.tolerance)
        evidence = [
            Evidence(
                f"{label}: sup distance",
                0.0,
                distance,
                (max(distance - band, 0.0), distance + band),
                (0.0, self.tolerance),
                float(p_v),
                float(p_r),
                se=band / float(stats.norm.isf(alpha)),
                seeds=len(draws),
                gates={"design effect": effect, "band": band},
            )
        ]
        for name, transform, expected, half in self._moments(law):
            values = transform(draws)
            per_seed = values.mean(1) if values.ndim == 2 else values
            test = mean_test(per_seed, expected - half, expected + half, alpha, hall=True)
            evidence.append(
                Evidence(
                    f"{label}: {name}",
                    expected,
                    float(test.estimate),
                    (float(test.lower), float(test.upper)),
                    (expected - half, expected + half),
                    float(test.p.verified),
                    float(test.p.refuted),
                    se=float(test.se),
                    df=len(per_seed) - 1,
                    seeds=len(per_seed),
                    problem="" if test.se > 0 else "invalid data: no spread between seeds",
                    gates={"skewness": float(test.skewness)},
                )
            )
        return evidence

    def _moments(self, law: Any) -> list[tuple[str, Any, float, float]]:
        """(name, transform, expected value, tolerance) of the functionals beside the distance."""
        if not self.bounded:
            mean, sd = float(law.mean()), float(law.std())
            return [
                ("mean", lambda x: (x - mean) / sd, 0.0, self.mean_tolerance),
                ("second moment", lambda x: np.square((x - mean) / sd), 1.0, self.second_tolerance),
            ]
        levels = (np.arange(20_000) + 0.5) / 20_000
        quantiles = np.asarray(law.ppf(levels))
        lower, centre, upper = (float(v) for v in law.ppf(np.array([0.25, 0.5, 0.75])))
        # quartiles of a unit normal lie 1.349 apart
        scale = (upper - lower) / 1.349
        first, second = (float(np.mean(np.tanh((quantiles - centre) / scale) ** power)) for power in (1, 2))
        return [
            ("E tanh z", lambda x: np.tanh((x - centre) / scale), first, self.mean_tolerance),
            ("E tanh^2 z", lambda x: np.tanh((x - centre) / scale) ** 2, second, self.second_tolerance * second),
        ]


def _sample(case: Case) -> tuple[np.ndarray, Any]:
    """Admissible draws, (seeds,) or (seeds, draws), and the law."""
    observed = np.asarray(case.observed, float)
    mask = np.ones(len(observed), bool) if case.admissible is None else np.asarray(case.admissible, bool)
    observed = observed[mask]
    return observed if observed.ndim == 1 else observed.reshape(len(observed), -1), as_law(case.predicted)


def _pooled(samples: list[tuple[str, np.ndarray, Any]]) -> list[tuple[str, np.ndarray, Any]]:
    """All draws as probability integral transforms under their own laws: uniform; clusters are kept."""
    # the coin of the randomised transform is part of the statistic: fixed, so that a verdict is reproducible
    rng = np.random.default_rng(0)
    pits = [
        randomised_pit(draws, law, rng) if np.isfinite(draws).all() else draws * np.nan for _, draws, law in samples
    ]
    if not pits:
        return []
    if len({pit.shape[1:] for pit in pits}) > 1:
        # a common number of draws per instance, so that clusters weigh the same
        each = min(pit.shape[1] if pit.ndim == 2 else 1 for pit in pits)
        pits = [pit.reshape(len(pit), -1)[:, :each] for pit in pits]
    return [("pooled", np.concatenate(pits), stats.uniform())]


@dataclass(frozen=True)
class PMF:
    """Independent outcomes follow the predicted probabilities, up to a Pearson distance sqrt(sum (q-p)^2/p).

    `predicted` is a `Discrete` law, and observed holds one outcome per seed, shape (seeds,); or `predicted` is a vector
    of probabilities (bins,) and observed holds counts (seeds, bins). Neighbouring bins are merged until each expects at
    least `least_expected` counts.
    """

    tolerance: float = 0.1
    least_expected: float = 20.0
    kind: Kind = "law"

    def __post_init__(self) -> None:
        require(self.tolerance > 0, f"tolerance must be positive, got {self.tolerance}")
        require(self.least_expected > 0, f"least_expected must be positive, got {self.least_expected}")

    def __call__(self, cases: Sequence[Case], alpha: float = ALPHA) -> Judgement:
        """Verified iff every setting is; refuted iff some p-value is at most alpha/J."""
        return decide([self._evidence(case, alpha) for case in cases], self.kind, alpha, absolute=True)

    def _evidence(self, case: Case, alpha: float) -> Evidence:
        label = label_of(case.setting)
        counts, probabilities, problem = _counts(case)
        draws = counts.sum()
        if problem or draws == 0:
            return invalid(label, problem or "invalid data: no data", 0.0, int(draws))
        bins = merged_bins(probabilities * draws, self.least_expected)
        merged, expected = np.bincount(bins, counts), np.bincount(bins, probabilities) * draws
        if len(expected) < 2:
            return invalid(label, f"{int(draws)} outcomes fill fewer than 2 bins", 0.0, int(draws))
        statistic = float((np.square(merged - expected) / expected).sum())
        p_v, p_r = chi_square_p_values(np.asarray(statistic), len(expected), float(draws), self.tolerance)
        estimate = math.sqrt(max(statistic - (len(expected) - 1), 0.0) / draws)
        limits = _noncentrality_limits(statistic, len(expected) - 1, alpha)
        return Evidence(
            label,
            0.0,
            estimate,
            (math.sqrt(limits[0] / draws), math.sqrt(limits[1] / draws)),
            (0.0, self.tolerance),
            float(p_v),
            float(p_r),
            seeds=int(draws),
            gates={"chi-square": statistic, "bins": len(expected), "least expected": float(expected.min())},
        )


def _counts(case: Case) -> tuple[np.ndarray, np.ndarray, str]:
    """Counts and probabilities per point, and why they cannot be used ('' when they can)."""
    observed = np.asarray(case.observed, float)
    mask = np.ones(len(observed), bool) if case.admissible is None else np.asarray(case.admissible, bool)
    observed = observed[mask]
    predicted = case.predicted
    if isinstance(predicted, np.ndarray) and predicted.dtype == object and predicted.ndim == 0:
        predicted = predicted.item()
    if isinstance(predicted, Discrete):
        probabilities = predicted.probabilities
        require(observed.ndim == 1, f"observed must hold one outcome per seed, got shape {observed.shape}")
        nearest = (
            np.abs(observed.reshape(-1)[:, None] - predicted.points).argmin(1) if observed.size else np.zeros(0, int)
        )
        gaps = np.diff(predicted.points).min(initial=1.0)
        outside = observed.size and np.abs(observed.reshape(-1) - predicted.points[nearest]).max() > 1e-6 * gaps
        if not np.isfinite(observed).all():
            return np.zeros(len(probabilities)), probabilities, "invalid data: outcomes that are not finite"
        # an outcome that the law excludes has infinite Pearson distance; no chi-square covers it
        problem = "invalid data: an outcome outside the support" if outside else ""
        return np.bincount(nearest, minlength=len(probabilities)).astype(float), probabilities, problem
    probabilities = np.asarray(predicted, float)
    require(
        observed.ndim == 2 and probabilities.shape == observed.shape[1:],
        f"predicted must be a Discrete law or a vector as long as counts {observed.shape}, got {probabilities.shape}",
    )
    require(abs(probabilities.sum() - 1) < 1e-9, f"predicted probabilities must sum to 1, got {probabilities.sum()}")
    problem = (
        "" if np.isfinite(observed).all() and (observed >= 0).all() else "invalid data: counts that are not counts"
    )
    return observed.sum(0), probabilities, problem


def _noncentrality_limits(statistic: float, df: int, alpha: float) -> tuple[float, float]:
    """Noncentralities at which the statistic is at its alpha quantile from above and from below."""

    def solve(tail, target: float) -> float:
        if tail(0.0) >= target:
            return 0.0
        high = statistic + 10.0
        while tail(high) < target:
            high *= 2
        return float(optimize.root_scalar(lambda shift: tail(shift) - target, bracket=(0.0, high)).root)

    lower = solve(lambda shift: stats.ncx2.sf(statistic, df, shift), alpha)
    upper = solve(lambda shift: 1 - stats.ncx2.cdf(statistic, df, shift), 1 - alpha)
    return lower, upper
