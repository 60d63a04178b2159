"""Z2 synchronisation against dense linear algebra, loops in NumPy, automatic derivatives and known limits."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random
from scipy.special import xlogy

from theorysim.errors import InputError
from theorysim.kernels import z2


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


run = jax.jit(z2.run, static_argnames=("steps", "observe"))
energy, gradient = jax.jit(z2.energy), jax.jit(z2.gradient)
smallest_eigenvalue = jax.jit(z2.smallest_eigenvalue, static_argnames="tolerance")
principal = jax.jit(z2.principal, static_argnames="tolerance")
instance = jax.jit(z2.instance, static_argnames=("n", "dtype"))


def draw(n, snr, seed=0):
    """Y, x, a random start."""
    key = random.key(seed)
    return (*instance(key, n, snr, jnp.float64), random.normal(random.fold_in(key, 1), (n,)))


def converged(n, snr, steps, seed=0):
    """Y, x, a random start and the fields that message passing ends in."""
    Y, x, start = draw(n, snr, seed)
    state, trace = run(z2.spectral_start(principal(Y, start).vector, snr), Y, snr, steps=steps)
    assert trace.change[-1] < 1e-9
    return Y, x, start, state.field


def of_magnetisations(m, Y, snr, reaction=1.0):
    """F as it is written, in NumPy or JAX."""
    n, Q = len(m), (m @ m) / len(m)
    entropy = -sum((p * jnp.log(p)).sum() for p in ((1 + m) / 2, (1 - m) / 2)) / n
    return -entropy - snr / (2 * n) * (m @ Y @ m) - reaction * snr**2 / 4 * (1 - Q) ** 2


@jax.jit
def derivatives(m, Y, snr, reaction):
    """F, dF/dm and d^2F/dm^2 by automatic differentiation."""
    value, of_m = jax.value_and_grad(of_magnetisations)(m, Y, snr, reaction)
    return value, of_m, jax.hessian(of_magnetisations)(m, Y, snr, reaction)


# --- instances --------------------------------------------------------------------------------------------------------


def test_instances():
    """Moments of W over 400 x 40^2 entries: five standard errors, false alarms once in 10^6."""
    n, snr = 40, 1.7
    Y, x = jax.jit(jax.vmap(lambda key: z2.instance(key, n, snr, jnp.float64)))(random.split(random.key(2), 400))
    assert set(np.unique(x)) == {-1.0, 1.0} and abs(np.mean(x)) < 5 / np.sqrt(400 * n)
    W = np.asarray(Y - snr / n * x[:, :, None] * x[:, None, :])
    np.testing.assert_allclose(W, W.transpose(0, 2, 1), rtol=0, atol=1e-15)
    above = W[:, *np.triu_indices(n, 1)].ravel() * np.sqrt(n)
    diagonal = W[:, np.arange(n), np.arange(n)].ravel() * np.sqrt(n / 2)
    for values in (above, diagonal):
        assert abs(values.mean()) < 5 / np.sqrt(values.size)
        assert abs(np.mean(values**2) - 1) < 5 * np.sqrt(2 / values.size)


@pytest.mark.parametrize("snr", [0.5, 1.0, 1.8])
def test_principal_eigenpair(snr):
    Y, _, start = draw(150, snr)
    values, vectors = np.linalg.eigh(Y)
    pair = principal(Y, start, tolerance=1e-9)
    assert pair.converged
    np.testing.assert_allclose(pair.value, values[-1], rtol=1e-12)
    np.testing.assert_allclose(abs(pair.vector @ vectors[:, -1]), 1, rtol=1e-12)


# --- message passing --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reaction", [1.0, 0.0])
def test_steps(reaction):
    n, snr = 60, 1.6
    Y, _, start = map(np.asarray, draw(n, snr))
    field, previous, trace = start, np.zeros(n), []
    for _ in range(10):
        m = np.tanh(field)
        field = snr * Y @ m - reaction * snr**2 * (1 - m @ m / n) * previous
        previous = m
        new = np.tanh(field)
        trace.append((new @ new / n, np.linalg.norm(new - m) / np.sqrt(n)))
    state, summaries = run(z2.State(start, np.zeros(n)), Y, snr, steps=10, reaction=reaction)
    np.testing.assert_allclose(state.field, field, rtol=0, atol=1e-11)
    np.testing.assert_allclose(state.previous, previous, rtol=0, atol=1e-11)
    np.testing.assert_allclose(np.stack(summaries, 1), trace, rtol=0, atol=1e-11)


def test_the_spectral_start_is_a_step_of_linear_message_passing():
    """h = l Y m - l^2 (1 - q) m with Y v = (l + 1/l) v and q = |m|^2/n = 1 - 1/l^2, the squared overlap of the eigenvector."""
    snr, v = 1.5, jnp.ones(8) / jnp.sqrt(8.0)
    state = z2.spectral_start(v, snr)
    m = state.previous
    np.testing.assert_allclose(jnp.linalg.norm(m) ** 2 / 8, 1 - 1 / snr**2, rtol=1e-14)
    np.testing.assert_allclose(state.field, snr * (snr + 1 / snr) * m - snr**2 * (1 - (1 - 1 / snr**2)) * m, rtol=1e-14)


def test_there_is_no_spectral_start_below_the_transition():
    v = jnp.ones(4) / 2
    assert np.isnan(z2.spectral_start(v, 0.9).field).all()


def test_state_evolution():
    """n = 1000, l = 2, 12 seeds: Q_1, Q_2 and Q_30, and the overlap, within 5 standard errors (11 degrees of freedom: false alarms
    once in 600 for one of the four)."""

    def one(key):
        of_instance, of_start = random.split(key)
        Y, x = z2.instance(of_instance, 1000, 2.0)
        v = z2.principal(Y, random.normal(of_start, (1000,), jnp.float32), tolerance=1e-4).vector
        state, trace = z2.run(z2.spectral_start(v, 2.0), Y, 2.0, steps=30)
        return trace.square, jnp.abs(jnp.mean(state.mean * x))

    square, overlap = map(np.asarray, jax.lax.map(jax.jit(one), random.split(random.key(5), 12)))
    measured = np.column_stack([square[:, [0, 1, 29]], overlap])
    expected = [0.9080, 0.9148, 0.9165110, 0.9165110]
    assert (abs(measured.mean(0) - expected) < 5 * measured.std(0, ddof=1) / np.sqrt(12) + 1e-4).all()


def test_nothing_is_found_below_the_transition():
    Y, x, start = draw(400, 0.5)
    _, trace = run(z2.State(start, jnp.zeros(400)), Y, 0.5, steps=60)
    assert trace.square[-1] < 1e-20
    pair = principal(Y, start)
    assert abs(pair.value - 2) < 6 * 400 ** (-2 / 3)
    assert (pair.vector @ x) ** 2 / 400 < 0.1


def test_instances_under_vmap_and_in_float32():
    Y, _, start = (np.stack(a) for a in zip(*(draw(50, 1.5, seed) for seed in range(3)), strict=True))
    one = lambda Y, start: z2.run(z2.State(start, 0 * start), Y, 1.5, steps=8)[0].field
    expected = np.stack([one(jnp.asarray(a), jnp.asarray(b)) for a, b in zip(Y, start, strict=True)])
    np.testing.assert_allclose(jax.vmap(one)(Y, start), expected, rtol=0, atol=1e-12)
    single = one(jnp.asarray(Y[0], jnp.float32), jnp.asarray(start[0], jnp.float32))
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, expected[0], rtol=0, atol=1e-3)


def test_observations_are_recorded_as_asked():
    Y, _, start = draw(50, 1.5)
    state, trace = run(z2.State(start, 0 * start), Y, 1.5, steps=8, observe=lambda before, after: after.mean[0])
    assert trace.shape == (8,)
    np.testing.assert_allclose(trace[-1], np.tanh(state.field[0]), rtol=1e-14)


# --- free energy ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reaction", [1.0, 0.0])
def test_energy_and_its_derivatives(reaction):
    n, snr = 40, 1.4
    Y, _, field = draw(n, snr)
    m = jnp.tanh(field)
    options = {"reaction": reaction}
    value, of_m, of_m_m = derivatives(m, Y, snr, reaction)
    np.testing.assert_allclose(energy(field, Y, snr, **options), value, rtol=1e-13)
    np.testing.assert_allclose(gradient(field, Y, snr, **options), n * of_m, rtol=0, atol=1e-12)
    dense = n * np.asarray(of_m_m)
    product = jax.jit(lambda v: z2.hessian_product(field, Y, snr, v, **options))
    np.testing.assert_allclose(jax.vmap(product)(jnp.eye(n)), dense, rtol=1e-11, atol=1e-11)
    bottom = smallest_eigenvalue(field, Y, snr, jnp.ones(n), tolerance=1e-9, **options)
    assert bottom.converged
    np.testing.assert_allclose(bottom.value, np.linalg.eigvalsh(dense)[0], rtol=1e-10)
    np.testing.assert_allclose(dense @ bottom.vector, bottom.value * bottom.vector, rtol=0, atol=1e-7)
    np.testing.assert_allclose(jnp.linalg.norm(bottom.vector), 1, rtol=1e-12)


def test_saturated_fields():
    n, snr = 30, 2.0
    Y, x, _ = draw(n, snr)
    m = np.asarray(x)
    half = (1 + m) / 2
    expected = (xlogy(half, half).mean() - snr / (2 * n) * m @ np.asarray(Y) @ m).item()
    for dtype, rtol in ((jnp.float64, 1e-14), (jnp.float32, 1e-6)):
        found = energy((60 * x).astype(dtype), Y.astype(dtype), snr)
        np.testing.assert_allclose(found, expected, rtol=rtol)
    assert np.isfinite(gradient(60 * x, Y, snr)).all()


def test_message_passing_ends_where_the_gradient_vanishes():
    Y, x, _, field = converged(400, 2.0, 200)
    assert abs(gradient(field, Y, 2.0)).max() < 1e-8
    # without the reaction it is a stationary point of the naive mean-field energy
    state, trace = run(z2.State(x, jnp.zeros(400)), Y, 2.0, steps=200, reaction=0.0)
    assert trace.change[-1] < 1e-12
    assert abs(gradient(state.field, Y, 2.0, reaction=0.0)).max() < 1e-9
    assert abs(gradient(state.field, Y, 2.0)).max() > 1e-2


@pytest.mark.parametrize(("snr", "limit"), [(1.5, -1.32394), (2.0, -2.06611)])
def test_landscape_at_the_limit_of_message_passing(snr, limit):
    """A convex one, in a single instance; the energy's sd is l/sqrt(2n)."""
    Y, _, start, field = converged(400, snr, 400, seed=1)
    bottom = smallest_eigenvalue(field, Y, snr, start, tolerance=1e-8)
    m = jnp.tanh(field)
    dense = np.asarray(jnp.diag(jnp.cosh(field) ** 2) - snr * Y - 2 * snr**2 / 400 * jnp.outer(m, m))
    dense += snr**2 * (1 - np.mean(m**2)) * np.eye(400)
    np.testing.assert_allclose(bottom.value, np.linalg.eigvalsh(dense)[0], rtol=1e-7)
    assert bottom.value > 0.03
    assert abs(energy(field, Y, snr) - limit) < 4 * snr / np.sqrt(800)


# --- bad input --------------------------------------------------------------------------------------------------------


def test_bad_input():
    with pytest.raises(InputError, match=re.escape("number n of spins must be at least 1, got 0")):
        z2.instance(random.key(0), 0, 1.5)
    Y, _, start = draw(10, 1.5)
    with pytest.raises(InputError, match=re.escape("steps must be at least 1, got 0")):
        z2.run(z2.State(start, start), Y, 1.5, steps=0)
