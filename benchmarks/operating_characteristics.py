"""Error rates and powers of the judges on toy claims with known truth, beside the figures they were specified with.

    python benchmarks/operating_characteristics.py --quick

Every rate is measured on the judges' own code. A figure is `ok` when the 99.9 % Clopper-Pearson interval of the
measured rate meets the specified figure, given its digits and its own Monte Carlo error. `chosen` marks rows that are
no check: a constant or rule that the specification leaves open was chosen here with the figure in view. Rows without a
figure carry no flag.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from scipy import special, stats

from theorysim.verify import (
    ALPHA,
    Bound,
    Case,
    Identity,
    extrapolation,
    intervals,
    laws,
    primitive,
    rounding,
    transition,
)
from theorysim.verify.judges import law as law_judges


@dataclass(frozen=True)
class Options:
    """Which rows, and how often.

    repetitions: of the rows that simulate one claim at a time; vectorised rows take 100 times as many.
    quick: 300 repetitions.
    seed: of all random numbers.
    only: rows whose id contains this.
    """

    repetitions: int = 4000
    quick: bool = False
    seed: int = 0
    only: str = ""


@dataclass(frozen=True)
class Rate:
    """A measured rate and the figure it is compared with.

    expected: specified figure; `digits` of it were given (half a unit is granted); None where there is none.
    specified_on: repetitions on which the specified figure rests; None where it is exact.
    at_most: the figure is an upper bound.
    chosen: something in the toy or the rule was chosen with the figure in view, so that agreement shows nothing.
    """

    row: str
    what: str
    events: Any
    repetitions: int
    expected: float | None = None
    half_unit: float = 0.0
    specified_on: int | None = None
    at_most: bool = False
    chosen: bool = False

    @property
    def measured(self) -> float:
        """Fraction of the repetitions."""
        return self.events / self.repetitions

    @property
    def flag(self) -> str:
        """ok, DIFFERS or chosen; empty without a figure."""
        if self.expected is None:
            return ""
        if self.chosen:
            return "chosen"
        lower, upper = intervals.clopper_pearson(round(self.events), self.repetitions, 5e-4)
        if self.at_most:
            return "ok" if lower <= self.expected + self.half_unit else "DIFFERS"
        slack = self.half_unit
        if self.specified_on is not None:
            spread = max(self.expected * (1 - self.expected), 1 / self.specified_on) / self.specified_on
            slack += 3.3 * math.sqrt(spread)
        return "ok" if lower - slack <= self.expected <= upper + slack else "DIFFERS"


Rows = Iterator[Rate]


def verdicts(p: primitive.PValues, alpha: float = ALPHA) -> tuple[int, int]:
    """Numbers verified and refuted."""
    return int(np.sum(p.verified <= alpha)), int(np.sum(p.refuted <= alpha))


def normal_means(rng: np.random.Generator, mean: np.ndarray, sd: np.ndarray, seeds: int, repetitions: int):
    """Sample means and variances of the means for normal seeds, drawn from their exact joint law."""
    se = sd / math.sqrt(seeds)
    means = mean + se * rng.standard_normal((repetitions, len(sd)))
    return means, se**2 * rng.chisquare(seeds - 1, (repetitions, len(sd))) / (seeds - 1)


def primitive_rows(n: int, rng: np.random.Generator) -> Rows:
    """Judge 0 on normal seeds."""
    n *= 250

    def run(seeds: int, theta: float, ratio: float, quantile: bool = False):
        means, variances = normal_means(rng, np.array([theta]), np.array([math.sqrt(seeds) / ratio]), seeds, n)
        df = 1e9 if quantile else seeds - 1
        return verdicts(primitive.p_values(means[:, 0], np.sqrt(variances[:, 0]), df, -1.0, 1.0))

    factors = primitive.design_factors(32)
    yield Rate("primitive", "true, se = tau/k_V, 32 seeds: V", run(32, 0.0, factors.verify)[0], n, 0.99, 5e-4)
    yield Rate("primitive", "2 tau off, se = tau/k_R95: R", run(32, 2.0, factors.refute_95)[1], n, 0.95, 5e-4)
    for seeds, expected in ((32, (2.0e-4, 2.1e-4)), (8, (1.9e-4, 2.1e-4))):
        v, r = run(seeds, 1.0, 8.0)
        yield Rate("primitive", f"edge, {seeds} seeds: V", v, n, expected[0], 5e-6, 1_000_000)
        yield Rate("primitive", f"edge, {seeds} seeds: R", r, n, expected[1], 5e-6, 1_000_000)
    yield Rate("primitive", "control, normal quantile, 8 seeds, edge: V", run(8, 1.0, 8.0, True)[0], n, 4.7e-3, 5e-5)


def skewed_rows(n: int, rng: np.random.Generator) -> Rows:
    """One-sided worst tail of the mean of exponential and lognormal data, Student and Hall with its gate."""
    figures = {
        ("exponential", 128): (1.8e-3, 3.5e-4),
        ("exponential", 512): (7e-4, 2.3e-4),
        ("exponential", 64): (None, 4.9e-4),
        ("lognormal", 128): (7.5e-3, 1.0e-3),
        ("lognormal", 512): (2.7e-3, 5.5e-4),
    }
    repetitions = n * 15
    for (name, seeds), (plain, hall) in figures.items():
        tails = np.zeros((2, 2), int)
        for block in np.array_split(np.arange(repetitions), max(1, repetitions * seeds // 2_000_000)):
            size = (len(block), seeds)
            data = rng.exponential(size=size) if name == "exponential" else rng.lognormal(size=size)
            mu = 1.0 if name == "exponential" else math.exp(0.5)
            sample = primitive.moments(data)
            passed = np.abs(sample.skewness) <= 0.2 * math.sqrt(seeds)
            for k, pivot in enumerate((primitive.pivot(sample.mean, sample.se, mu), primitive.hall_pivot(sample, mu))):
                gate = passed if k else True
                tails[k] += [
                    np.sum(gate & (stats.t.sf(pivot, seeds - 1) <= ALPHA)),
                    np.sum(gate & (stats.t.cdf(pivot, seeds - 1) <= ALPHA)),
                ]
        if plain is not None:
            yield Rate("skewed", f"{name}, {seeds} seeds, Student", tails[0].max(), repetitions, plain, 5e-5, 60_000)
        yield Rate("skewed", f"{name}, {seeds} seeds, Hall with gate", tails[1].max(), repetitions, hall, 5e-6, 60_000)


def limit_hull(rng, truth: Callable, sizes, sd, orders, seeds, n, alpha=ALPHA, models=None):
    """Numbers verified and refuted about 1 within 5 %, by the hull or by the given models."""
    sizes = np.asarray(sizes, float)
    means, variances = normal_means(rng, truth(sizes), sd, seeds, n)
    models = models or extrapolation.limit_models(tuple(np.log(sizes)), orders)
    fits = [extrapolation.independent_sizes(m, means, variances, np.full(len(sizes), float(seeds))) for m in models]
    return verdicts(extrapolation.hull(fits, 0.95, 1.05, alpha).p, alpha)


def plain_model(sizes, order: float, first: int = 0) -> extrapolation.LinearModel:
    """theta + A n^-order on the sizes from `first` on, with its lack-of-fit gate."""
    sizes = np.asarray(sizes, float)
    columns = np.stack([np.ones_like(sizes), sizes**-order], 1)
    return extrapolation.linear_model("M1", columns, sizes**-0.5, np.arange(len(sizes)) >= first)


def largest_only(sizes) -> extrapolation.LinearModel:
    """The value at the largest size, taken for the limit."""
    used = np.arange(len(sizes)) == len(sizes) - 1
    return extrapolation.linear_model("largest", np.ones((len(sizes), 1)), np.ones(len(sizes)), used)


def limit_rows(n: int, rng: np.random.Generator) -> Rows:
    """Limits with a known order, two strengths of the next one."""
    sizes, seeds = (100, 200, 400, 800), 32
    sd = 0.56 / np.sqrt(sizes)
    n *= 10

    def series(theta: float, second: float) -> Callable:
        return lambda size: theta + 10 / size + second / size**2

    table = {
        "limit-known": (500, 5e-4, True, {"M1 on all sizes": 0.040, "M1 without the smallest": 0.003}),
        "limit-strong-next": (
            -1500,
            3e-4,
            False,
            {"M1 on all sizes": 0.84, "M1 without the smallest": 0.05, "largest size only": 0.19},
        ),
    }
    models = {
        "M1 on all sizes": plain_model(sizes, 1.0),
        "M1 without the smallest": plain_model(sizes, 1.0, 1),
        "largest size only": largest_only(sizes),
    }
    for row, (second, edge, at_most, controls) in table.items():
        v, _ = limit_hull(rng, series(1.0, second), sizes, sd, (1.0,), seeds, n)
        yield Rate(row, "true: V", v, n, 0.998, 5e-4, 4000)
        edges = np.array(
            [limit_hull(rng, series(theta, second), sizes, sd, (1.0,), seeds, n) for theta in (0.95, 1.05)]
        ).max(0)
        for what, count in zip("VR", edges, strict=True):
            yield Rate(row, f"edge: {what}", count, n, edge, 5e-5, 4000, at_most)
        _, r = limit_hull(rng, series(1.1, second), sizes, sd, (1.0,), seeds, n)
        yield Rate(row, "2 tau off: R", r, n, 0.998, 5e-4, 4000)
        if second > 0:
            at = [limit_hull(rng, series(t, second), sizes, sd, (1.0,), seeds, n, 0.01) for t in (0.95, 1.05)]
            for what, count, figure in zip("VR", np.array(at).max(0), (0.009, 0.010), strict=True):
                yield Rate(row, f"edge at alpha .01: {what}", count, n, figure, 5e-4, 8000)
        for name, figure in controls.items():
            counts = [
                limit_hull(rng, series(t, second), sizes, sd, (1.0,), seeds, n, models=[models[name]])[0]
                for t in (0.95, 1.05)
            ]
            unit = 5e-3 if figure > 0.01 else 5e-4
            yield Rate(
                row, f"control, {name}, edge: V", max(counts), n, figure, unit, 4000, chosen=name == "M1 on all sizes"
            )


def limit_range_rows(n: int, rng: np.random.Generator) -> Rows:
    """A range of orders; spread by the design rule for the worst model, a correction of .03 at the smallest size."""
    sizes, seeds = np.array([100.0, 200, 400, 800]), 32
    n *= 10
    models = extrapolation.limit_models(tuple(np.log(sizes)), (0.5, 1.0))
    worst = max(math.sqrt(np.sum(m.weights**2 / sizes)) for m in models)
    sd = 0.05 / primitive.design_factors(128).verify / worst * math.sqrt(seeds) / np.sqrt(sizes)
    for true in (0.5, 0.75, 1.0):

        def series(theta: float, true: float = true) -> Callable:
            return lambda size: theta + 0.03 * (size / 100) ** -true

        def run(theta: float, models=None, series=series, alpha=ALPHA):
            return limit_hull(rng, series(theta), sizes, sd, (0.5, 1.0), seeds, n, alpha, models)

        yield Rate("limit-range", f"true a = {true}: V", run(1.0)[0], n, 0.986, 1.5e-3, 4000, chosen=True)
        edges = np.array([run(0.95), run(1.05)]).max(0)
        yield Rate("limit-range", f"edge, a = {true}: V", edges[0], n, 3e-4, 5e-5, 4000, True)
        yield Rate("limit-range", f"edge, a = {true}: R", edges[1], n, 3e-4, 5e-5, 4000, True)
        yield Rate("limit-range", f"2 tau off, a = {true}: R", run(1.1)[1], n, 0.992, 5e-3, 4000, chosen=True)
        if true < 1:
            fixed = extrapolation.limit_models(tuple(np.log(sizes)), (1.0,))
            count = max(run(t, fixed)[0] for t in (0.95, 1.05))
            yield Rate("limit-range", f"control, fixed a = 1, true {true}, edge: V", count, n)


def rate_fits(rng, b_coefficient, b, n, relative_se=0.0045, seeds=32):
    """Log means of 2 n^-1 (1 + B n^-b) and their variances, n = 64 ... 8192."""
    sizes = 64.0 * 2 ** np.arange(8)
    y = 2 / sizes * (1 + b_coefficient * sizes**-b)
    means, variances = normal_means(rng, y, relative_se * math.sqrt(seeds) * y, seeds, n)
    return np.log(sizes), extrapolation.log_means(means, variances), np.full(8, float(seeds))


def rate_rows(n: int, rng: np.random.Generator) -> Rows:
    """Exponents under a correction of an order declared in [.5, 1]."""

    def run(coefficient, b, centre, alpha=ALPHA):
        x, logs, seeds = rate_fits(rng, coefficient, b, n)
        fits = [
            extrapolation.small_correction(
                family, logs.value, x, lambda m: extrapolation.independent_sizes(m, logs.value, logs.variance, seeds)
            )
            for family in extrapolation.rate_models(tuple(x), (0.5, 1.0))
        ]
        return verdicts(extrapolation.hull(fits, centre - 0.05, centre + 0.05, alpha).p, alpha)

    for coefficient, b in ((0.0, 1.0), (3.0, 1.0), (3.0, 0.5), (-2.0, 0.5)):
        name = f"B = {coefficient:g}, b = {b:g}"
        yield Rate(
            "rate-corrected", f"{name}, true: V", run(coefficient, b, -1.0)[0], n, 0.987, 2.5e-3, 4000, chosen=b == 0.5
        )
        edges = np.array([run(coefficient, b, -0.95), run(coefficient, b, -1.05)]).max(0)
        yield Rate("rate-corrected", f"{name}, edge: V", edges[0], n, 3e-4, 5e-5, 4000, True)
        yield Rate("rate-corrected", f"{name}, edge: R", edges[1], n, 3e-4, 5e-5, 4000, True)
        edges = np.array([run(coefficient, b, -0.95, 0.01), run(coefficient, b, -1.05, 0.01)]).max(0)
        figure = 0.013 if (coefficient, b) == (3.0, 0.5) else 0.003
        yield Rate("rate-corrected", f"{name}, edge at alpha .01: V", edges[0], n, figure, 5e-4, 8000, chosen=b == 0.5)
        yield Rate(
            "rate-corrected",
            f"{name}, 2 tau off: R",
            run(coefficient, b, -1.1)[1],
            n,
            0.993,
            3.5e-3,
            4000,
            chosen=b == 0.5,
        )

    def control(decays, family, relative_se, centre, gate=False):
        x, logs, seeds = rate_fits(rng, 3.0, 0.5, n, relative_se)
        fits = []
        for first in family:
            columns = np.stack([np.ones(8), x, *(np.exp(-d * (x - x[0])) for d in decays)], 1)
            model = extrapolation.linear_model("control", columns, np.ones(8), np.arange(8) >= first, target=1)
            if not gate:
                model = model._replace(contrasts=model.contrasts[:0])
            fits.append(extrapolation.independent_sizes(model, logs.value, logs.variance, seeds))
        return fits, extrapolation.hull(fits, centre - 0.05, centre + 0.05, ALPHA)

    fits, found = control((), (0,), 0.0022, -1.0, gate=True)
    row = "rate-corrected"
    yield Rate(row, "control, 2 parameters at .22 %: bias x -1", -np.sum(fits[0].estimate + 1), n)
    yield Rate(row, "control, 2 parameters at .22 %: removed by the gate", np.sum(~found.survived), n, 1.0, 0, 4000)
    edge = max(verdicts(control((), (0, 4), 0.0022, c, gate=True)[1].p)[0] for c in (-0.95, -1.05))
    yield Rate(row, "control, {2 parameters, half} hull at .22 %, edge: V", edge, n, 0.97, 5e-3, 4000, chosen=True)
    edge = max(verdicts(control((0.5,), (0, 1), 0.0022, c)[1].p)[0] for c in (-0.95, -1.05))
    yield Rate(row, "control, {log n, n^-b} alone, edge: V", edge, n, 0.08, 5e-3, 4000)


def deterministic_rows(n: int, rng: np.random.Generator) -> Rows:
    """Misses of the model-error interval over random corrections."""
    n *= 250
    orders = (0.5, 1.0, 2.0)
    doubling = 2.0 ** np.array(orders)

    def run(start: int, low: float, high: float, slope: bool):
        sizes = start * 2.0 ** np.arange(5)
        x = np.log(sizes)
        b = rng.uniform(low, high, (n, 1))
        factor = 1 + rng.uniform(-3, 3, (n, 1)) * sizes**-b + rng.uniform(-3, 3, (n, 1)) * sizes ** (-2 * b)
        if not slope:
            return extrapolation.richardson(factor, extrapolation.limit_gauges(x, orders), doubling), 1.0
        factor = factor[(factor > 0.05).all(1)]
        slopes = extrapolation.local_slopes(x, np.log(factor) - x)
        return extrapolation.richardson(slopes, extrapolation.slope_gauges(x, orders), doubling), -1.0

    for start, width, single in ((4, 0.11, 0.006), (16, 0.018, 0.002)):
        found, truth = run(start, 0.5, 2.0, True)
        count = len(found.lower)
        missed = np.sum((found.lower > truth) | (found.upper < truth))
        yield Rate("deterministic", f"slope, from {start}: miss", missed, count, 0.0, 0, 1_000_000)
        widening = (found.extrapolated.min(-1) - found.lower) / 2
        lower, upper = found.lower + widening, found.upper - widening
        narrow = np.sum((lower > truth) | (upper < truth))
        yield Rate(
            "deterministic", f"slope, from {start}, widening factor 1: miss", narrow, count, single, 5e-4, 1_000_000
        )
        half = float(np.median(found.upper - found.lower) / 2)
        yield Rate("deterministic", f"slope, from {start}: median half-width (figure {width})", half * count, count)
        outside, truth = run(start, 0.3, 0.5, True)
        missed = np.sum((outside.lower > truth) | (outside.upper < truth))
        yield Rate(
            "deterministic", f"control, b in [.3, .5], from {start}: miss", missed, len(outside.lower), 0.205, 0.025
        )
        found, truth = run(start, 0.5, 2.0, False)
        missed = np.sum((found.lower > truth) | (found.upper < truth))
        yield Rate("deterministic", f"limit, from {start}: miss", missed, len(found.lower), 0.0, 0, 1_000_000)


def threshold_rows(n: int, rng: np.random.Generator) -> Rows:
    """Logistic locations .7 + n^-.5 of width .35 n^-.5, extrapolated."""
    sizes = np.array([250.0, 500, 1000, 2000])
    m, n = 400, max(n // 4, 100)
    estimates, variances = np.empty((n, 4)), np.empty((n, 4))
    for k, size in enumerate(sizes):
        width, location = 0.35 * size**-0.5, 0.7 + size**-0.5
        levels = location + width * np.linspace(-2, 2, 9)
        successes = rng.binomial(m, special.expit((levels - location) / width), (n, 9)).astype(float)
        for i in range(n):
            fit = transition.logistic_location(levels, successes[i], np.full(9, float(m)))
            estimates[i, k], variances[i, k] = fit.location, fit.se**2

    def run(centre, orders, alpha=ALPHA, models=None):
        models = models or extrapolation.limit_models(tuple(np.log(sizes)), orders)
        fits = [extrapolation.independent_sizes(f, estimates, variances, np.full(4, float(m))) for f in models]
        return verdicts(extrapolation.hull(fits, centre - 0.03, centre + 0.03, alpha).p, alpha)

    row, window = "threshold", (0.4, 0.67)
    yield Rate(row, "true: V", run(0.7, window)[0], n, 1.0, 5e-4, 8000, chosen=True)
    edges = np.array([run(c, window) for c in (0.67, 0.73)]).max(0)
    yield Rate(row, "edge: V", edges[0], n, 0.0, 0, 8000)
    yield Rate(row, "edge: R", edges[1], n, 0.0, 0, 8000)
    yield Rate(row, "2 tau off: R", min(run(c, window)[1] for c in (0.64, 0.76)), n, 1.0, 5e-4, 8000, chosen=True)
    edges = np.array([run(c, (0.5,), 0.01) for c in (0.67, 0.73)]).max(0)
    yield Rate(row, "nu known, edge at alpha .01: V", edges[0], n, 0.01, 0, 8000, True)
    yield Rate(row, "nu known, edge at alpha .01: R", edges[1], n, 0.01, 0, 8000, True)
    yield Rate(row, "a in [.33, 1]: V", run(0.7, (0.33, 1.0))[0], n, 0.963, 5e-4, 8000, chosen=True)
    fixed = max(run(c, None, models=[plain_model(sizes, 0.535, 1)])[0] for c in (0.67, 0.73))
    yield Rate(row, "control, a = .535 without the smallest size, edge: V", fixed, n)
    largest = max(run(c, None, models=[largest_only(sizes)])[0] for c in (0.67, 0.73))
    yield Rate(row, "control, largest size alone, edge: V", largest, n, 1.0, 5e-3, 8000)


def law_rows(n: int, rng: np.random.Generator) -> Rows:
    """A normal law at N = 16 000: distance alone, and with moments."""
    n = max(n // 4, 100)
    draws, tolerance = 16_000, 0.03
    normal = stats.norm()
    # a shift by d has sup distance 2 Phi(d/2) - 1
    edge, off = (2 * float(stats.norm.ppf((1 + d) / 2)) for d in (tolerance, 2 * tolerance))
    judge = law_judges.Law(tolerance=tolerance)

    def run(shift: float, scale: float):
        distances, statuses = np.empty(n), []
        for k in range(n):
            sample = rng.normal(shift, scale, draws)
            distances[k] = laws.cdf_distance(sample, normal)
            statuses.append(judge([Case(None, sample, normal)]).status)
        p = primitive.PValues(*law_judges.distance_p_values(distances, draws, tolerance))
        return verdicts(p), statuses.count("verified"), statuses.count("refuted")

    (v, _), both, _ = run(0.0, 1.0)
    yield Rate("law", "distance alone, true: V", v, n, 0.99, 5e-3, 2000)
    yield Rate("law", "with moments, true: V", both, n, 0.986, 5e-4, 2000)
    (v, r), *_ = run(edge, 1.0)
    yield Rate("law", "distance alone, edge: V", v, n, 0.0, 0, 2000)
    yield Rate("law", "distance alone, edge: R", r, n, 0.0, 0, 2000)
    yield Rate("law", "distance alone, 2 tau off: R", run(off, 1.0)[0][1], n, 1.0, 5e-4, 2000)
    (_, r), _, refuted = run(0.0, 1.1)
    yield Rate("law", "scale 1.1: R", refuted, n, 1.0, 5e-4, 2000)
    yield Rate("law", "control, distance alone, scale 1.1: R", r, n, 0.0, 0, 2000)
    (_, r), _, refuted = run(0.1, 1.0)
    yield Rate("law", "shift .1 sd: R", refuted, n, 0.995, 5e-4, 2000)
    yield Rate("law", "control, distance alone, shift .1 sd: R", r, n, 0.07, 5e-3, 2000)


def clustered_rows(n: int, rng: np.random.Generator) -> Rows:
    """Draws clustered by instance, normal with intraclass correlation .2, alpha = .01."""
    n, tolerance, alpha = max(n // 4, 200), 0.05, 0.01
    normal = stats.norm()
    edge, off = (2 * float(stats.norm.ppf((1 + d) / 2)) for d in (tolerance, 2 * tolerance))

    def sample(shift: float, instances: int, each: int, icc: float):
        between = math.sqrt(icc) * rng.standard_normal((instances, 1))
        return shift + between + math.sqrt(1 - icc) * rng.standard_normal((instances, each))

    def run(shift: float):
        distances, effects = np.empty(n), np.empty(n)
        for k in range(n):
            draws = sample(shift, 400, 20, 0.2)
            distances[k], effects[k] = laws.cdf_distance(draws.reshape(-1), normal), laws.design_effect(draws)
        naive = law_judges.distance_p_values(distances, 8000, tolerance)
        fair = law_judges.distance_p_values(distances, 8000 / effects, tolerance)
        return verdicts(primitive.PValues(*fair), alpha), verdicts(primitive.PValues(*naive), alpha)

    row = "law-clustered"
    yield Rate(row, "true: V", run(0.0)[0][0], n, 0.69, 5e-3, 2000)
    fair, naive = run(edge)
    yield Rate(row, "edge: V", fair[0], n, 0.0, 0, 2000)
    yield Rate(row, "edge: R", fair[1], n, 0.002, 5e-4, 2000)
    yield Rate(row, "2 tau off: R", run(off)[0][1], n, 0.975, 5e-4, 2000)
    yield Rate(row, "control, eps(N), edge: V", naive[0], n, 0.013, 5e-4, 2000)
    yield Rate(row, "control, eps(N), edge: R", naive[1], n, 0.061, 5e-4, 2000)
    for icc, figure in ((0.1, 0.23), (0.5, 0.68)):
        band = intervals.dkw_band(10_000, alpha)
        miss = sum(laws.cdf_distance(sample(0.0, 200, 50, icc).reshape(-1), normal) > band for _ in range(n))
        yield Rate(row, f"control, eps(N), ICC {icc}: noncoverage", miss, n, figure, 5e-3, 2000)


def pmf_rows(n: int, rng: np.random.Generator) -> Rows:
    """Twelve equal bins, perturbed along one random direction; and Bin(11, .3) against .33."""
    n *= 100
    bins = np.full(12, 1 / 12)
    direction = np.where(np.arange(12) % 2 == 0, 1.0, -1.0)

    def run(expected, truth, draws, tolerance=0.1):
        counts = rng.multinomial(draws, truth, n)
        statistic = (np.square(counts - draws * expected) / (draws * expected)).sum(1)
        return verdicts(primitive.PValues(*law_judges.chi_square_p_values(statistic, len(expected), draws, tolerance)))

    yield Rate("pmf", "N = 2000, true: V", run(bins, bins, 2000)[0], n, 0.125, 5e-4, 400_000)
    yield Rate("pmf", "N = 5000, true: V", run(bins, bins, 5000)[0], n, 0.95, 5e-3, 400_000)
    yield Rate("pmf", "N = 10 000, true: V", run(bins, bins, 10_000)[0], n, 1.0, 5e-4, 400_000)
    for draws in (2000,):
        v, r = run(bins, bins * (1 + 0.1 * direction), draws)
        yield Rate("pmf", f"N = {draws}, edge: V", v, n, 2.1e-4, 5e-6, 400_000)
        yield Rate("pmf", f"N = {draws}, edge: R", r, n, 1.8e-4, 5e-6, 400_000)
    law, shifted = (stats.binom.pmf(np.arange(12), 11, p) for p in (0.3, 0.33))
    for draws in (2000, 10_000):
        merged = laws.merged_bins(law * draws, 20)
        _, r = run(np.bincount(merged, law), np.bincount(merged, shifted), draws)
        yield Rate("pmf", f"N = {draws}, Bin(11, .33) for Bin(11, .3): R", r, n)


def ordering_rows(n: int, rng: np.random.Generator) -> Rows:
    """64 paired differences, shifted by 1 or by 0: normal, t with 2 degrees of freedom, Cauchy."""
    seeds = 64
    powers = {"normal": (1.0, 0.9997, 0.99), "t2": (0.49, 0.95, 0.88), "Cauchy": (0.02, 0.72, 0.68)}
    draw = {
        "normal": rng.standard_normal,
        "t2": lambda size: rng.standard_t(2, size),
        "Cauchy": rng.standard_cauchy,
    }

    def run(values: np.ndarray):
        mean, se, df = primitive.trimmed_mean(values)
        wins = (values > 0).sum(-1)
        return {
            "mean": primitive.mean_test(values, 0.0, math.inf, ALPHA).p.verified,
            "trimmed": primitive.p_values(mean, se, df, 0.0, math.inf).verified,
            "sign": stats.binom.sf(wins - 1, seeds, 0.5),
        }

    repetitions = n * 10
    for name, figures in powers.items():
        found = run(draw[name]((repetitions, seeds)) + 1)
        for (kind, p), figure in zip(found.items(), figures, strict=True):
            unit = 5e-5 if figure == 0.9997 else 5e-3
            yield Rate("ordering", f"{name}, {kind}: V", np.sum(p <= ALPHA), repetitions, figure, unit, 20_000)
    counts: dict[str, int] = dict.fromkeys(("mean", "trimmed", "sign"), 0)
    blocks = 15
    for _ in range(blocks):
        for kind, p in run(rng.standard_normal((repetitions, seeds))).items():
            counts[kind] += int(np.sum(p <= ALPHA))
    for (kind, count), figure in zip(counts.items(), (2.2e-4, 2.8e-4, 1.6e-4), strict=True):
        yield Rate("ordering", f"normal, edge, {kind}: V", count, blocks * repetitions, figure, 5e-6, 600_000)


def bound_rows(n: int, rng: np.random.Generator) -> Rows:
    """The rule of three, and a true tight inequality in float32."""
    n *= 250
    for mass, figure, what in ((1e-3, 2e-4, "no violation seen at mass 1e-3"), (5.4e-4, 0.99, "found at mass 5.4e-4")):
        unseen = np.sum(rng.binomial(8513, mass, n) == 0)
        yield Rate("bound", what, unseen if mass == 1e-3 else n - unseen, n, figure, 5e-6 if mass == 1e-3 else 5e-4)
    # Cauchy-Schwarz for nearly parallel vectors: |<x, y>| <= |x| |y|, relative slack about 1e-7
    count = 2000
    x = rng.standard_normal((count, 16))
    y = x * rng.uniform(0.5, 2, (count, 1)) + 3e-4 * rng.standard_normal((count, 16))
    sides = {}
    for dtype in (np.float32, np.float64, np.longdouble):
        a, b = x.astype(np.float32).astype(dtype), y.astype(np.float32).astype(dtype)
        lhs, rhs = np.abs((a * b).sum(1)), np.sqrt((a * a).sum(1)) * np.sqrt((b * b).sum(1))
        sides[dtype] = lhs, rhs
    lhs, rhs = sides[np.float32]
    yield Rate("bound", "tight inequality, float32: negative slack", np.sum(rhs < lhs), count)
    for factor, name in ((1.0, "tight inequality"), (1 - 1e-5, "right side x (1 - 1e-5)")):
        for first, second, unit in ((np.float32, np.float64, 2.0**-24), (np.float64, np.longdouble, 2.0**-53)):
            certified = 0
            for k in range(count):
                case = Case(
                    "toy",
                    sides[first][0][k : k + 1],
                    (sides[first][1] * first(factor))[k : k + 1],
                    replay=lambda _, k=k, s=second, f=factor: (sides[s][0][k], sides[s][1][k] * s(f)),
                )
                certified += Bound(rounding=18 * unit)([case]).status == "refuted"
            figure = {"tight inequality": 0.0}.get(name)
            yield Rate("bound", f"{name}, {first.__name__}: certified violation", certified, count, figure)


def woodbury(u, v, d, dtype):
    """Trace of (D + U V')^-1, directly and by the Woodbury identity."""
    u, v, d = (a.astype(dtype) for a in (u, v, d))
    direct = np.trace(np.linalg.inv(np.diag(d) + u @ v.T))
    scaled = u / d[:, None]
    small = np.eye(u.shape[1], dtype=dtype) + v.T @ scaled
    other = np.sum(1 / d) - np.trace(scaled @ np.linalg.solve(small, (v / d[:, None]).T))
    return direct, other


def log_sum_exp(z, shift, dtype):
    """log sum exp of shifted values, and the shift plus that of the unshifted ones."""
    z, shift = z.astype(dtype), dtype(shift)
    moved = z + shift
    top = moved.max()
    return top + np.log(np.exp(moved - top).sum()), shift + np.log(np.exp(z).sum())


def identity_rows(n: int, rng: np.random.Generator) -> Rows:
    """Badly scaled Woodbury and shifted logsumexp: a true identity, and planted distortions."""
    inputs = min(n, 1500) // 2
    for name in ("woodbury", "logsumexp"):
        left, right, floor = np.empty(inputs), np.empty(inputs), np.empty(inputs)
        for k in range(inputs):
            evaluate: Callable[..., Any]
            if name == "woodbury":
                d = 10.0 ** rng.uniform(-2, 2, 8)
                args = [rng.standard_normal((8, 2)), rng.standard_normal((8, 2)), d]
                evaluate = woodbury
            else:
                args, evaluate = [rng.standard_normal(8), np.array(10.0 ** rng.uniform(0, 4))], log_sum_exp
            tried = [rounding.jittered(np.asarray(a), rng) for a in args]
            points = list(zip(*tried, strict=True))
            single = np.array([evaluate(*point, np.float32) for point in points])
            double = np.array([evaluate(*point, np.float64) for point in points])
            floor[k] = rounding.rounding_floor(single, double, np.abs(double).max()).max()
            left[k], right[k] = evaluate(*args, np.float64)
        counting = floor <= 1e-10
        yield Rate("identity", f"{name}: inputs that count", counting.sum(), inputs, 0.98, 0.02, 750)
        for plant in (0.0, 1e-11, 1e-8, 1e-6, 1e-3):
            judge = Identity(tolerance=1e-9, at_least=1)
            sign = "refuted" if plant > 1e-9 else "verified"
            cases = [
                Case(name, left[k : k + 1] * (1 + plant), right[k : k + 1], floor=floor[k : k + 1])
                for k in range(inputs)
            ]
            count = sum(judge([case]).status == sign for case, counts in zip(cases, counting, strict=True) if counts)
            yield Rate("identity", f"{name}, plant {plant:g}: {sign}", count, int(counting.sum()), 1.0, 0, 1500)
        naive = np.abs(left - right) > 64 * 2.0**-53 * np.maximum(np.abs(left), np.abs(right))
        yield Rate("identity", f"control, {name}: fails 64 u without a floor", naive.sum(), inputs)


def sequential_rows(n: int, rng: np.random.Generator) -> Rows:
    """Nine looks against a fixed number of seeds, sigma/tau = 5."""
    n = max(n // 4, 200)
    spread = 5.0

    def paths(theta, looks, alpha, repetitions):
        total, square, seen = np.zeros(repetitions), np.zeros(repetitions), 0
        verdict, cost = np.zeros(repetitions, int), np.full(repetitions, looks[-1])
        for size in looks:
            fresh = theta + spread * rng.standard_normal((repetitions, size - seen))
            total, square, seen = total + fresh.sum(1), square + np.square(fresh).sum(1), size
            mean = total / size
            se = np.sqrt((square - size * mean**2) / (size - 1) / size)
            p = primitive.p_values(mean, se, size - 1, -1.0, 1.0)
            new = (p.verified <= alpha).astype(int) - (p.refuted <= alpha)
            first = (verdict == 0) & (new != 0)
            verdict[first], cost[first] = new[first], size
        return verdict, cost

    planned = primitive.seeds_for(spread)[0]
    looks = intervals.look_sizes(planned)
    for theta, name, sign, figure, mean_cost in ((0.0, "true", 1, 1.0, 0.78), (2.0, "2 tau off", -1, 1.0, 0.56)):
        verdict, cost = paths(theta, looks, ALPHA / len(looks), n)
        yield Rate("sequential", f"{name}: {'VR'[sign < 0]}", np.sum(verdict == sign), n, figure, 5e-5, 4000)
        yield Rate("sequential", f"{name}: mean cost / n_F (figure {mean_cost})", cost.sum() / planned, n)
    loose = 0.01
    low = [max(2, k) for k in looks]
    verdict, _ = paths(1.0, low, loose / len(looks), n * 4)
    yield Rate("sequential", "edge at alpha .01: V", np.sum(verdict == 1), n * 4, 0.006, 5e-4, 4000)
    yield Rate("sequential", "edge at alpha .01: R", np.sum(verdict == -1), n * 4, 0.006, 5e-4, 4000)
    every = list(range(looks[0], looks[-1] + 1))
    verdict, _ = paths(1.0, every, loose, n)
    for what, sign in (("V", 1), ("R", -1)):
        count = np.sum(verdict == sign)
        yield Rate("sequential", f"control, peeking at every seed, edge at .01: {what}", count, n, 0.105, 0.015)


def holm_rows(n: int, rng: np.random.Generator) -> Rows:
    """Reports of 250 claims, 32 seeds, se = tau/k_V."""
    df, claims = 31, 250
    k = primitive.design_factors(32).verify
    n *= 2

    def report(theta: np.ndarray, correlation: float = 0.0):
        z = math.sqrt(correlation) * rng.standard_normal((n, 1)) + math.sqrt(1 - correlation) * rng.standard_normal(
            (n, claims)
        )
        se = np.sqrt(rng.chisquare(df, (n, claims)) / df) / k
        return primitive.p_values(theta + z / k, se, df, -1.0, 1.0)

    edge = np.ones(claims)
    for correlation, figures in ((0.0, (0.050, 0.049)), (0.5, (0.022, 0.023))):
        p = report(edge, correlation)
        for what, values, figure in zip("VR", p, figures, strict=True):
            wrong = intervals.holm(values).any(1).sum()
            yield Rate(
                "holm",
                f"all at the edge, correlation {correlation:g}: any wrong {what}",
                wrong,
                n,
                figure,
                5e-4,
                20_000,
            )
    theta = np.concatenate([np.zeros(200), np.ones(25), np.full(25, 2.0)])
    p = report(theta)
    verified, refuted = intervals.holm(p.verified), intervals.holm(p.refuted)
    # for claims at the edge either verdict is an error of its family; the others are wrong on their own side
    wrong = (verified[:, 200:].any(1).sum(), refuted[:, :225].any(1).sum())
    for what, count, figure in zip("VR", wrong, (0.023, 0.005), strict=True):
        yield Rate("holm", f"200 true, 25 edge, 25 off: any wrong {what}", count, n, figure, 5e-4, 20_000)
    yield Rate("holm", "true claims verified, of 200", verified[:, :200].sum(), n * 200, 199.5 / 200, 5e-4, 20_000)
    plain = p.verified[:, :200] <= ALPHA
    yield Rate("holm", "true claims verified by Bonferroni, of 200", plain.sum(), n * 200, 198.0 / 200, 5e-4, 20_000)


def units_rows(n: int, rng: np.random.Generator) -> Rows:
    """Two-sided noncoverage of the mean at nominal .02, and the ratio of two means at one-sided .01."""
    repetitions = n * 10
    clusters = math.sqrt(0.2) * rng.standard_normal((repetitions, 8, 1))
    draws = clusters + math.sqrt(0.8) * rng.standard_normal((repetitions, 8, 50))

    def miss(values: np.ndarray, level: float = 0.02) -> int:
        sample = primitive.moments(values)
        return int(np.sum(np.abs(sample.mean / sample.se) > stats.t.isf(level / 2, sample.seeds - 1)))

    yield Rate("units", "8 clusters, t on cluster means", miss(draws.mean(2)), repetitions, 0.020, 5e-4, 40_000)
    yield Rate(
        "units",
        "control, 8 clusters of 50, iid",
        miss(draws.reshape(repetitions, -1)),
        repetitions,
        0.49,
        5e-3,
        40_000,
        chosen=True,
    )
    phi, length = 0.9, 2000
    series = np.empty((n, length))
    series[:, 0] = rng.standard_normal(n) / math.sqrt(1 - phi**2)
    for t in range(1, length):
        series[:, t] = phi * series[:, t - 1] + rng.standard_normal(n)
    yield Rate("units", "AR(1) .9, 20 batch means", miss(primitive.batch_means(series).values), n, 0.023, 5e-4, 4000)
    yield Rate("units", "control, AR(1) .9, iid", miss(series), n, 0.59, 5e-3, 4000)
    # gamma(11): the mean of the ratios is 1.1 times the ratio of the means
    truth = 1.0
    a, b = rng.gamma(11, size=(2, repetitions, 12))
    test = primitive.ratio_test(a, b, -math.inf, truth, 0.01)
    upper = max(np.sum(test.p.verified <= 0.01), np.sum(test.p.refuted <= 0.01))
    yield Rate("units", "ratio, 12 seeds, one-sided .01: linear statistic", upper, repetitions)
    delta = (test.estimate - truth) / test.se
    quantile = stats.t.isf(0.01, 11)
    worst = max(np.sum(delta > quantile), np.sum(delta < -quantile))
    yield Rate("units", "control, ratio by the delta method", worst, repetitions)


ROWS: dict[str, Callable[[int, np.random.Generator], Rows]] = {
    "primitive": primitive_rows,
    "skewed": skewed_rows,
    "limit": limit_rows,
    "limit-range": limit_range_rows,
    "rate-corrected": rate_rows,
    "deterministic": deterministic_rows,
    "threshold": threshold_rows,
    "law": law_rows,
    "law-clustered": clustered_rows,
    "pmf": pmf_rows,
    "ordering": ordering_rows,
    "bound": bound_rows,
    "identity": identity_rows,
    "sequential": sequential_rows,
    "holm": holm_rows,
    "units": units_rows,
}


def main(options: Options) -> None:
    """Print the table."""
    repetitions = 300 if options.quick else options.repetitions
    console = Console(width=120)
    table = Table(title=f"Operating characteristics, {repetitions} repetitions")
    for column in ("row", "quantity", "measured", "figure", "repetitions", ""):
        table.add_column(column, justify="left" if column in ("row", "quantity") else "right")
    differing = 0
    for name, rows in ROWS.items():
        if options.only not in name:
            continue
        start = time.perf_counter()
        for rate in rows(repetitions, np.random.default_rng([options.seed, len(name), *name.encode()])):
            figure = "" if rate.expected is None else f"{'<= ' if rate.at_most else ''}{rate.expected:.4g}"
            table.add_row(rate.row, rate.what, f"{rate.measured:.4g}", figure, str(rate.repetitions), rate.flag)
            differing += rate.flag == "DIFFERS"
        if console.is_terminal:
            console.log(f"{name}: {time.perf_counter() - start:.1f} s")
        table.add_section()
    console.print(table)
    console.print(f"{differing} figures differ")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
