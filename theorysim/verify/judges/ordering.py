"""A lies below B: paired over seeds, with effect size and win rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from theorysim.errors import require
from theorysim.verify.claim import ALPHA, Case, Kind
from theorysim.verify.intervals import clopper_pearson, median_test
from theorysim.verify.judges._evidence import Evidence, decide, draws_of, invalid
from theorysim.verify.judges._functionals import heavy_tail, unusable
from theorysim.verify.primitive import interval, mean_test, p_values, trimmed_mean
from theorysim.verify.verdict import Judgement

TRIMMED_SEEDS = 32


@dataclass(frozen=True)
class Ordering:
    """The paired difference D = observed - predicted exceeds `at_least`, at every setting and component.

    `observed` is the larger side and `predicted` the smaller one, seed by seed (a baseline on the same seeds, given as
    an input of the check), or `observed` holds the differences and `predicted` is 0. A chain A < B < C is two
    components.

    functional: mean (Hall's transform when `skewed`), 20 % trimmed mean (from 32 seeds), or win (the sign test of the
        median; for heavy tails, from 13 seeds).
    at_least: least difference claimed; 0 for a strict order.
    """

    functional: Literal["mean", "trimmed", "win"] = "mean"
    at_least: float = 0.0
    skewed: bool = False
    kind: Kind = "ordering"

    def __post_init__(self) -> None:
        require(self.at_least >= 0, f"at_least must be at least 0, got {self.at_least}")
        allowed = ("mean", "trimmed", "win")
        require(self.functional in allowed, f"functional must be one of {', '.join(allowed)}, got {self.functional!r}")

    def __call__(self, cases: Sequence[Case], alpha: float = ALPHA) -> Judgement:
        """Verified iff every difference is shown to exceed `at_least`, refuted iff some one is shown to fall short."""
        evidence = []
        for case in cases:
            draws = draws_of(case)
            for difference, label in zip(draws.observed - draws.predicted, draws.labels, strict=True):
                evidence.append(self._evidence(difference, label, alpha))
        return decide(evidence, self.kind, alpha, absolute=True)

    def _evidence(self, difference: np.ndarray, label: str, alpha: float) -> Evidence:
        seeds = len(difference)
        # the sign test is defined for infinite differences
        problem = unusable(np.nan_to_num(difference, nan=np.nan) if self.functional == "win" else difference)
        if problem:
            return invalid(label, problem, self.at_least, seeds)
        se, df = None, None
        if self.functional == "mean":
            test = mean_test(difference, self.at_least, math.inf, alpha, hall=self.skewed)
            estimate, lower, upper, p = test.estimate, test.lower, test.upper, test.p
            se, df = float(test.se), seeds - 1
            problem = heavy_tail(float(test.skewness), seeds) if self.skewed else ""
        elif self.functional == "trimmed":
            estimate, spread, df = trimmed_mean(difference)
            p = p_values(estimate, spread, df, self.at_least, math.inf)
            lower, upper = interval(estimate, spread, df, alpha)
            se = float(spread)
            problem = "" if seeds >= TRIMMED_SEEDS else f"a trimmed mean needs {TRIMMED_SEEDS} seeds, got {seeds}"
        else:
            test = median_test(difference, self.at_least, math.inf, alpha)
            estimate, lower, upper, p = test.estimate, test.lower, test.upper, test.p
        if se == 0:
            problem = "invalid data: no spread between seeds"
        wins = int(np.sum(difference > self.at_least))
        with np.errstate(invalid="ignore"):  # infinite differences have no sd
            sd = float(difference.std(ddof=1))
        limits = clopper_pearson(wins, seeds, alpha)
        return Evidence(
            label,
            self.at_least,
            float(estimate),
            (float(lower), float(upper)),
            (self.at_least, math.inf),
            float(p.verified),
            float(p.refuted),
            se=se,
            df=df,
            seeds=seeds,
            problem=problem,
            gates={
                "effect size (mean/sd)": float(difference.mean()) / sd if sd > 0 else math.nan,
                "win rate": wins / seeds,
                "win rate limits": (float(limits[0]), float(limits[1])),
                "skewness": float(stats.skew(difference)) if sd > 0 else math.nan,
            },
        )
