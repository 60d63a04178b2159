"""Kernel ridge regression against scikit-learn, the posterior against Monte Carlo and against other smoothers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random
from sklearn.kernel_ridge import KernelRidge

from theorysim.errors import InputError
from theorysim.kernels import kernel_ridge as kr
from theorysim.kernels.prompts import PromptLaw, monomial, prior_kernel, sample

RNG = np.random.default_rng(0)
n, p, d = 40, 15, 3
X, Z, Y = RNG.normal(size=(n, d)), RNG.normal(size=(p, d)), RNG.normal(size=(n, 2))


def go(f, *arguments):
    """f compiled, in float64, from and to NumPy."""
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, jax.jit(f)(*arguments))


def laplace(x, z):
    return jnp.exp(-jnp.sum(jnp.abs(x - z)) / 2)


@pytest.mark.parametrize("delta", [1e-6, 0.3])
@pytest.mark.parametrize(
    ("kernel", "name", "gamma"), [(kr.rbf(2.5), "rbf", 1 / 5), (kr.gram(laplace), "laplacian", 0.5)]
)
def test_against_scikit_learn(kernel, name, gamma, delta):
    regress = lambda X, y, Z: kr.predict(kr.fit(X, y, kernel, delta), Z, kernel)
    several, one = go(regress, X, Y, Z), go(regress, X, Y[:, 0], Z)
    weights = go(lambda X, Z: kr.smoother(X, Z, kernel, delta), X, Z)
    expected = KernelRidge(alpha=delta, kernel=name, gamma=gamma).fit(X, Y).predict(Z)
    np.testing.assert_allclose(several, expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(one, expected[:, 0], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(weights @ Y, expected, rtol=1e-6, atol=1e-9)


def test_batched_over_data_and_ridge():
    kernel = kr.rbf(3.0)
    one = lambda X, y, delta, Z: kr.predict(kr.fit(X, y, kernel, delta), Z, kernel)
    Xs, ys, deltas = RNG.normal(size=(2, n, d)), RNG.normal(size=(2, n)), np.array([0.01, 1.0])
    ours = go(jax.vmap(jax.vmap(one, (None, None, 0, None)), (0, 0, None, None)), Xs, ys, deltas, Z)
    for i in range(2):
        for j in range(2):
            np.testing.assert_allclose(ours[i, j], go(one, Xs[i], ys[i], deltas[j], Z), rtol=1e-9, atol=1e-12)


def test_rbf_of_equal_points_is_at_most_one():
    assert (go(lambda X: kr.rbf(1.0)(X, X), X + 1e4) <= 1).all()


def test_posterior_is_the_conditional_gaussian():
    tau2, kernel = 0.2, kr.rbf(2.0)
    joint = lambda A, B: np.exp(-((A[:, None] - B[None]) ** 2).sum(-1) / 4)
    inverse = np.linalg.inv(joint(X, X) + tau2 * np.eye(n))
    k = joint(X, Z)
    ours = go(lambda X, y, Z: kr.posterior(X, y, Z, kernel, tau2), X, Y[:, 0], Z)
    np.testing.assert_allclose(ours.mean, k.T @ inverse @ Y[:, 0], atol=1e-10)
    np.testing.assert_allclose(ours.variance, 1 - np.einsum("ip,ij,jp->p", k, inverse, k), atol=1e-10)


def test_no_smoother_beats_the_posterior():
    tau2, C = 0.04, np.array([[2.0]])
    variance = go(lambda X, y, Z: kr.posterior(X, y, Z, prior_kernel(C, 2, d), tau2).variance, X, Y[:, 0], Z)
    risk = lambda weights: go(lambda s, X, Z: kr.smoother_risk(s, X, Z, prior_kernel(C, 2, d), tau2), weights, X, Z)
    smoother = lambda kernel, delta: go(lambda X, Z: kr.smoother(X, Z, kernel(), delta), X, Z)
    prior = lambda: prior_kernel(C, 2, d)
    optimum = smoother(prior, tau2)
    np.testing.assert_allclose(risk(optimum), variance, atol=1e-10)
    for weights in (
        smoother(lambda: kr.rbf(3.0), 0.01),
        smoother(prior, 0.1),
        optimum + 1e-3 * RNG.normal(size=(p, n)),
    ):
        assert (risk(weights) > variance).all()


def test_risk_of_a_smoother_over_prompts():
    # One set of inputs, many directions and noises.
    tau, T = 0.3, 20_000
    law = PromptLaw(d, d, monomial(2), tau)
    beta = go(lambda: sample(random.key(0), law, jnp.arange(T), length=0, dtype="float64").beta)
    link = lambda x: ((x @ beta.T) ** 2 - 1) / np.sqrt(2)
    weights = go(lambda X, Z: kr.smoother(X, Z, kr.rbf(3.0), 0.1), X, Z)
    prior = lambda: prior_kernel(np.array([[2.0]]), 2, d)
    expected = go(lambda s, X, Z: kr.smoother_risk(s, X, Z, prior(), tau**2), weights, X, Z)
    y = link(X) + tau * RNG.choice([-1, 1], (n, T))
    square = (weights @ y - link(Z)) ** 2
    assert (np.abs(square.mean(1) - expected) < 4.5 * square.std(1) / np.sqrt(T)).all()


def test_single_precision_is_refused():
    x = jnp.ones((3, 2), jnp.float32)
    with pytest.raises(InputError, match="inputs X must be in float64"):
        kr.fit(x, x[:, 0], kr.rbf(1.0), 0.1)
