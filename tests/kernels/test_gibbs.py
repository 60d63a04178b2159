"""Gibbs sampling against enumeration and closed forms; enumeration against sums over configurations in Python."""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theorysim.errors import InputError
from theorysim.kernels import gibbs
from theorysim.kernels.priors import bernoulli_gaussian, discrete, gaussian, three_point

U3 = three_point()
SKEWED = discrete([-1.0, 0.5, 2.0], [0.5, 0.3, 0.2])

sampler = jax.jit(gibbs.run, static_argnames=("chains", "sweeps", "burn_in"))
enumerate_posterior = jax.jit(gibbs.enumerate_posterior)


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def make(n, p, noise, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, p)) / np.sqrt(p)
    y = X @ rng.choice([-1.0, 0.0, 1.0], size=p) + np.sqrt(noise) * rng.normal(size=n)
    return jnp.asarray(X), jnp.asarray(y)


@pytest.mark.parametrize("prior", [U3, SKEWED])
def test_enumeration_by_hand(prior):
    n, p, noise = 3, 4, 0.3
    X, y = make(n, p, noise)
    evidence, probabilities = 0.0, np.zeros((p, 3))
    for configuration in product(range(3), repeat=p):
        configuration = list(configuration)
        residual = np.asarray(y) - np.asarray(X) @ prior.atoms[configuration]
        weight = np.prod(prior.weights[configuration]) * np.exp(-residual @ residual / (2 * noise))
        evidence += weight / (2 * np.pi * noise) ** (n / 2)
        probabilities[range(p), configuration] += weight
    probabilities /= probabilities.sum(1, keepdims=True)
    exact = enumerate_posterior(X, y, noise, prior)
    np.testing.assert_allclose(exact.log_evidence, np.log(evidence), rtol=1e-13)
    np.testing.assert_allclose(exact.probabilities, probabilities, rtol=1e-12)
    np.testing.assert_allclose(exact.mean, probabilities @ prior.atoms, atol=1e-13)
    np.testing.assert_allclose(exact.second_moment, probabilities @ prior.atoms**2, rtol=1e-12)


@pytest.mark.parametrize("prior", [U3, SKEWED])
def test_averages_are_those_of_the_posterior(prior):
    """p = 8: z-scores from the sampler's own errors; eight, each beyond 4.5 with probability 1e-5 (64 chains)."""
    X, y = make(8, 8, 0.25, seed=1)
    exact = enumerate_posterior(X, y, 0.25, prior)
    found = sampler(jax.random.key(0), X, y, 0.25, prior, chains=64, sweeps=400, burn_in=40)
    assert np.abs((found.mean - exact.mean) / np.sqrt(found.mean_variance)).max() < 4.5
    assert found.mean_variance.max() < 1e-3
    np.testing.assert_allclose(found.second_moment, exact.second_moment, atol=0.02 * np.max(prior.atoms**2))


def test_the_reported_variance_is_that_of_the_mean():
    """Over 40 runs at p = 8, the mean of squared errors over the mean reported variance is 1 within four standard errors."""
    X, y = make(8, 8, 0.25, seed=2)
    exact = enumerate_posterior(X, y, 0.25, U3)
    one = lambda key: gibbs.run(key, X, y, 0.25, U3, chains=16, sweeps=30, burn_in=10)
    runs = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(1), 40))
    ratios = np.mean((np.asarray(runs.mean) - exact.mean) ** 2, axis=1) / np.mean(runs.mean_variance, axis=1)
    assert abs(ratios.mean() - 1) < 4 * ratios.std(ddof=1) / np.sqrt(40)


def test_gaussian_posterior():
    """Means and variances of beta in closed form, at n < p."""
    n, p, noise, v = 15, 20, 0.3, 1.5
    X, y = make(n, p, noise)
    found = sampler(jax.random.key(2), X, y, noise, gaussian(v), chains=64, sweeps=400, burn_in=50)
    covariance = np.linalg.inv(np.asarray(X.T @ X) / noise + np.eye(p) / v)
    mean = covariance @ np.asarray(X.T @ y) / noise
    assert np.abs((found.mean - mean) / np.sqrt(found.mean_variance)).max() < 4.5
    np.testing.assert_allclose(found.second_moment, np.diag(covariance) + mean**2, rtol=0.15, atol=0.02)


