"""Gaussian laws of linear neurons: against published digits, modes, loops over particles, quadrature and simulation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from theorysim.errors import InputError
from theorysim.kernels import gaussian_chain
from theorysim.kernels.gaussian_chain import Gaussian
from theorysim.kernels.langevin import Model

Z = np.array([[1, 0.5, -0.3], [-0.4, 1.2, 0.8], [0.3, -0.9, 1.1], [1.5, 0.2, 0.6], [-0.7, 0.4, -1.3]])
Y = np.array([1, -1, 0.5, 2, -0.5])
START = np.array([1.0, 1.0, -1.0])

run = jax.jit(gaussian_chain.run, static_argnames="steps")
gap, objective = (jax.jit(f, static_argnames="N") for f in (gaussian_chain.gap, gaussian_chain.objective))
gibbs, limit = (jax.jit(f, static_argnames="N") for f in (gaussian_chain.gibbs, gaussian_chain.limit))
bregman = jax.jit(gaussian_chain.bregman, static_argnames="N")
kl, wasserstein2 = jax.jit(gaussian_chain.kl), jax.jit(gaussian_chain.wasserstein2)


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def gauss():
    return Model.of("linear", "squared", Z, Y, lamp=0.15, lam=0.1)


def modes():
    S = Z.T @ Z / 5
    values, vectors = np.linalg.eigh(S)
    return values, vectors, np.linalg.solve(S + 0.3 * np.eye(3), Z.T @ Y / 5)


def random_gaussian(seed, D):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(D, D))
    return Gaussian(jnp.asarray(rng.normal(size=D)), jnp.asarray(A @ A.T + 0.3 * np.eye(D)))


@pytest.mark.slow
def test_reference_values():
    model = gauss()
    laws = run(gaussian_chain.iid(jnp.asarray(START), 2.0, 8), model, 0.2, steps=600)
    gaps = jax.jit(jax.vmap(lambda law: gaussian_chain.gap(model, law, 8)))(laws)
    expected = {0: 1.953251951158, 1: 1.294103434021, 5: 0.350156547176, 20: 0.032847540772, 100: 0.022246578545}
    np.testing.assert_allclose(gaps[jnp.asarray(list(expected))], list(expected.values()), atol=1e-12)
    np.testing.assert_allclose(gaps[-1], 0.0222464959009, atol=1e-13)
    for N in (2, 8):
        np.testing.assert_allclose(N * gap(model, gibbs(model, N), N), 0.17649332597875, atol=1e-13)
        one, other = gibbs(model, N), limit(model, N)
        np.testing.assert_allclose(wasserstein2(one, other), 0.19867, atol=5e-6)
        # lam = 0.1, alpha = 3: (2/alpha) KL
        np.testing.assert_allclose(2 / 3 * kl(one, other), 0.49601, atol=5e-6)


@pytest.mark.parametrize("N", [1, 2, 5])
def test_the_chain_by_its_modes(N):
    """The mean of the particles relaxes at rates a0 + s_a, their differences at a0."""
    (values, vectors, theta), eta, lam, v0 = modes(), 0.4, 0.1, 0.7
    laws = run(gaussian_chain.iid(jnp.asarray(START), v0, N), gauss(), eta, steps=12)
    factor = lambda a, k: (1 - eta * a) ** k
    variance = lambda a, k: lam / (a * (1 - eta * a / 2)) * (1 - factor(a, k) ** 2) + v0 * factor(a, k) ** 2
    for k in (0, 1, 4, 12):
        mean = theta + vectors @ (factor(0.3 + values, k) * (vectors.T @ (START - theta)))
        np.testing.assert_allclose(laws.mean[k], np.tile(mean, N), atol=1e-13)
        of_mean = (vectors * (variance(0.3 + values, k) / N)) @ vectors.T
        different = np.eye(N) - np.ones((N, N)) / N
        expected = np.kron(different, variance(0.3, k) * np.eye(3)) + np.kron(np.ones((N, N)), of_mean)
        np.testing.assert_allclose(laws.covariance[k], expected, atol=1e-13)


def test_one_step_by_loops():
    """Of any law, not an exchangeable one."""
    N, eta, law = 2, 0.3, random_gaussian(0, 6)
    laws = run(law, gauss(), eta, steps=1)

    def move(x):
        x = x.reshape(N, 3)
        h = np.array([np.mean([particle @ z for particle in x]) for z in Z])
        gradient = sum((h[j] - Y[j]) * Z[j] for j in range(5)) / 5
        return np.concatenate([particle - eta * (gradient + 0.3 * particle) for particle in x])

    offset = move(np.zeros(6))
    A = np.stack([move(e) - offset for e in np.eye(6)], axis=1)
    np.testing.assert_allclose(laws.mean[0], law.mean)
    np.testing.assert_allclose(laws.mean[1], move(np.asarray(law.mean)), atol=1e-14)
    expected = A @ np.asarray(law.covariance) @ A.T + 2 * 0.1 * eta * np.eye(6)
    np.testing.assert_allclose(laws.covariance[1], expected, atol=1e-13)


def test_the_gibbs_law_is_the_limit_of_small_steps():
    laws = run(gaussian_chain.iid(jnp.asarray(START), 0.3, 3), gauss(), 0.002, steps=20_000)
    expected = gibbs(gauss(), 3)
    np.testing.assert_allclose(laws.mean[-1], expected.mean, atol=1e-4)
    np.testing.assert_allclose(laws.covariance[-1], expected.covariance, atol=2e-3 * 0.4)


def test_objectives_by_sampling():
    """F averaged over 200 000 draws, within 4.5 standard errors."""
    N, law, model = 2, random_gaussian(1, 6), gauss()
    X = np.random.default_rng(0).multivariate_normal(law.mean, law.covariance, size=200_000).reshape(-1, N, 3)
    h = X.mean(axis=1) @ Z.T
    F = np.mean((h - Y) ** 2, axis=1) / 2 + 0.15 * np.sum(X**2, axis=(1, 2)) / N
    entropy = -np.linalg.slogdet(2 * np.pi * np.e * np.asarray(law.covariance))[1] / 2
    value = objective(model, law, N) - 0.1 / N * entropy
    assert abs(value - F.mean()) < 4.5 * F.std() / np.sqrt(len(F))
    theta = np.asarray(limit(model, 1).mean)
    B = np.mean((h - Z @ theta) ** 2, axis=1) / 2
    assert abs(bregman(model, law, N) - B.mean()) < 4.5 * B.std() / np.sqrt(len(B))


@pytest.mark.parametrize("N", [1, 2, 4])
def test_identities_of_the_gap(N):
    """gap(P) = E B + (lam/N) KL(P || mu*^N) = gap(P*) + (lam/N) KL(P || P*); mu* minimises L."""
    model, law = gauss(), random_gaussian(2, 3 * N)
    star, product, value = gibbs(model, N), limit(model, N), gap(model, law, N)
    np.testing.assert_allclose(bregman(model, law, N) + 0.1 / N * kl(law, product), value, rtol=1e-12)
    np.testing.assert_allclose(gap(model, star, N) + 0.1 / N * kl(law, star), value, rtol=1e-12)
    # Independent neurons: their own gap is E B, which vanishes with 1/N
    np.testing.assert_allclose(gap(model, product, N), bregman(model, product, N), atol=1e-14)
    np.testing.assert_allclose(limit(model, N).mean[:3], modes()[2], atol=1e-14)
    np.testing.assert_allclose(limit(model, N).covariance, np.eye(3 * N) / 3, rtol=1e-12)


def test_distances_by_scipy():
    one, other = random_gaussian(3, 4), random_gaussian(4, 4)
    C, D = np.asarray(one.covariance), np.asarray(other.covariance)
    overlap = np.trace(scipy.linalg.sqrtm(scipy.linalg.sqrtm(C) @ D @ scipy.linalg.sqrtm(C))).real
    shift = np.asarray(other.mean - one.mean)
    np.testing.assert_allclose(wasserstein2(one, other), shift @ shift + np.trace(C + D) - 2 * overlap, rtol=1e-10)
    precision = np.linalg.inv(D)
    logs = np.linalg.slogdet(D)[1] - np.linalg.slogdet(C)[1]
    np.testing.assert_allclose(kl(one, other), (np.trace(precision @ C) + shift @ precision @ shift - 4 + logs) / 2)
    np.testing.assert_allclose([kl(one, one), wasserstein2(one, one)], 0, atol=1e-12)


def test_many_step_sizes_in_one_program():
    law, etas = gaussian_chain.iid(jnp.asarray(START), 0.5, 2), jnp.asarray([0.05, 0.2, 0.5])
    many = jax.jit(jax.vmap(lambda eta: gaussian_chain.run(law, gauss(), eta, steps=10)))(etas)
    for i in range(3):
        single = run(law, gauss(), etas[i], steps=10)
        np.testing.assert_allclose(many.covariance[i], single.covariance, atol=1e-14)


def test_bad_input_is_refused():
    law = gaussian_chain.iid(jnp.zeros(3), 1.0, 2)
    curved = Model.of("tanh", "squared", Z, Y, lamp=0.15, lam=0.1)
    with pytest.raises(InputError, match="neuron must be linear without bias, got Ridge"):
        gaussian_chain.run(law, curved, 0.1, steps=1)
    with pytest.raises(InputError, match="loss must be squared, got Logistic"):
        gaussian_chain.gibbs(Model.of("linear", "logistic", Z, np.sign(Y), lamp=0.15, lam=0.1), 2)
    with pytest.raises(InputError, match="number of particles N must be at least 1, got 0"):
        gaussian_chain.iid(jnp.zeros(3), 1.0, 0)
