"""The paper's inequalities as properties: no admissible instance, however contrived, may violate them.

Trajectories of 320 steps, in float64. A suspected violation is measured again in extended precision before it counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest
from property_instances import (
    NAMES,
    TIMES,
    Arrays,
    Recipe,
    batches,
    compiled,
    instance,
    stable_phase,
    stable_phase_again,
    stack,
    try_all,
)

from theorysim.kernels.gradient_descent import init, step
from theorysim.papers.large_stepsize_gd import measurements, reference, theory

T = np.asarray(TIMES[1:])
EXTENDED = float(np.finfo(np.longdouble).eps)


class Side(NamedTuple):
    """observed <= bound, each of shape (instances, ...); `rounding` is absolute, and NaN anywhere is a violation."""

    observed: np.ndarray
    bound: np.ndarray
    rounding: np.ndarray | float = 0.0

    def violated(self) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            holds = self.observed <= self.bound + self.rounding
        return ~np.asarray(holds).reshape(len(self.observed), -1).all(axis=1)


def constants(activation: str, results: dict[str, Any]) -> theory.ActivationConstants:
    return theory.activation_constants(activation, results["leak"])


def average_risk(activation: str, r: dict[str, Any]) -> Side:
    k = constants(activation, r)
    bound = theory.average_risk_bound(T, r["eta"], r["gamma"], r["norm2"], r["alignment"], k)
    return Side(r["risk_sum"][:, 1:] / T, bound, 1e-12 * bound)


def average_risk_closed(activation: str, r: dict[str, Any]) -> Side:
    bound = theory.average_risk_bound_closed(T, r["eta"], r["gamma"], r["norm2"], constants(activation, r))
    return Side(r["risk_sum"][:, 1:] / T, bound, 1e-12 * np.where(np.isinf(bound), 0, bound))


def average_slope(activation: str, r: dict[str, Any]) -> Side:
    k = constants(activation, r)
    bound = theory.average_slope_bound(T, r["eta"], r["gamma"], r["norm2"], r["alignment"], k)
    return Side(r["slope_sum"][:, 1:] / T, bound, 1e-12 * bound)


def average_slope_closed(activation: str, r: dict[str, Any]) -> Side:
    bound = theory.average_slope_bound_closed(T, r["eta"], r["gamma"], r["norm2"], constants(activation, r))
    return Side(r["slope_sum"][:, 1:] / T, bound, 1e-12 * np.where(np.isinf(bound), 0, bound))


def switching_time(activation: str, r: dict[str, Any]) -> Side:
    """s < tau: the bound on the average slope exceeds thr/1.036 at t = s, and at the horizon where s lies beyond."""
    k = constants(activation, r)
    t = np.where(r["s"] > 0, r["s"], TIMES[-1])
    bound = theory.average_slope_bound(t, r["eta"], r["gamma"], r["norm2"], r["alignment"], k)
    level = theory.stable_threshold(r["eta"], r["samples"], k) / theory.SLOPE_TO_RISK
    return Side(np.where(r["s"] == 0, 0.0, level), np.diagonal(bound))


def monotone(activation: str, r: dict[str, Any]) -> Side:
    return Side(np.where(r["calm"], r["worst_calm_step"], 0.0), np.ones(len(r["eta"])), 5e-13)


RATIOS = ("min_norm_ratio", "min_gc_ratio", "min_lower", "min_middle", "min_upper", "near_monotone")


def margin_ratios(activation: str, r: dict[str, Any]) -> Side:
    return Side(-np.stack([r[name] for name in RATIOS], axis=-1), -np.ones((len(r["eta"]), len(RATIOS))), 5e-14)


def growth_rounding(r: dict[str, Any], bound: np.ndarray) -> np.ndarray:
    """1e-11 of the bound, and what rounding of L may do to (1/L_t - 1/L_s)/(eta (t - s)) where L hardly moves.

    Margins carry a rounding error of some eps (1 + ||W||), which is the relative error of L; 1/L >= 1/L_s throughout.
    """
    eps = EXTENDED if r["risk_s"].dtype == np.longdouble else 1e-15
    with np.errstate(divide="ignore", over="ignore"):
        noise = 64 * eps * (1 + np.sqrt(r["norm2"])) / (r["eta"] * r["risk_s"])
    return 1e-11 * bound + noise


def fastest_growth(activation: str, r: dict[str, Any]) -> Side:
    bound = np.broadcast_to(theory.fastest_growth(constants(activation, r)), r["eta"].shape)
    return Side(r["rate_max"], bound, growth_rounding(r, bound))


def slowest_growth(activation: str, r: dict[str, Any]) -> Side:
    with np.errstate(over="ignore"):
        bound = np.where(r["s"] >= 0, theory.slowest_growth(r["width"], np.exp(r["log_gc_s"])), 0.0)
    return Side(-r["rate_min"], -bound, growth_rounding(r, bound))


def slowest_growth_separable(activation: str, r: dict[str, Any]) -> Side:
    bound = np.broadcast_to(theory.slowest_growth_separable(r["gamma"], constants(activation, r)), r["eta"].shape)
    return Side(-r["rate_min"], -bound, growth_rounding(r, bound))


def separable(activation: str, r: dict[str, Any]) -> np.ndarray:
    return (r["gamma"] > 0) & (constants(activation, r).alpha > 0)


def calm(activation: str, r: dict[str, Any]) -> np.ndarray:
    return np.asarray(r["calm"])


def stable(activation: str, r: dict[str, Any]) -> np.ndarray:
    """The stable phase is reached, lasts a step, and begins where a step changes the risk by more than rounding."""
    moving = r["eta"] * np.square(constants(activation, r).lam) * r["risk_s"] >= measurements.SETTLED
    return (r["s"] >= 0) & (r["s"] < TIMES[-1]) & moving


# Where gamma or alpha is not positive, bounds that assume so are infinite (or zero) and hold trivially: not counted.
TRAJECTORIES: dict[Callable[..., Side], Callable[..., np.ndarray]] = {
    average_risk: separable,
    average_risk_closed: separable,
    average_slope: separable,
    average_slope_closed: separable,
    switching_time: separable,
    monotone: calm,
    margin_ratios: stable,
    fastest_growth: stable,
    slowest_growth: stable,
    slowest_growth_separable: lambda activation, r: stable(activation, r) & separable(activation, r),
}


@pytest.mark.slow
@pytest.mark.parametrize("activation", NAMES)
def test_bounds_along_trajectories(activation):
    tried: dict[Callable, set[Recipe]] = {side: set() for side in TRAJECTORIES}

    def check(batch: list[Recipe]) -> None:
        arrays = stack(activation, batch)
        results = stable_phase(activation, arrays)
        for side, where in TRAJECTORIES.items():
            admissible = where(activation, results)[: len(batch)]
            tried[side] |= {recipe for recipe, counts in zip(batch, admissible, strict=True) if counts}
            for index in np.flatnonzero(side(activation, results).violated()[: len(batch)] & admissible):
                again = stable_phase_again(activation, arrays, results, index)
                exact = side(activation, again)
                violated = where(activation, again)[0] and exact.violated()[0]
                assert not violated, f"{side.__name__}: {exact}, eta = {results['eta'][index]!r}, {batch[index]}"

    try_all(f"trajectories/{activation}", batches(), check, rounds=6)
    counts = {side.__name__: len(recipes) for side, recipes in tried.items()}

    assert min(counts.values()) >= 400, counts  # 2000 over the five activations


# --- one step ---------------------------------------------------------------------------------------------------------


@compiled
def one_step(activation: str, arrays: Arrays) -> dict[str, Any]:
    """Risk before and after a step at eta L = `threshold`, from any state."""
    ready = instance(activation, arrays)
    state = init(ready.weights)
    eta = arrays.threshold / step(state, ready.predictor, ready.problem, 0.0)[1].risk
    state, before = step(state, ready.predictor, ready.problem, eta)
    after = step(state, ready.predictor, ready.problem, 0.0)[1]
    return {
        "risk": before.risk,
        "slope": before.slope,
        "grad_norm2": before.grad_norm2,
        "next_risk": after.risk,
        "eta": eta,
        "width": ready.predictor.width,
        "leak": arrays.leak,
    }


def one_step_again(activation: str, arrays: Arrays, results: dict[str, Any], index: int) -> dict[str, Any]:
    """The same of one instance in extended precision."""
    rows, neurons = arrays.weight[index] > 0, arrays.signs[index] != 0
    eta, leak, signs = results["eta"][index], float(arrays.leak[index]), arrays.signs[index][neurons]
    data = (arrays.X[index][rows], arrays.y[index][rows])
    W, before = reference.one_step(*data, arrays.W[index][neurons], signs, eta, activation, leak)
    _, after = reference.one_step(*data, W, signs, eta, activation, leak)
    found = {"risk": before.risk, "slope": before.slope, "grad_norm2": before.grad_norm2, "next_risk": after.risk}
    described = {"eta": eta, "width": results["width"][index], "leak": leak}
    return {name: np.asarray(value)[None] for name, value in (found | described).items()}


def descent(activation: str, r: dict[str, Any]) -> Side:
    k = constants(activation, r)
    with np.errstate(invalid="ignore", over="ignore"):  # states that do not count: see `admissible` below
        promised = theory.one_step_descent(r["risk"], r["slope"], r["grad_norm2"], r["eta"], r["width"], k)
    return Side(r["next_risk"], promised, 1e-12 * r["risk"])


def no_increase(activation: str, r: dict[str, Any]) -> Side:
    return Side(r["next_risk"], r["risk"], 1e-12 * r["risk"])


def try_one_step(activation: str, side: Callable[..., Side], limit: Callable[[float], float], rounds: int) -> int:
    """Number of distinct states tried, at eta L = limit (or `threshold` of it)."""
    tried: set[Recipe] = set()

    def check(batch: list[Recipe]) -> None:
        arrays = stack(activation, batch)
        share = np.where(arrays.threshold > 0, arrays.threshold, 1.0)
        ceilings = (1 - 1e-12) * np.array([limit(leak) for leak in arrays.leak])
        arrays = arrays._replace(threshold=share * ceilings)
        results = one_step(activation, arrays)
        # Below 1e-200 the next risk leaves float64 while its bound need not.
        admissible = (results["risk"] > 1e-200)[: len(batch)]
        for index in np.flatnonzero(side(activation, results).violated()[: len(batch)] & admissible):
            exact = side(activation, one_step_again(activation, arrays, results, index))
            assert not exact.violated()[0], f"{side.__name__} violated by {batch[index]}: {exact}"
        tried.update(recipe for recipe, counts in zip(batch, admissible, strict=True) if counts)

    try_all(f"{side.__name__}/{activation}", batches(), check, rounds)
    return len(tried)


@pytest.mark.slow
@pytest.mark.parametrize("activation", NAMES)
def test_one_step_descends_as_promised(activation):
    limit = lambda leak: theory.descent_limit(theory.activation_constants(activation, leak))
    assert try_one_step(activation, descent, limit, rounds=2) >= 400


def test_linear_risk_never_rises_under_its_own_constant():
    assert try_one_step("linear", no_increase, lambda leak: theory.linear_descent_constant(), rounds=6) >= 2000


# --- near-homogeneity -------------------------------------------------------------------------------------------------


@compiled
def homogeneity(activation: str, arrays: Arrays) -> dict[str, Any]:
    """Output and gradient at W and at W', on the first row."""
    ready = instance(activation, arrays)
    x = ready.problem.X[:1]

    def at(weights):
        output, saved = ready.predictor.forward(weights, x)
        return output[0], ready.predictor.backward(saved, x, jnp.ones(1)) / ready.predictor.width

    (value, gradient), (_, other) = at(ready.weights), at(arrays.direction)
    norm = lambda a: jnp.sqrt(jnp.sum(a**2))
    return {
        "sides": jnp.stack(
            [norm(gradient), jnp.abs(value - jnp.sum(gradient * ready.weights)), norm(gradient - other)]
        ),
        "size": jnp.sum(jnp.abs(gradient * ready.weights)) + jnp.abs(value),
        "x": norm(x),
        "distance": norm(ready.weights - arrays.direction),
        "preactivation": jnp.max(jnp.abs(x @ ready.weights.T)),
    }


