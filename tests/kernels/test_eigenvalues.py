"""Extreme eigenvalues against dense factorisations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.linalg import eigh

from theorysim.errors import InputError
from theorysim.kernels.designs import Dense
from theorysim.kernels.eigenvalues import operator_norm, smallest


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


@jax.jit
def of_matrix(A, start):
    return smallest(lambda v: A @ v, start)


@pytest.mark.slow
@pytest.mark.parametrize("N", [1, 2, 5, 39, 150])
def test_dense_matrices(N):
    """More and fewer dimensions than the search space holds, restarts included."""
    rng = np.random.default_rng(N)
    A = rng.normal(size=(N, N))
    A = A + A.T
    values, vectors = np.linalg.eigh(A)
    pair = of_matrix(jnp.asarray(A), jnp.asarray(rng.normal(size=N)))
    assert pair.converged
    np.testing.assert_allclose(pair.value, values[0], rtol=1e-12)
    np.testing.assert_allclose(abs(pair.vector @ vectors[:, 0]), 1, rtol=1e-10)
    np.testing.assert_allclose(np.linalg.norm(A @ pair.vector - pair.value * pair.vector), pair.residual, atol=1e-12)
    assert pair.steps <= 3 * N


def test_a_multiple_of_the_identity_takes_one_step():
    pair = of_matrix(3 * jnp.eye(60), jnp.ones(60))
    np.testing.assert_allclose([pair.value, pair.residual], [3, 0], atol=1e-14)
    assert pair.steps == 1


@pytest.mark.parametrize(("shift", "smallest_weight"), [(1.0, 1e-3), (1.0, 1e-12), (1.0, 0.0), (-1.0, 1e-3)])
def test_generalised_problems(shift, smallest_weight):
    """B nearly or exactly singular where A is positive; A of both signs where B is not singular."""
    rng = np.random.default_rng(0)
    K = rng.normal(size=(200, 200)) / np.sqrt(200)
    A = K @ K.T + shift * np.eye(200)
    weights = np.concatenate([np.linspace(0.1, 1, 150), np.full(50, smallest_weight)])
    pair = of_pencil(jnp.asarray(A), jnp.asarray(weights), jnp.asarray(weights * rng.normal(size=200)))
    assert pair.converged
    if shift > 0:
        expected = 1 / eigh(np.diag(weights), A, eigvals_only=True)[-1]
    else:
        expected = eigh(A, np.diag(weights), eigvals_only=True)[0]
    np.testing.assert_allclose(pair.value, expected, rtol=1e-10)
    np.testing.assert_allclose(np.sum(weights * pair.vector**2), 1, rtol=1e-10)
    residual = np.linalg.norm(A @ pair.vector - pair.value * weights * pair.vector)
    np.testing.assert_allclose(residual, pair.residual, atol=1e-12 * abs(expected))


@jax.jit
def of_pencil(A, weights, start):
    return smallest(lambda v: A @ v, start, metric=lambda v: weights * v)


def test_operator_norm():
    rng = np.random.default_rng(0)
    for n, p in [(40, 90), (90, 40)]:
        X = rng.normal(size=(n, p)) / np.sqrt(p)
        found = jax.jit(operator_norm)(Dense(jnp.asarray(X)), jnp.asarray(rng.normal(size=p)))
        np.testing.assert_allclose(found, np.linalg.norm(X, 2), rtol=1e-10)


def test_batches_and_single_precision():
    A = np.random.default_rng(0).normal(size=(3, 60, 60))
    A = A + np.swapaxes(A, 1, 2)
    run = jax.jit(jax.vmap(lambda A: smallest(lambda v: A @ v, jnp.ones(60, A.dtype), tolerance=1e-4)))
    values, second = np.linalg.eigvalsh(A)[:, :2].T
    pairs = run(jnp.asarray(A))
    # Kato and Temple: the error is at most the squared residual over the gap.
    excess = np.asarray(pairs.value) - values
    assert np.all(excess >= -1e-12)
    assert np.all(excess <= pairs.residual**2 / (second - pairs.value))
    single = run(jnp.asarray(A, jnp.float32))
    assert single.value.dtype == jnp.float32
    np.testing.assert_allclose(single.value, values, rtol=1e-5)


def test_bad_input_is_refused():
    with pytest.raises(InputError, match="dimension of the search space must be at least 4, got 3"):
        smallest(lambda v: v, jnp.ones(9), dimension=3)
