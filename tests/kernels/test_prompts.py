"""Prompts against their laws, Hermite series against NumPy, the prior kernel against the average over directions."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random
from numpy.polynomial import hermite_e
from scipy import stats

from theorysim.errors import InputError
from theorysim.kernels import prompts
from theorysim.kernels.prompts import FixedLink, PromptLaw, hermite, monomial, random_hermite

KEY = random.key(3)
draw = jax.jit(prompts.sample, static_argnames=("length", "dtype"))


def batch(law, count, length, dtype="float64"):
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, draw(KEY, law, jnp.arange(count), length=length, dtype=dtype))


def factorials(*degrees):
    return np.array([float(math.factorial(k)) for k in degrees])


@pytest.mark.parametrize("degree", [0, 1, 2, 5, 12])
def test_hermite_series(degree):
    rng = np.random.default_rng(degree)
    c, z = rng.normal(size=degree + 1), rng.normal(size=50)
    with jax.enable_x64(True):
        ours = jax.jit(prompts.hermite_series)(c, z)
    expected = hermite_e.hermeval(z, c / factorials(*range(degree + 1)))
    np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("noise", prompts.NOISES)
@pytest.mark.parametrize(("inputs", "variance"), [("gaussian", 2), ("sphere", 2 * 5 / 7 - 2 / 7)])
def test_law_of_a_prompt(inputs, variance, noise):
    d, r, tau, count = 5, 3, 0.3, 20_000
    X, y, f, beta, _ = batch(PromptLaw(d, r, monomial(2), tau, noise=noise, inputs=inputs), count, 1)
    z = np.einsum("bnr,br->bn", X[..., :r], beta)
    np.testing.assert_allclose(f, (z**2 - 1) / np.sqrt(2), atol=1e-12)
    # five standard errors each
    np.testing.assert_allclose(
        np.einsum("bna,bnc->ac", X, X) / (2 * count), np.eye(d), atol=5 * np.sqrt(variance / 4e4)
    )
    np.testing.assert_allclose(np.linalg.norm(beta, axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(beta.T @ beta / count, np.eye(r) / r, atol=5 * np.sqrt(4 / 45 / count))
    s = (y - f) / tau
    assert abs(s.mean()) < 5 / np.sqrt(s.size)
    assert abs((s[:, 0] * s[:, 1]).mean()) < 5 / np.sqrt(count)
    assert abs((s * z).mean()) < 5 / np.sqrt(s.size)
    # noise shares nothing with the inputs, nor with their sizes or the direction
    sizes = np.abs(X.reshape(count, -1))
    for drawn in (X.reshape(count, -1), sizes - sizes.mean(0), beta):
        assert np.abs(s.T @ drawn / count).max() < 5 * drawn.std() / np.sqrt(count)
    if noise == "sign":
        np.testing.assert_allclose(np.abs(s), 1, atol=1e-9)
    else:
        assert stats.kstest(s.ravel(), "norm").pvalue > 1e-3
    if inputs == "sphere":
        np.testing.assert_allclose((X**2).sum(-1), d, atol=1e-12)
    else:
        assert stats.kstest(X[:2000].ravel(), "norm").pvalue > 1e-3


def test_prompts_depend_on_their_number_alone():
    law = PromptLaw(4, 2, random_hermite(np.eye(3), 2), 0.1)
    whole = draw(KEY, law, jnp.arange(7), length=5)
    part = draw(KEY, law, jnp.array([4, 2]), length=5)
    longer = draw(KEY, law, jnp.arange(7), length=9)
    for all_, some in zip(whole, part, strict=True):
        np.testing.assert_allclose(all_[jnp.array([4, 2])], some, atol=1e-6)
    np.testing.assert_allclose(longer.y[:, :6], whole.y, atol=1e-5)
    assert len(np.unique(whole.y)) == whole.y.size


def test_random_links_have_the_given_moments():
    C = np.array([[2.0, 0, 3], [0, 5, 0], [3, 0, 20]])
    link = random_hermite(C, 2)
    with jax.enable_x64(True):
        # Values on a grid give coefficients back, linearly.
        z = np.linspace(-2, 2, 9)
        u = np.random.default_rng(0).normal(size=(40_000, 3))
        f = jax.jit(jax.vmap(link, (None, 0)))(z, u)
    basis = np.stack([hermite_e.hermeval(z, np.eye(5)[k]) / math.factorial(k) for k in (2, 3, 4)])
    c = np.linalg.lstsq(basis.T, np.asarray(f).T, rcond=None)[0]
    np.testing.assert_allclose(c @ c.T / len(u), C, atol=0.25)
    quadratic = np.einsum("kt,kl,lt->t", c, np.linalg.inv(C), c)
    np.testing.assert_allclose(quadratic, 3, rtol=1e-9)  # on the ellipsoid of radius sqrt(3)


def test_own_links():
    class Phase:
        draws = 1

        def __call__(self, z, u):
            return jnp.sin(z + u[0])

    for link, expected in ((FixedLink(jnp.tanh), lambda z, u: np.tanh(z)), (Phase(), lambda z, u: np.sin(z + u))):
        law = PromptLaw(3, 1, link, 0.0)
        with jax.enable_x64(True):
            X, y, f, beta, u = jax.jit(lambda n, law=law: prompts.sample(KEY, law, n, length=4, dtype="float64"))(
                jnp.arange(6)
            )
        np.testing.assert_allclose(f, expected(X[..., 0] * beta, u if u.shape[1] else None), atol=1e-12)
        np.testing.assert_array_equal(y, f)


@pytest.mark.parametrize("r", [1, 2])
def test_prior_kernel_is_the_average_over_directions(r):
    # A polynomial of degree below the number of points is averaged over the circle exactly by equidistant points.
    rng = np.random.default_rng(r)
    root = rng.normal(size=(4, 4))
    C, X, Z = root @ root.T, rng.normal(size=(3, 4)), rng.normal(size=(5, 4))
    angles = 2 * np.pi * np.arange(32) / 32 if r == 2 else np.array([0, np.pi])
    betas = np.stack([np.cos(angles), np.sin(angles)], axis=1)[:, :r]
    basis = np.stack([np.eye(5)[k] / math.factorial(k) for k in (1, 2, 3, 4)])
    values = lambda x: np.stack([hermite_e.hermeval(betas @ x[:r], c) for c in basis])  # degree, direction
    expected = [[np.einsum("kt,kl,lt->", values(x), C, values(z)) / len(betas) for z in Z] for x in X]
    with jax.enable_x64(True):
        ours = jax.jit(prompts.prior_kernel(C, 1, r))(X, Z)
    np.testing.assert_allclose(ours, expected, rtol=1e-12)


def test_prior_kernel_of_degree_two():
    r, rng = 7, np.random.default_rng(0)
    X = rng.normal(size=(4, r))
    s = (X**2).sum(1)
    expected = 0.5 * ((s[:, None] * s + 2 * (X @ X.T) ** 2) / (r * (r + 2)) - (s[:, None] + s) / r + 1)
    with jax.enable_x64(True):
        ours = jax.jit(prompts.prior_kernel(np.array([[2.0]]), 2, r))(X, X)
    np.testing.assert_allclose(ours, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: PromptLaw(3, 4, monomial(2), 0.1), r"dimension r of the subspace must lie in \[1, d = 3\], got 4"),
        (lambda: PromptLaw(3, 2, monomial(2), -1.0), "noise level tau must be at least 0, got -1.0"),
        (
            lambda: PromptLaw(3, 2, monomial(2), 0.1, noise="cauchy"),
            "noise must be one of sign, gaussian, got 'cauchy'",
        ),
        (
            lambda: PromptLaw(3, 2, monomial(2), 0.1, inputs="cube"),
            "inputs must be one of gaussian, sphere, got 'cube'",
        ),
        (lambda: monomial(-1), "degree of the link must be at least 0, got -1"),
        (lambda: hermite([]), "coefficients of a link must be at least one, got none"),
        (lambda: hermite([0, np.nan]), r"coefficients of a link must be finite, got \[0.0, nan\]"),
        (lambda: random_hermite(np.array([[1.0, 2], [2, 1]]), 1), "must be positive semi-definite"),
        (lambda: random_hermite(np.array([[1.0, 2], [0, 1]]), 1), "must be a symmetric matrix"),
        (
            lambda: prompts.sample(KEY, PromptLaw(3, 2, monomial(2), 0.1), jnp.arange(2), length=-1),
            "length of a prompt",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()