def test_spike_and_slab_posterior():
    """One coordinate: the tilted prior itself."""
    prior, noise = bernoulli_gaussian(0.3, 2.0), 0.5
    X, y = jnp.asarray([[1.2], [-0.4]]), jnp.asarray([0.8, 0.3])
    found = sampler(jax.random.key(0), X, y, noise, prior, chains=4, sweeps=3, burn_in=1)
    expected = prior.moments(X[:, 0] @ y / noise, X[:, 0] @ X[:, 0] / noise)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-12)  # conditional means of one coordinate do not vary
    np.testing.assert_allclose(found.second_moment, expected.second_moment, rtol=1e-12)
    np.testing.assert_allclose(found.mean_variance, 0, atol=1e-25)


def test_the_product_is_maintained():
    X, y = make(12, 10, 0.25)
    found = sampler(jax.random.key(0), X, y, 0.25, U3, chains=3, sweeps=200, burn_in=0)
    assert found.state.beta.shape == (10, 3)
    assert set(np.unique(found.state.beta)) <= {-1.0, 0.0, 1.0}
    np.testing.assert_allclose(found.state.product, X.T @ X @ found.state.beta, atol=1e-12)


def test_one_sweep_by_hand():
    """Coordinate by coordinate with the same uniforms."""
    X, y = make(5, 4, 0.3)
    problem = gibbs.problem(X, y, 0.3)
    beta = jnp.asarray(np.random.default_rng(0).choice([-1.0, 0.0, 1.0], size=(4, 2)))
    key = jax.random.key(5)
    state, (means, _) = jax.jit(gibbs.sweep)(key, gibbs.init(problem, beta), problem, U3)
    uniform, b = np.asarray(jax.random.uniform(key, (4, 2), minval=float(jnp.finfo(float).tiny))), np.array(beta)
    for j in range(4):
        for chain in range(2):
            others = np.asarray(y) - np.asarray(X) @ b[:, chain] + np.asarray(X[:, j]) * b[j, chain]
            logits = [-np.sum((others - X[:, j] * atom) ** 2) / 0.6 for atom in (-1, 0, 1)]
            q = np.exp(logits - np.max(logits))
            q /= q.sum()
            np.testing.assert_allclose(means[j, chain], q[2] - q[0], atol=1e-12)
            b[j, chain] = np.searchsorted(np.cumsum(q), uniform[j, chain], side="right") - 1
    np.testing.assert_array_equal(state.beta, b)


def test_single_precision():
    X, y = make(8, 8, 0.25, seed=1)
    exact = enumerate_posterior(X, y, 0.25, U3)
    single = [x.astype(jnp.float32) for x in (X, y)]
    found = jax.jit(partial(gibbs.run, chains=64, sweeps=200, burn_in=40))(jax.random.key(0), *single, 0.25, U3)
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype("float32")}
    np.testing.assert_allclose(found.mean, exact.mean, atol=0.03)


def test_bad_input_is_refused():
    X, y = make(3, 4, 0.3)
    with pytest.raises(InputError, match="chains must be at least 2, got 1"):
        gibbs.run(jax.random.key(0), X, y, 0.3, U3, chains=1, sweeps=5, burn_in=0)
    with pytest.raises(InputError, match=r"burn_in must lie in 0 ... 4 for 5 sweeps, got 5"):
        gibbs.run(jax.random.key(0), X, y, 0.3, U3, chains=2, sweeps=5, burn_in=5)
    with pytest.raises(InputError, match="3 atoms to the power p = 13 must be at most 600000, got 1594323"):
        gibbs.enumerate_posterior(jnp.ones((2, 13)), jnp.ones(2), 0.3, U3)