@pytest.mark.slow
@pytest.mark.parametrize("activation", NAMES)
def test_activation_constants_bound_the_predictor(activation):
    """||grad f|| <= Lam ||x||/sqrt m, |f - <grad f, W>| <= kappa, ||grad f(W) - grad f(W')|| <= (beta/m) ||W - W'||."""

    tried: set[Recipe] = set()

    def check(batch: list[Recipe]) -> None:
        arrays = stack(activation, batch)
        # W' in place of the direction, at distances from 1e-8 to 1e2 of W.
        shift = np.stack([np.random.default_rng(recipe.seed + 1).normal(size=arrays.W.shape[1:]) for recipe in batch])
        shift = np.pad(shift, ((0, len(arrays.W) - len(batch)), (0, 0), (0, 0))) * (arrays.signs != 0)[:, :, None]
        size = 10 ** (np.log10(arrays.eta) * 1.25 - 3)
        r = homogeneity(activation, arrays._replace(direction=arrays.W + size[:, None, None] * shift))
        k = theory.activation_constants(activation, arrays.leak)
        bounds = np.stack(
            [k.lam * r["x"] / np.sqrt(arrays.m), k.kappa + 0 * r["x"], k.beta / arrays.m * r["distance"]], -1
        )
        # A slope is off by eps, and by beta times the rounding of its argument; a sum by that of its terms.
        slope = 1e-15 * (k.lam + k.beta * r["preactivation"]) * 8
        rounding = np.stack([slope, 1e-14 * r["size"], slope], -1)
        violated = Side(r["sides"], bounds, rounding + 1e-12 * bounds).violated()[: len(batch)]
        worst = int(np.argmax(violated))
        assert not violated.any(), f"{batch[worst]}: {r['sides'][worst]} exceed {bounds[worst]}"
        tried.update(batch)

    try_all(f"homogeneity/{activation}", batches(), check, rounds=2)
    assert len(tried) >= 400
