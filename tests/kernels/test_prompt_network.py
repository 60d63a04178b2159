"""Networks trained on a prompt against AdamW written out in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import random

from theorysim.errors import InputError
from theorysim.kernels import prompt_network as pn

RNG = np.random.default_rng(0)


def adamw_by_hand(params, X, y, steps, rate=1e-3, decay=1e-3):
    W, b, a, c = (np.array(p, np.float64) for p in params)
    moments = [[np.zeros_like(p), np.zeros_like(p)] for p in (W, b, a, c)]
    losses = []
    for t in range(1, steps + 1):
        h = X @ W.T + b
        e = np.maximum(h, 0) @ a + c - y
        losses.append(np.mean(e**2))
        e = 2 * e / len(y)
        back = (h > 0) * np.outer(e, a)
        grads = back.T @ X, back.sum(0), np.maximum(h, 0).T @ e, e.sum()
        new = []
        for p, g, m in zip((W, b, a, c), grads, moments, strict=True):
            m[0] = 0.9 * m[0] + 0.1 * g
            m[1] = 0.999 * m[1] + 0.001 * g**2
            step = (m[0] / (1 - 0.9**t)) / (np.sqrt(m[1] / (1 - 0.999**t)) + 1e-8)
            new.append(p - rate * (step + decay * p))
        W, b, a, c = new
    return (W, b, a, c), losses


def test_against_numpy():
    B, K, n, d, width, steps = 2, 3, 12, 4, 5, 40
    X, y = RNG.normal(size=(B, n, d)), RNG.normal(size=(B, n))
    with jax.enable_x64(True):
        keys = random.split(random.key(0), K)
        many = jax.jit(lambda X, y: pn.train_many(keys, X, y, steps=steps, width=width))
        params, losses = jax.tree.map(np.asarray, many(X, y))
        starts = [jax.tree.map(np.asarray, pn.init(key, d, width=width)) for key in keys]
    assert losses.shape == (B, K, steps)
    for i in range(B):
        for k in range(K):
            expected, history = adamw_by_hand(starts[k], X[i], y[i], steps)
            for ours, theirs in zip(params, expected, strict=True):
                np.testing.assert_allclose(ours[i, k], theirs, atol=1e-9)
            np.testing.assert_allclose(losses[i, k], history, rtol=1e-9)


def test_learns_a_linear_function_with_any_optimizer():
    X = jnp.asarray(RNG.normal(size=(1, 200, 3)), jnp.float32)
    y = X[..., 0]
    keys = random.split(random.key(1), 2)
    go = jax.jit(lambda: pn.train_many(keys, X, y, steps=400, width=32, optimizer=optax.sgd(0.05)))
    params, losses = go()
    assert (losses[..., -1] < 0.05 * losses[..., 0]).all()
    f_hat = jax.vmap(jax.vmap(pn.predict, (0, None)))(params, X)
    assert float(jnp.mean((f_hat - y[:, None]) ** 2)) < 0.05


@pytest.mark.parametrize(
    ("name", "variance", "bias"), [("lecun", 1 / 7, 0), ("he", 2 / 7, 0), ("uniform", 1 / 21, 1 / 21)]
)
def test_initialisations(name, variance, bias):
    width = 20_000
    params = jax.jit(lambda key: pn.init(key, 7, width=width, initialisation=name))(random.key(2))
    assert abs(np.var(params.W) / variance - 1) < 5 * np.sqrt(2 / (7 * width))
    assert abs(np.var(params.b) - bias) < 0.05 * bias + 1e-12
    assert abs(np.var(params.a) / (variance * 7 / width) - 1) < 5 * np.sqrt(2 / width)
    # drawn apart: five standard errors of a correlation
    for i in range(7):
        assert abs(np.corrcoef(np.ravel(params.W)[i * width :][:width], params.a)[0, 1]) < 5 / np.sqrt(width)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pn.init(random.key(0), 0), "dimension d must be at least 1, got 0"),
        (lambda: pn.init(random.key(0), 2, width=0), "width must be at least 1, got 0"),
        (lambda: pn.init(random.key(0), 2, initialisation="ones"), "must be one of lecun, he, uniform, got 'ones'"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()
