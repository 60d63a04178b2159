"""The LASSO by message passing and by proximal gradients, against loops in NumPy, scikit-learn and the optimality conditions."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random
from sklearn.linear_model import Lasso

from theorysim.errors import InputError
from theorysim.kernels import lasso
from theorysim.kernels.designs import Dense, gaussian, sample
from theorysim.kernels.eigenvalues import operator_norm

SIDES = pytest.mark.parametrize("nonnegative", [False, True])


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


@partial(jax.jit, static_argnames=("steps", "nonnegative", "observe"))
def run(X, y, alpha, **options):
    design = Dense(X)
    return lasso.run(lasso.init(design, y), design, y, alpha, **options)


@partial(jax.jit, static_argnames=("nonnegative", "tolerance", "most_steps"))
def fista(X, y, penalty, **options):
    return lasso.fista(Dense(X), y, penalty, **options)


def instance(n, p, k, noise, seed=0, *, nonnegative=False, batch=()):
    """X of entries of variance 1/p, beta of k entries +-1 and y, in NumPy."""
    rng = np.random.default_rng([n, p, k, seed])
    X = rng.normal(size=(n, p)) / np.sqrt(p)
    beta = np.zeros((*batch, p))
    beta[..., :k] = 1 if nonnegative else rng.choice([-1, 1], size=(*batch, k))
    return X, beta, beta @ X.T + noise * rng.normal(size=(*batch, n))


def smoothness(X):
    return np.linalg.norm(X, 2) ** 2


def shrink(value, threshold, nonnegative):
    size = value if nonnegative else abs(value)
    return np.where(size > threshold, value - np.sign(value) * threshold, 0)


def distance_to_subdifferential(X, y, beta, penalty, nonnegative):
    """Euclidean distance of 0 from the subdifferential of ||y - X beta||^2/2 + penalty ||beta||_1 (over beta >= 0)."""
    correlation = X.T @ (y - X @ beta)
    at_zero = np.maximum((correlation if nonnegative else abs(correlation)) - penalty, 0)
    return np.linalg.norm(np.where(beta == 0, at_zero, correlation - penalty * np.sign(beta)))


def message_passing(A, y, alpha, steps, nonnegative, damping=0.0):
    """As in the literature: A has entries of variance 1/n."""
    n, p = A.shape
    x, z, trace = np.zeros(p), y, []
    for _ in range(steps):
        tau = np.linalg.norm(z) / np.sqrt(n)
        new = shrink(x + A.T @ z, alpha * tau, nonnegative)
        passed = np.count_nonzero(new)
        new = (1 - damping) * new + damping * x
        trace.append((tau, passed / p, np.linalg.norm(new - x) / np.sqrt(p)))
        z = (1 - damping) * (y - A @ new + passed / n * z) + damping * z
        x = new
    return x, z, np.array(trace)


# --- message passing --------------------------------------------------------------------------------------------------


@SIDES
@pytest.mark.parametrize("damping", [0.0, 0.3])
def test_steps_are_those_of_the_usual_normalisation(nonnegative, damping):
    X, _, y = instance(60, 150, 8, 0.1, nonnegative=nonnegative)  # delta = .4
    x, z, trace = message_passing(X / np.sqrt(0.4), y / np.sqrt(0.4), 1.4, 12, nonnegative, damping)
    state, summaries = run(X, y, 1.4, steps=12, nonnegative=nonnegative, damping=damping)
    np.testing.assert_allclose(state.estimate, x, rtol=0, atol=1e-13)
    np.testing.assert_allclose(state.residual, z * np.sqrt(0.4), rtol=0, atol=1e-13)
    np.testing.assert_allclose(state.correlation, X.T @ z * np.sqrt(0.4), rtol=0, atol=1e-13)
    np.testing.assert_allclose(np.stack(summaries, 1), trace, rtol=0, atol=1e-13)


@SIDES
def test_a_fixed_point_solves_the_lasso_of_its_penalty(nonnegative):
    X, _, y = instance(150, 300, 20, 0.1, nonnegative=nonnegative)
    state, trace = run(X, y, 1.5, steps=400, nonnegative=nonnegative)
    assert trace.change[-1] < 1e-13
    penalty = float(lasso.penalty(state, 1.5))
    beta = np.asarray(state.estimate)
    assert 0 < np.count_nonzero(beta) < 150
    assert distance_to_subdifferential(X, y, beta, penalty, nonnegative) < 1e-10 * penalty
    solution = fista(X, y, penalty, smoothness=smoothness(X), nonnegative=nonnegative, tolerance=1e-9)
    np.testing.assert_allclose(solution.estimate, beta, rtol=0, atol=1e-8)


def test_instances_that_share_a_design():
    X, _, y = instance(40, 100, 6, 0.1, batch=(2, 3))
    together, trace = run(X, y, 1.3, steps=10)
    assert together.estimate.shape == (2, 3, 100) and trace.tau.shape == (10, 2, 3)
    alone, _ = run(X, y[1, 2], 1.3, steps=10)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1, 2], b, rtol=0, atol=1e-14), together, alone)
    np.testing.assert_allclose(lasso.penalty(together, 1.3)[1, 2], lasso.penalty(alone, 1.3), rtol=1e-14)


def test_designs_under_vmap_and_in_float32():
    one = lambda X, y: run(X, y, 1.3, steps=10)[0].estimate
    pairs = [instance(40, 100, 6, 0.1, seed)[::2] for seed in range(3)]
    X, y = map(np.stack, zip(*pairs, strict=True))
    expected = np.stack([one(*pair) for pair in pairs])
    np.testing.assert_allclose(jax.vmap(one)(X, y), expected, rtol=0, atol=1e-13)
    single = one(X[0].astype(np.float32), y[0].astype(np.float32))
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, expected[0], rtol=0, atol=1e-5)


@SIDES
def test_nothing_to_recover(nonnegative):
    X, _, _ = instance(20, 50, 3, 0.0)
    state, _ = run(X, np.zeros(20), 1.3, steps=5, nonnegative=nonnegative)
    assert not state.estimate.any() and not state.residual.any()


def test_observations_are_recorded_as_asked():
    X, beta, y = instance(40, 100, 6, 0.1)
    error = lambda before, after: jnp.mean((after.estimate - beta) ** 2)
    state, trace = run(X, y, 1.3, steps=7, observe=error)
    assert trace.shape == (7,)
    np.testing.assert_allclose(trace[-1], np.mean((np.asarray(state.estimate) - beta) ** 2), rtol=1e-14)


# --- predictions ------------------------------------------------------------------------------------------------------


@jax.jit
def errors(key):
    """Squared errors and non-zero fractions of 32 instances with one design, and the distance to FISTA's solutions: delta = .5,
    s = .2, penalty = .3 of y = A x0 + w, 50 of N = 500 entries +-1."""
    n, p = 250, 500
    of_design, of_signs, of_noise, of_norm = random.split(key, 4)
    design = Dense(sample(of_design, gaussian, n, p))
    shift = 15 * jnp.arange(32)[:, None]
    x0 = jnp.where((jnp.arange(p) - shift) % p < 50, random.rademacher(of_signs, (32, p), jnp.float32), 0)
    y = design.forward(x0) + np.float32(0.2 * np.sqrt(0.5)) * random.normal(of_noise, (32, n), jnp.float32)
    state, _ = lasso.run(lasso.init(design, y), design, y, 1.4907458467, steps=40)
    L = 1.01 * operator_norm(design, random.normal(of_norm, (p,), jnp.float32), tolerance=1e-2) ** 2
    solve = lambda y: lasso.fista(design, y, 0.15, smoothness=L, tolerance=1e-3)
    solution = jax.vmap(solve)(y)
    mean = lambda a: jnp.mean(a, axis=-1)
    return (
        mean((state.estimate - x0) ** 2),
        mean(state.estimate != 0),
        mean((state.estimate - solution.estimate) ** 2),
        solution.converged,
    )


def test_state_evolution():
    """8 designs, each a unit: within 5 standard errors (7 degrees of freedom: false alarms once in 600) and 2 % of the limits."""
    mse, nonzero, difference, converged = map(np.asarray, jax.lax.map(errors, random.split(random.key(3), 8)))
    assert converged.all()
    for values, limit in ((mse, 0.0417402), (nonzero, 0.21366)):
        means = values.mean(1)
        assert abs(means.mean() - limit) < 5 * means.std(ddof=1) / np.sqrt(8) + 0.02 * limit
    assert 1e-6 < difference.mean() < 5e-4


@pytest.mark.parametrize(
    ("rho", "alpha", "nonnegative", "recovered"),
    [(0.34, 0.8769010, False, True), (0.42, 0.8769010, False, False), (0.48, 0.5060545, True, True)],
)
def test_either_side_of_the_donoho_tanner_curve(rho, alpha, nonnegative, recovered):
    """delta = .5: the curve is at .3857, and at .5582 for signals that are not negative."""
    n, p = 750, 1500
    X, beta, y = instance(n, p, round(rho * n), 1e-6, nonnegative=nonnegative)
    X, y = X.astype(np.float32), y.astype(np.float32)
    state, _ = run(X, y, alpha, steps=250, nonnegative=nonnegative)
    error = np.sum((np.asarray(state.estimate) - beta) ** 2) / np.sum(beta**2)
    assert error < 1e-3 if recovered else error > 0.1


# --- proximal gradients -----------------------------------------------------------------------------------------------


@SIDES
@pytest.mark.parametrize(("n", "p", "penalty"), [(30, 80, 0.05), (80, 30, 0.3), (50, 50, 1.0)])
def test_against_scikit_learn(n, p, penalty, nonnegative):
    X, _, y = instance(n, p, 5, 0.3, nonnegative=nonnegative)
    # its objective is ||y - X b||^2/(2n) + a |b|_1
    peer = Lasso(alpha=penalty / n, fit_intercept=False, positive=nonnegative, tol=1e-14, max_iter=100_000).fit(X, y)
    found = fista(X, y, penalty, smoothness=smoothness(X), nonnegative=nonnegative, tolerance=1e-10)
    assert found.converged
    np.testing.assert_allclose(found.estimate, peer.coef_, rtol=0, atol=1e-7)


@SIDES
@pytest.mark.parametrize("most_steps", [1, 3, 10, 30])
def test_the_violation_bounds_the_distance_from_optimality(nonnegative, most_steps):
    X, _, y = instance(40, 100, 6, 0.2, nonnegative=nonnegative)
    found = fista(X, y, 0.1, smoothness=smoothness(X), nonnegative=nonnegative, most_steps=most_steps)
    beta = np.asarray(found.estimate)
    assert found.steps == most_steps and not found.converged
    assert distance_to_subdifferential(X, y, beta, 0.1, nonnegative) <= 0.1 * found.violation


def test_a_penalty_beyond_the_largest_correlation_leaves_nothing():
    X, _, y = instance(40, 100, 6, 0.2)
    found = fista(X, y, 1.001 * abs(X.T @ y).max(), smoothness=smoothness(X))
    assert found.converged and found.steps == 1 and not found.estimate.any()


def test_float32_and_vmap_over_responses():
    X, _, y = instance(40, 100, 6, 0.2, batch=(3,))
    precise = jax.vmap(lambda y: fista(X, y, 0.1, smoothness=smoothness(X), tolerance=1e-10))(y)
    X, y = X.astype(np.float32), y.astype(np.float32)
    single = jax.vmap(lambda y: fista(X, y, 0.1, smoothness=smoothness(X), tolerance=1e-4))(y)
    assert single.converged.all() and single.estimate.dtype == jnp.float32
    assert len(set(np.asarray(precise.steps))) > 1  # each stops on its own
    np.testing.assert_allclose(single.estimate, precise.estimate, rtol=0, atol=1e-4)


@SIDES
def test_the_threshold_minimises_its_objective(nonnegative):
    grid = np.linspace(0 if nonnegative else -3, 3, 6001)
    for value in (-2.0, -0.3, 0.0, 0.4, 1.7):
        best = grid[np.argmin((value - grid) ** 2 / 2 + 0.5 * abs(grid))]
        found = lasso.soft_threshold(jnp.asarray(value), jnp.asarray(0.5), nonnegative=nonnegative)
        np.testing.assert_allclose(found, best, rtol=0, atol=1e-3)


# --- bad input --------------------------------------------------------------------------------------------------------


def test_bad_input():
    X, _, y = map(jnp.asarray, instance(20, 50, 3, 0.1))
    state = lasso.init(Dense(X), y)
    message = "response must have the design's n = 20 entries, got 19"
    with pytest.raises(InputError, match=re.escape(message)):
        lasso.init(Dense(X), y[:-1])
    with pytest.raises(InputError, match=re.escape(message)):
        lasso.fista(Dense(X), y[:-1], 0.1, smoothness=4.0)
    with pytest.raises(InputError, match=re.escape("steps must be at least 1, got 0")):
        lasso.run(state, Dense(X), y, 1.3, steps=0)
