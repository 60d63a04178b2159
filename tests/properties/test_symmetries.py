"""Equalities that hold for every input: what the predictor cannot tell apart, the kernel and the formulas must not.

Each is checked on one step from an arbitrary state: with it the whole trajectory agrees, by induction, without the
growth of rounding errors along unstable trajectories.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from property_instances import (
    BATCH,
    DIMENSION,
    NAMES,
    ROWS,
    WIDTH,
    Arrays,
    Recipe,
    batches,
    compiled,
    instance,
    stack,
    try_all,
)

from theorysim.kernels.gradient_descent import Linear, init, step
from theorysim.papers.large_stepsize_gd import reference, theory

FIELDS = ("risk", "log_risk", "slope", "min_margin", "norm", "grad_norm2", "descent")


def step_of(activation: str, arrays: Arrays) -> dict[str, jax.Array]:
    """Diagnostics of W and the update W' - W over eta (from eta = 1: at large eta W' itself would lose W)."""
    ready = instance(activation, arrays)
    state = init(ready.weights)
    moved, d = step(state, ready.predictor, ready.problem, 1.0)
    return {name: getattr(d, name) for name in FIELDS} | {"update": moved.weights - ready.weights}


one_step = compiled(step_of)


def rounding(arrays: Arrays) -> np.ndarray:
    """What two orders of summation may differ by, per unit: 50 eps times the largest ||x|| ||w||, and at least 1e-13.

    An error e of a margin is a relative error e of risk and slope, and (times eta's 1) an absolute one of the weights.
    """
    return 1e-14 * (10 + np.linalg.norm(arrays.X, axis=2).max(axis=1) * np.linalg.norm(arrays.W, axis=2).max(axis=1))


def assert_same(one: dict[str, np.ndarray], other: dict[str, np.ndarray], arrays: Arrays, batch: list[Recipe]) -> None:
    """Equality up to rounding, for the members of the batch; `update` must have been brought to one order."""
    unit = rounding(arrays)
    size = np.linalg.norm(arrays.W.reshape(len(arrays.W), -1), axis=1)
    # Sums may cancel: their rounding is that of the terms, at most 1.2 slope in the gradient.
    gradient = 1.2 * unit * one["slope"]
    allowed = {
        "log_risk": unit,
        "min_margin": unit,
        "norm": unit * size,
        "grad_norm2": 3 * gradient * np.sqrt(one["grad_norm2"]) + gradient**2,
        "descent": gradient * size,
        "update": gradient + unit * size,  # a difference of weights, with their rounding
    }
    for name in one:
        difference = np.abs(one[name] - other[name]).reshape(len(unit), -1).max(axis=1)
        # Squares of slopes below 1e-150 are subnormal or zero.
        limit = allowed[name] if name in allowed else unit * np.abs(one[name])
        bad = ~(difference <= limit + 1e-290)[: len(batch)]
        worst = int(np.argmax(bad))
        assert not bad.any(), f"{name} of {batch[worst]}: {one[name][worst]} and {other[name][worst]}"


def try_symmetry(
    name: str, activation: str, change: Callable[[Arrays, np.random.Generator], tuple[Arrays, Callable]]
) -> None:
    """`change` gives other arrays with the same outcome, and the map from their update to that of the first."""
    tried: set[Recipe] = set()

    def check(batch: list[Recipe]) -> None:
        arrays = stack(activation, batch)
        changed, back = change(arrays, np.random.default_rng(len(batch)))
        one, other = one_step(activation, arrays), one_step(activation, changed)
        assert_same(one, other | {"update": back(other["update"])}, arrays, batch)
        tried.update(batch)

    try_all(f"{name}/{activation}", batches(), check, rounds=2)
    assert len(tried) >= 300


def permute_neurons(a: Arrays, rng: np.random.Generator) -> tuple[Arrays, Callable]:
    order = rng.permutation(WIDTH)
    return a._replace(W=a.W[:, order], signs=a.signs[:, order]), lambda update: update[:, np.argsort(order)]


def permute_samples(a: Arrays, rng: np.random.Generator) -> tuple[Arrays, Callable]:
    order = rng.permutation(ROWS)
    return a._replace(X=a.X[:, order], y=a.y[:, order], weight=a.weight[:, order]), lambda update: update


def rotate(a: Arrays, rng: np.random.Generator) -> tuple[Arrays, Callable]:
    Q, _ = np.linalg.qr(rng.normal(size=(DIMENSION, DIMENSION)))
    return a._replace(X=a.X @ Q, W=a.W @ Q), lambda update: update @ Q.T


def flip_labels(a: Arrays, rng: np.random.Generator) -> tuple[Arrays, Callable]:
    """f changes its sign with a."""
    return a._replace(y=-a.y, signs=-a.signs), lambda update: update


def grow_padding(a: Arrays, rng: np.random.Generator) -> tuple[Arrays, Callable]:
    """Padded rows may hold anything: their weight is zero."""
    padding = a.weight == 0
    X = np.where(padding[:, :, None], rng.normal(size=a.X.shape), a.X)
    return a._replace(X=X, y=np.where(padding, -a.y, a.y)), lambda update: update


CHANGES = [permute_neurons, permute_samples, rotate, flip_labels, grow_padding]


@pytest.mark.slow
@pytest.mark.parametrize("activation", NAMES)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_one_step_cannot_tell_apart(change, activation):
    try_symmetry(change.__name__, activation, change)


@pytest.mark.slow
@pytest.mark.parametrize("activation", NAMES)
def test_the_stepsize_is_free_of_width_and_of_sample_number(activation):
    """Every neuron and sample twice: f, L and the step of each neuron stay, ||W||^2 doubles, ||grad L||^2 halves."""
    tried: set[Recipe] = set()

    def check(batch: list[Recipe]) -> None:
        arrays = stack(activation, batch)
        twice = lambda value: np.concatenate([value, value], axis=1)
        doubled = arrays._replace(
            X=twice(arrays.X), y=twice(arrays.y), weight=twice(arrays.weight) / 2,
            W=twice(arrays.W), signs=twice(arrays.signs), m=2 * arrays.m,
        )  # fmt: skip
        one, two = one_step(activation, arrays), one_step(activation, doubled)
        same = two | {
            "update": two["update"][:, :WIDTH],
            "norm": two["norm"] / np.sqrt(2),
            "grad_norm2": 2 * two["grad_norm2"],
        }
        assert_same(one, same, arrays, batch)
        np.testing.assert_array_equal(two["update"][:, :WIDTH], two["update"][:, WIDTH:])
        tried.update(batch)

    try_all(f"doubling/{activation}", batches(), check, rounds=2)
    assert len(tried) >= 300


@pytest.mark.parametrize("activation", NAMES)
def test_one_step_is_that_of_the_plain_reference_without_padding(activation):
    """The compiled, padded step against NumPy in extended precision on the unpadded instance."""
    tried: set[Recipe] = set()

    def check(batch: list[Recipe]) -> None:
        arrays = stack(activation, batch)
        compiled_step = one_step(activation, arrays)
        exact = {name: np.array(value) for name, value in compiled_step.items()}
        for i in range(len(batch)):
            rows, neurons = arrays.weight[i] > 0, arrays.signs[i] != 0
            moved, d = reference.one_step(
                arrays.X[i][rows], arrays.y[i][rows], arrays.W[i][neurons], arrays.signs[i][neurons], 1.0, activation,
                float(arrays.leak[i]),
            )  # fmt: skip
            for name in d._fields:
                exact[name][i] = getattr(d, name)
            exact["log_risk"][i] = np.log(d.risk)
            exact["update"][i][neurons] = moved - arrays.W[i][neurons]
            assert not compiled_step["update"][i][~neurons].any()  # padding never moves
        assert_same(compiled_step, exact, arrays, batch)
        tried.update(batch)

    try_all(f"reference/{activation}", batches(), check, rounds=2)
    assert len(tried) >= 300


def test_identity_networks_are_linear_predictors():
    """With phi(z) = z every network moves u = mean_j a_j w_j as logistic regression moves w, at the same eta."""

    @compiled
    def both(activation: str, arrays: Arrays) -> tuple[Any, ...]:
        ready = instance(activation, arrays)
        mean = lambda W: (ready.predictor.signs @ W / ready.predictor.width)[None, :]
        network, d = step(init(ready.weights), ready.predictor, ready.problem, 1.0)
        linear, e = step(init(mean(ready.weights)), Linear(), ready.problem, 1.0)
        return d.risk, e.risk, d.slope, e.slope, mean(network.weights), linear.weights

    tried: set[Recipe] = set()

    def check(batch: list[Recipe]) -> None:
        arrays = stack("linear", batch)
        risk, linear_risk, slope, linear_slope, weights, linear_weights = both("linear", arrays)
        unit = rounding(arrays)
        assert np.all(np.abs(risk - linear_risk) <= unit * risk)
        assert np.all(np.abs(slope - linear_slope) <= unit * slope)
        size = 1 + np.abs(arrays.W).max(axis=(1, 2))
        assert np.all(np.abs(weights - linear_weights).max(axis=(1, 2)) <= unit * size)
        tried.update(batch)

    try_all("identity networks", batches(), check, rounds=6)
    assert len(tried) >= 2000


def test_linear_predictors_scale_exactly():
    """X/s, s W and s^2 eta give the same margins; for a power of two bit for bit, along whole trajectories."""

    @compiled
    def risks(activation: str, arrays: Arrays) -> jax.Array:
        ready = instance("linear", arrays)

        def advance(state, _):
            state, d = step(state, Linear(), ready.problem, arrays.eta)
            return state, (d.risk, d.slope, d.min_margin)

        return jax.lax.scan(advance, init(arrays.W[:1]), None, length=60)[1]

    tried: set[Recipe] = set()

    def check(batch: list[Recipe]) -> None:
        arrays = stack("linear", batch)
        scaled = arrays._replace(X=arrays.X / 8, W=arrays.W * 8, eta=arrays.eta * 64)
        for one, other in zip(risks("linear", arrays), risks("linear", scaled), strict=True):
            np.testing.assert_array_equal(one, other)
        tried.update(batch)

    try_all("scaling", batches(), check, rounds=6)
    assert len(tried) >= 2000


@pytest.mark.parametrize("activation", ["softplus", "gelu"])
def test_batches_agree_with_chunks_and_single_runs(activation):
    """One vmap over the batch, four over its quarters, and a loop over single instances: equal up to rounding."""
    step_function = functools.partial(step_of, activation)
    whole = jax.jit(jax.vmap(step_function))
    quarters = jax.jit(lambda arrays: jax.lax.map(jax.vmap(step_function), arrays))
    singles = jax.jit(lambda arrays: jax.lax.map(step_function, arrays))
    tried: set[Recipe] = set()

    def check(batch: list[Recipe]) -> None:
        arrays = stack(activation, batch)
        with jax.enable_x64(True):
            one = jax.device_get(whole(arrays))
            cut = jax.tree.map(lambda a: a.reshape(4, BATCH // 4, *a.shape[1:]), arrays)
            four = jax.tree.map(lambda a: np.asarray(a).reshape(BATCH, *a.shape[2:]), quarters(cut))
            many = jax.device_get(singles(arrays))
        assert_same(one, four, arrays, batch)
        assert_same(one, many, arrays, batch)
        tried.update(batch)

    try_all(f"chunks/{activation}", batches(), check, rounds=3)
    assert len(tried) >= 900


def test_updates_are_linear_in_the_stepsize():
    """W'(eta) - W is eta times W'(1) - W; from W = 0 the differences are exact."""

    @compiled
    def stepped(activation: str, arrays: Arrays) -> tuple[Any, ...]:
        ready = instance(activation, arrays)
        moved, _ = step(init(0 * ready.weights), ready.predictor, ready.problem, arrays.eta)
        once, _ = step(init(0 * ready.weights), ready.predictor, ready.problem, 1.0)
        return moved.weights, arrays.eta * once.weights

    tried: set[Recipe] = set()

    def check(batch: list[Recipe]) -> None:
        moved, scaled = stepped("silu", stack("silu", batch))
        np.testing.assert_allclose(moved, scaled, rtol=1e-15)
        tried.update(batch)

    try_all("stepsize", batches(), check, rounds=6)
    assert len(tried) >= 2000


# --- formulas ---------------------------------------------------------------------------------------------------------

COUNTS = st.lists(
    st.tuples(st.tuples(*[st.integers(1, 500)] * 4), st.permutations(range(4)), st.floats(0, 0.99)),
    min_size=50,
    max_size=80,
)


@settings(max_examples=20)
@given(COUNTS)
def test_xor_constants_are_symmetric_and_least_for_equal_groups(draws):
    counts = np.array([count for count, _, _ in draws])
    order, leak = np.array([order for _, order, _ in draws]), np.array([leak for *_, leak in draws])
    m = counts.sum(axis=1)
    constant = theory.xor_constant(counts, leak, m)
    exchanged = theory.xor_constant(np.take_along_axis(counts, order, axis=1), leak, m)
    np.testing.assert_allclose(exchanged, constant, rtol=1e-14)
    np.testing.assert_allclose(theory.xor_margin(counts, leak, m) ** 2 * constant, 1, rtol=1e-14)
    # The harmonic mean is at most the arithmetic one: m S >= 16.
    assert np.all(constant * (1 - leak) ** 2 >= 16 * (1 - 1e-14))
    np.testing.assert_allclose(theory.xor_constant(3 * counts, leak, 3 * m), constant, rtol=1e-14)


@settings(max_examples=20)
@given(
    st.lists(
        st.tuples(st.floats(1e-3, 1e4), st.floats(0.0, 0.99), st.floats(1e-3, 1.0), st.integers(1, 10_000)),
        min_size=100,
    )
)
def test_bounds_fall_with_time_and_margin(draws):
    """A longer average and a larger margin never loosen the EoS bounds; more eta or n never raises the threshold."""
    eta, leak, gamma, n = map(np.array, zip(*draws, strict=True))
    k = theory.activation_constants("softplus", np.maximum(leak, 0.01))
    t = np.array([1, 3, 10, 100, 10_000])
    for bound in (theory.average_risk_bound, theory.average_slope_bound):
        value = bound(t, eta, gamma, 0.0, 0.0, k)
        assert np.all(np.diff(value, axis=1) <= 1e-12 * value[:, 1:])
        assert np.all(bound(t, eta, np.minimum(1.0, 1.5 * gamma), 0.0, 0.0, k) <= value * (1 + 1e-12))
    thr = theory.stable_threshold(eta, n, k)
    assert np.all(theory.stable_threshold(2 * eta, n, k) <= thr)
    assert np.all(theory.stable_threshold(eta, 2 * n, k) <= thr)
    assert np.all(eta * thr * 4 <= theory.descent_limit(k) * (1 + 1e-12))  # the paper's threshold is 4 times smaller
