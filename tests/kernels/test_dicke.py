"""The Dicke-space simulator against full state vectors, exact diagonalisation, closed forms and reference values."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.linalg import eigh_tridiagonal
from scipy.stats import binom

from theorysim.errors import InputError
from theorysim.kernels.dicke import distribution, mix, overlaps


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


run = jax.jit(distribution)


def measured(cost, gammas, betas):
    return np.asarray(run(*(jnp.asarray(x, jnp.float64) for x in (cost, gammas, betas))))


def magnetisation(n):
    return (n - 2 * np.arange(n + 1)) / n


def full_state_vector(cost, gammas, betas, u=0):
    """The same circuit on all 2^n strings; k counts the bits that differ from those of the string u."""
    n = len(cost) - 1
    k = np.array([(s ^ u).bit_count() for s in range(2**n)])
    psi = np.full(2**n, 2 ** (-n / 2), complex)
    for gamma, beta in zip(gammas, betas, strict=True):
        one = np.array([[np.cos(beta), -1j * np.sin(beta)], [-1j * np.sin(beta), np.cos(beta)]])
        mixer = np.ones((1, 1))
        for _ in range(n):
            mixer = np.kron(mixer, one)
        psi = mixer @ (np.exp(-1j * gamma * cost[k]) * psi)
    return np.bincount(k, np.abs(psi) ** 2, n + 1)


def by_diagonalisation(cost, gammas, betas):
    n = len(cost) - 1
    k = np.arange(1, n + 1)
    _, vectors = eigh_tridiagonal(np.zeros(n + 1), np.sqrt(k * (n + 1 - k)))
    psi = np.sqrt(binom.pmf(np.arange(n + 1), n, 0.5)).astype(complex)
    for gamma, beta in zip(gammas, betas, strict=True):
        phases = np.exp(-1j * beta * np.arange(-n, n + 1, 2))
        psi = vectors @ (phases * (vectors.T @ (np.exp(-1j * gamma * cost) * psi)))
    return np.abs(psi) ** 2


COSTS = {
    "q=2": lambda m: 1.4 * len(m) * m**2,
    "q=3": lambda m: 1.1 * len(m) * m**3,
    "no symmetry": lambda m: 3 * np.sin(5 * m + 1) + np.abs(m) - 2 * (m > 0.3),
}


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize(
    ("n", "gammas", "betas"),
    [
        (1, [0.4], [0.3]),
        (2, [0.3, -0.7], [0.9, 2.5]),
        (5, [0.2, 0.5, 0.1], [-0.4, 1.7, 0.6]),
        (8, [0.3, 0.2], [0.8, 4]),
    ],
)
def test_full_state_vector(cost, n, gammas, betas):
    values = COSTS[cost](magnetisation(n))
    for u in {0, 2**n - 1, 5 % 2**n}:
        expected = full_state_vector(values, gammas, betas, u)
        np.testing.assert_allclose(measured(values, gammas, betas), expected, atol=1e-14)


@pytest.mark.parametrize("cost", COSTS)
@pytest.mark.parametrize("n", [199, 200])
def test_exact_diagonalisation(cost, n):
    values, gammas, betas = COSTS[cost](magnetisation(n)), [0.25, -0.1, 0.4], [0.6, 2.2, -0.5]
    expected = by_diagonalisation(values, gammas, betas)
    np.testing.assert_allclose(measured(values, gammas, betas), expected, atol=1e-13)


@pytest.mark.parametrize("n", [1, 2, 9999, 10_000])
@pytest.mark.parametrize("beta", [0.0, 1e-9, 0.3, np.pi / 4, 1.5])
def test_mixer_turns_all_up_into_the_coherent_state(n, beta):
    """e^{-i beta B} |0> has the amplitudes (-i)^k sqrt(C(n, k)) cos^{n-k} sin^k: every qubit turns by itself."""
    state = np.asarray(jax.jit(mix)(jnp.zeros((2, n + 1)).at[0, 0].set(1.0), beta))
    expected = np.sqrt(binom.pmf(np.arange(n + 1), n, np.sin(beta) ** 2))
    sign = np.sign(state[0, np.argmax(expected)])
    np.testing.assert_allclose(sign * state[0], expected, atol=1e-12)
    np.testing.assert_array_equal(state[1], 0)


def test_start_is_exact_at_large_n():
    n = 10_000
    weights = measured(np.zeros(n + 1), [], [])
    for k in (4000, 4999, 5000, 5001, 5400):
        np.testing.assert_allclose(weights[k], math.comb(n, k) / 2**n, rtol=1e-13)
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-14)


def test_the_circuit_is_unitary_at_large_n():
    for n in (3201, 10_000):
        probabilities = measured(n * COSTS["no symmetry"](magnetisation(n)), [0.3, 0.1, -0.2], [0.7, np.pi / 4, 1.1])
        assert abs(probabilities.sum() - 1) < 1e-12


@pytest.mark.parametrize("n", [6, 7])
def test_mixer_angles_are_periodic(n):
    cost, gammas, betas = COSTS["no symmetry"](magnetisation(n)), [0.4, 0.7], np.array([0.5, -0.3])
    plain = measured(cost, gammas, betas)
    np.testing.assert_allclose(measured(cost, gammas, betas + np.array([np.pi, -2 * np.pi])), plain, atol=1e-14)
    # A quarter turn flips every qubit.
    np.testing.assert_allclose(measured(cost, gammas, betas + np.array([0, np.pi / 2])), plain[::-1], atol=1e-14)


# With lam_n = n^{(q - 2 + epsilon)/2}: gammas, betas, q, E R^moment per n.
REFERENCE = [
    ([0.15, 0.2], [np.pi / 4] * 2, 2, 2, {100: 0.14781, 400: 0.16510, 1600: 0.17461, 2400: 0.17641}),
    ([0.15, 0.35, 0.2], [np.pi / 4] * 3, 2, 2, {100: 0.12978, 400: 0.18938, 1600: 0.22955, 2400: 0.23824}),
    ([0.25, 0.2], [np.pi / 4] * 2, 2, 2, {25: 0.17940, 50: 0.22664, 100: 0.26409, 200: 0.29170, 400: 0.31161,
                                          800: 0.32586, 1600: 0.33604, 3200: 0.34328}),
    ([0.25, 0.25, 0.2], [np.pi / 4] * 3, 2, 2, {100: 0.08730, 400: 0.17598, 1600: 0.24299, 3200: 0.26733}),
    ([0.25, 0.2], [0.5, 0.7], 2, 2, {100: 0.40264, 400: 0.38967, 1600: 0.37072, 3200: 0.36113}),
    ([0.2573, 0.2974], [np.pi / 4] * 2, 2, 2, {25: 0.37251, 100: 0.42368, 400: 0.44673, 3200: 0.46428}),
    ([0.1, 0.05], [0.6, np.pi / 4], 3, 1, {200: 0.18867, 800: 0.16751, 1600: 0.16014, 3200: 0.15430}),
    ([0.1, 0.05], [np.pi / 4] * 2, 3, 1, {200: 0.17816, 800: 0.16419, 1600: 0.15913, 3200: 0.15504}),
]  # fmt: skip


@pytest.mark.parametrize(("gammas", "betas", "q", "moment", "values"), REFERENCE)
def test_reference_values(gammas, betas, q, moment, values):
    p = len(gammas)
    epsilon = 1 / p if q == 2 else (q - 2) / ((q - 1) ** p - 1)
    for n, expected in values.items():
        m = magnetisation(n)
        probabilities = measured(n ** ((q - 2 + epsilon) / 2) * n * m**q, gammas, betas)
        assert abs(probabilities @ m**moment - expected) < 6e-6, n


def test_derivatives_in_the_angles_and_the_cost():
    m = magnetisation(60)
    start = [jnp.asarray(x) for x in (60 * m**3, [0.05, 0.12], [0.6, 1.9])]
    moment = lambda cost, gammas, betas: distribution(cost, gammas, betas) @ (m + 0.5) ** 2
    flat, unflatten = ravel_pytree(start[1:])
    of_angles = jax.jit(lambda angles: moment(start[0], *unflatten(angles)))
    h = 1e-5 * np.eye(4)
    differences = lambda f: np.array([(f(flat + e) - f(flat - e)) / 2e-5 for e in h])
    reverse, forward = jax.jit(jax.grad(of_angles)), jax.jit(jax.jacfwd(of_angles))
    np.testing.assert_allclose(reverse(flat), differences(of_angles), atol=1e-7)
    np.testing.assert_allclose(forward(flat), reverse(flat), rtol=1e-11)
    np.testing.assert_allclose(jax.jit(jax.hessian(of_angles))(flat), differences(reverse), atol=1e-5)
    direction = np.sin(np.arange(61))
    slope = jax.jit(jax.grad(moment))(*start) @ direction
    ahead, behind = (measured(start[0] + s * direction, *start[1:]) @ (m + 0.5) ** 2 for s in (1e-5, -1e-5))
    np.testing.assert_allclose(slope, (ahead - behind) / 2e-5, atol=1e-8)


def test_batches_agree_with_single_runs():
    m, rng = magnetisation(50), np.random.default_rng(0)
    batch = (rng.normal(size=(4, 51)), rng.normal(size=(4, 3)), rng.normal(size=(4, 3)))
    together = jax.jit(jax.vmap(distribution))(*map(jnp.asarray, batch))
    np.testing.assert_allclose(together, [measured(*one) for one in zip(*batch, strict=True)], atol=1e-14)
    np.testing.assert_array_equal(overlaps(50), m)


def test_float32_runs_in_float32():
    cost, gammas, betas = 500 * magnetisation(500) ** 2, [0.05, 0.3], [0.6, 2.0]
    single = run(jnp.asarray(cost, jnp.float32), jnp.asarray(gammas), jnp.asarray(betas))  # angles follow the cost
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(
        single, measured(cost, gammas, betas), atol=1e-6
    )  # phases up to 150 rad, rounded at 1e-5


def test_bad_input_is_refused():
    angle = jnp.zeros(1)
    with pytest.raises(InputError, match="n must be at least 1, got 0"):
        distribution(jnp.zeros(1), angle, angle)
    with pytest.raises(InputError, match=r"gammas and betas must be equally many.* got 1 and 2"):
        distribution(jnp.zeros(3), angle, jnp.zeros(2))
    with pytest.raises(InputError, match="n must be at least 1, got 0"):
        overlaps(0)
