"""Linear attention against loops over examples, autodiff of the whole loss, and normal equations solved three ways."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random

from theorysim.errors import InputError
from theorysim.kernels import linear_attention as la
from theorysim.kernels.prompts import PromptLaw, monomial, random_hermite, sample

KEY = random.key(11)
LAW = PromptLaw(5, 2, monomial(2), 0.3)
RNG = np.random.default_rng(0)
W, B = RNG.normal(size=(6, 5)), RNG.uniform(-1, 1, 6)

one_step = jax.jit(la.stage_one, static_argnames=("length", "chunk"))


def go(f, *arguments):
    """f compiled, in float64, from and to NumPy."""
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, jax.jit(f)(*arguments))


def draw(count, length, law=LAW):
    return go(lambda: sample(KEY, law, jnp.arange(count), length=length, dtype="float64"))


def gradients(X, y, W, b):
    """g_t by loops, shape (prompt, neuron, d)."""
    relu = lambda h: max(h, 0.0)
    T, N = y.shape[0], y.shape[1] - 1
    out = np.zeros((T, *W.shape))
    for t in range(T):
        for j, (w, bias) in enumerate(zip(W, b, strict=True)):
            h = X[t] @ w + bias
            p = sum(y[t, i] * relu(h[i]) for i in range(N)) / N
            q = sum(y[t, i] * (h[i] > 0) * X[t, i] for i in range(N)) / N
            out[t, j] = y[t, -1] * (relu(h[-1]) * q + (h[-1] > 0) * p * X[t, -1])
    return out


# --- stage one --------------------------------------------------------------------------------------------------------


RANDOM = PromptLaw(5, 5, random_hermite(np.diag([2.0, 6.0]), 2), 0.1, noise="gaussian")


@pytest.mark.slow
@pytest.mark.parametrize(("law", "chunk"), [(LAW, 1), (LAW, 4), (RANDOM, 7), (RANDOM, None)])
def test_one_step_against_loops(law, chunk):
    batch = draw(7, 4, law)
    with jax.enable_x64(True):
        ours = one_step(KEY, law, W, B, prompts=7, length=4, chunk=chunk)
        mean = np.asarray(ours.mean)
    g = gradients(batch.X, batch.y, W, B)
    np.testing.assert_allclose(mean, g.mean(0), atol=1e-13)
    np.testing.assert_allclose(ours.square, (g**2).sum((0, 2)), rtol=1e-12)
    np.testing.assert_allclose(ours.inside, (g[..., : law.r] ** 2).sum((0, 2)), rtol=1e-12)
    assert ours.prompts == 7


def test_the_accelerators_form_of_the_sums(monkeypatch):
    with jax.enable_x64(True):
        ours = one_step(KEY, LAW, W, B, prompts=9, length=4)
        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
        other = jax.jit(lambda W, b: la.stage_one(KEY, LAW, W, b, prompts=9, length=4))(W, B)
    for a, b in zip(ours[:4], other[:4], strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_parts_add_up():
    with jax.enable_x64(True):
        whole = one_step(KEY, LAW, W, B, prompts=50, length=3, first=0)
        parts = [one_step(KEY, LAW, W, B, prompts=n, length=3, first=k) for k, n in ((0, 20), (20, 13), (33, 17))]
        total = parts[0] + parts[1] + parts[2]
        np.testing.assert_allclose(total.mean, whole.mean, atol=1e-14)
        np.testing.assert_allclose(total.square, whole.square, rtol=1e-12)
    assert total.prompts == 50


def test_sums_in_single_precision_lose_nothing():
    # Chunks of one prompt: 2e4 additions, whose rounding errors would be 1e-7 times the sum of absolute values.
    W32, b32 = jnp.asarray(W, jnp.float32), jnp.asarray(B, jnp.float32)
    single = one_step(KEY, LAW, W32, b32, prompts=20_000, length=2, chunk=1)
    assert single.total.dtype == jnp.float32
    with jax.enable_x64(True):
        double = np.asarray(one_step(KEY, LAW, W32.astype(float), b32.astype(float), prompts=20_000, length=2).total)
    error = np.abs(np.asarray(single.total, np.float64) + np.asarray(single.error, np.float64) - double)
    rounding_of_numbers = 6e-8 * np.sqrt(np.asarray(single.square)[:, None] * 10)  # as a random walk
    assert (error < 10 * rounding_of_numbers).all()


def test_gradient_is_that_of_the_loss():
    gamma = RNG.normal(size=6)

    def loss(W, batch):
        total = 0.0
        for X, y in zip(batch.X, batch.y, strict=True):
            phi = jax.nn.relu(X @ W.T + B)
            psi = y[:-1] @ phi[:-1] / (len(y) - 1)
            total += (y[-1] - phi[-1] @ jnp.diag(gamma) @ psi) ** 2
        return total / len(batch.y)

    batch = draw(5, 4)
    np.testing.assert_allclose(
        go(la.gradient, batch, W, B, gamma), go(jax.grad(loss), W, batch), rtol=1e-12, atol=1e-14
    )
    # Small Gamma: the labels in place of the residuals.
    limit = gradients(batch.X, batch.y, W, B).mean(0)
    errors = []
    for size in (1e-3, 1e-5):
        ours = go(la.gradient, batch, W, B, np.full(6, size)) / (-2 * size)
        errors.append(np.linalg.norm(ours - limit) / np.linalg.norm(limit))
    assert errors[0] < 0.1
    assert abs(errors[0] / errors[1] - 100) < 1


def test_mean_gradient_lies_in_the_subspace():
    # E g = 2 (A Pi w + B w) with B = 0 for He_2 at bias 1: nothing is left outside.
    law = PromptLaw(4, 2, monomial(2), 0.1)
    w = jnp.asarray(la.rescale(jnp.asarray(RNG.normal(size=(8, 4)), jnp.float32), 1.0))
    sums = one_step(KEY, law, w, jnp.ones(8), prompts=40_000, length=16)
    g = np.asarray(sums.mean)
    error = np.sqrt(np.asarray(sums.square - sums.inside) / 40_000 / 40_000)
    assert (np.linalg.norm(g[:, 2:], axis=1) < 4 * error).all()
    inside = (g[:, :2] * w[:, :2]).sum(1)
    # 2 A = (2/r) a_1^2 ... with C_22 = 2, a_2 = phi(1), M_4 = 3/8: 2 C a_2^2 M_4 rho^2 / 2
    rho2 = (np.asarray(w)[:, :2] ** 2).sum(1)
    a2 = np.exp(-0.5) / np.sqrt(2 * np.pi)
    expected = 2 * 2 * a2**2 * 3 / 8 / 2 * rho2**2
    spread = np.sqrt(np.asarray(sums.inside) * rho2) / 40_000
    assert (np.abs(inside - expected) < 4.5 * spread).all()


def test_rescale():
    ours = np.asarray(jax.jit(la.rescale)(W, 1.5))
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1.5, rtol=1e-6)


# --- stage two --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 4, None])
def test_features_against_loops(chunk):
    batch = draw(9, 4)
    ours = go(lambda W, b: la.features(KEY, LAW, W, b, prompts=9, length=4, chunk=chunk), W, B)
    X, y = batch.X, batch.y
    phi = np.maximum(X @ W.T + B, 0)
    np.testing.assert_allclose(ours.context, (y[:, :-1, None] * phi[:, :-1]).mean(1), atol=1e-13)
    np.testing.assert_allclose(ours.query, phi[:, -1], atol=1e-13)
    np.testing.assert_array_equal(ours.y, y[:, -1])
    np.testing.assert_array_equal(ours.f, batch.f[:, -1])


@pytest.mark.parametrize("T", [12, 60])
def test_ridge_three_ways_and_as_a_minimum(T):
    lam = 1e-2

    def objective(Gamma, seen):
        f_hat = jnp.stack([phi @ Gamma @ psi for phi, psi in zip(seen.query, seen.context, strict=True)])
        return jnp.mean((seen.y - f_hat) ** 2) + lam / 2 * jnp.sum(Gamma**2)

    seen = la.Features(*RNG.normal(size=(2, T, 5)), *RNG.normal(size=(2, T)))
    dual, primal = go(la.ridge_dual, seen, lam), go(la.ridge_primal, seen, lam)
    iterated = go(lambda seen: la.ridge_iterative(seen, lam, tolerance=1e-13), seen)
    slope = go(jax.grad(objective), dual, seen)
    both = go(la.ridge_dual, seen, np.array([1.0, lam]))
    np.testing.assert_allclose(both[1], dual, atol=1e-12)
    np.testing.assert_allclose(dual, primal, atol=1e-10)
    np.testing.assert_allclose(dual, iterated.Gamma, atol=1e-10)
    np.testing.assert_allclose(slope, 0, atol=1e-12)
    assert iterated.residual < 1e-12
    assert 0 < iterated.steps < 100


def test_risk_of_several_matrices():
    seen = go(la.context_features, draw(9, 4), W, B)
    Gammas = RNG.normal(size=(2, 6, 6))
    ours = go(jax.vmap(la.risk, (None, 0)), seen, Gammas)
    f_hat = np.einsum("gij,ti,tj->gt", Gammas, seen.query, seen.context)
    square, absolute = (f_hat - seen.f) ** 2, np.abs(f_hat - seen.y)
    np.testing.assert_allclose(ours.squared, square.mean(1), rtol=1e-12)
    np.testing.assert_allclose(ours.squared_error, square.std(1, ddof=1) / 3, rtol=1e-12)
    np.testing.assert_allclose(ours.absolute, absolute.mean(1), rtol=1e-12)
    np.testing.assert_allclose(ours.absolute_error, absolute.std(1, ddof=1) / 3, rtol=1e-12)


def test_attention_is_linear_in_labels():
    Gamma = RNG.normal(size=(6, 6))
    batch = draw(9, 4)
    phi = lambda x: jax.nn.relu(x @ W.T + B)
    ours = go(lambda batch: la.label_linear(batch, lambda X, x: phi(X) @ Gamma.T @ phi(x)), batch)
    expected = go(
        lambda batch, W, b, Gamma: la.predictions(la.context_features(batch, W, b), Gamma), batch, W, B, Gamma
    )
    np.testing.assert_allclose(ours, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: la.stage_one(KEY, LAW, jnp.ones((3, 4)), jnp.ones(3), prompts=2, length=2),
            "d = 5 as the prompts, got 4",
        ),
        (
            lambda: la.stage_one(KEY, LAW, jnp.ones((3, 5)), jnp.ones(3), prompts=2, length=0),
            "must be at least 1, got 0",
        ),
        (lambda: la.stage_one(KEY, LAW, jnp.ones((3, 5)), jnp.ones(3), prompts=2, length=2, chunk=0), "chunk must be"),
        (
            lambda: la.features(KEY, LAW, jnp.ones((3, 5)), jnp.ones(3), prompts=0, length=2),
            "number of prompts must be",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()
