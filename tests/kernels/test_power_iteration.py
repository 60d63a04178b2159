"""Tensor power iteration against einsum and against its exact one-step law."""

from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theorysim.errors import InputError
from theorysim.kernels.power_iteration import power_iteration, step, symmetrise

CONTRACTION = {2: "ab,a->b", 3: "abc,a,b->c", 4: "abcd,a,b,c->d", 5: "abcde,a,b,c,d->e"}


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("q", CONTRACTION)
@pytest.mark.parametrize("steps", [1, 3])
def test_einsum(q, steps):
    rng = np.random.default_rng(q)
    Y, v = rng.normal(size=(6,) * q), rng.normal(size=6)
    iterate = jax.jit(power_iteration, static_argnames="steps")(jnp.asarray(Y), jnp.asarray(v), steps=steps)
    for _ in range(steps):
        v = np.einsum(CONTRACTION[q], Y, *[v] * (q - 1))
        v /= np.linalg.norm(v)
    np.testing.assert_allclose(iterate, v, rtol=1e-12)


def test_a_tensor_without_noise_gives_the_spike_in_one_step():
    u = np.array([1.0, -1, -1, 1, 1])
    Y = np.einsum("a,b,c->abc", u, u, u)
    v = power_iteration(jnp.asarray(Y), jnp.asarray([0.3, 0.1, 0.2, -0.4, 0.6]), 1)
    np.testing.assert_allclose(v, u / np.sqrt(5), rtol=1e-14)


@pytest.mark.parametrize("q", [2, 3, 4])
def test_symmetrised_is_the_mean_over_permutations(q):
    Y = np.random.default_rng(q).normal(size=(3,) * q)
    mean = np.mean([np.transpose(Y, axes) for axes in permutations(range(q))], axis=0)
    np.testing.assert_allclose(symmetrise(jnp.asarray(Y)), mean, atol=1e-15)


def test_batches_agree_with_single_runs_in_both_dtypes():
    rng = np.random.default_rng(0)
    Y, v = rng.normal(size=(4, 7, 7, 7)), rng.normal(size=(4, 7))
    alone = [power_iteration(jnp.asarray(a), jnp.asarray(b), 2) for a, b in zip(Y, v, strict=True)]
    together = jax.jit(jax.vmap(lambda Y, v: power_iteration(Y, v, 2)))
    np.testing.assert_allclose(together(Y, v), alone, rtol=1e-11)
    single = together(jnp.asarray(Y, jnp.float32), v)  # the vectors follow the tensor
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, alone, atol=1e-5)


def overlaps(q, n, draws, prepare=lambda W: W):
    """<v_1, u>/sqrt(n) for Y = n^{-1/2} (u^{(x) q} + W), the spike lam_n = n^{(q - 1)/2}, from uniform v_0; shape (draws,)."""

    def one(key):
        of_noise, of_spike, of_start = jax.random.split(key, 3)
        u = jax.random.rademacher(of_spike, (n,), jnp.float32)
        spike = u
        for _ in range(q - 1):
            spike = spike[..., None] * u
        Y = (spike + prepare(jax.random.normal(of_noise, (n,) * q, jnp.float32))) / jnp.sqrt(n).astype(jnp.float32)
        return power_iteration(Y, jax.random.normal(of_start, (n,), jnp.float32), 1) @ u / jnp.sqrt(n)

    keys = jax.random.split(jax.random.key(q), draws)
    return np.asarray(jax.jit(lambda keys: jax.lax.map(one, keys, batch_size=100))(keys), float)


def one_step_law(q, n, draws):
    """The same from four random numbers: v_0 and the noise enter through <v_0, u>, <W[v_0, ..], u> and two lengths."""
    rng = np.random.default_rng(0)
    g0, g1 = rng.normal(size=(2, draws))
    rest0, rest1 = rng.chisquare(n - 1, size=(2, draws))
    m = g0 / np.sqrt(g0**2 + rest0)
    y = n ** ((q - 1) / 2) * m ** (q - 1) + g1 / np.sqrt(n)
    return y / np.sqrt(y**2 + rest1 / n)


def z(a, b):
    return (a.mean() - b.mean()) / np.sqrt(a.var() / len(a) + b.var() / len(b))


@pytest.mark.slow
@pytest.mark.parametrize(("q", "n", "draws", "second_moment"), [(2, 50, 10_000, 0.3566), (3, 25, 4000, 0.3533)])
def test_one_step_law(q, n, draws, second_moment):
    """Four z-scores at fixed keys, each beyond 4 for a right kernel with probability 6e-5."""
    simulated, law = overlaps(q, n, draws), one_step_law(q, n, 1_000_000)
    assert abs(np.mean(law**2) - second_moment) < 1e-3  # rounded value of another 2e6 draws, both +- 3e-4
    assert abs(z(simulated**2, law**2)) < 4
    assert abs(z(simulated, law)) < 4


def test_the_symmetrised_tensor_does_not_follow_that_law():
    assert z(overlaps(2, 50, 2000, symmetrise) ** 2, one_step_law(2, 50, 1_000_000) ** 2) > 10


def test_bad_input_is_refused():
    v = jnp.ones(3)
    with pytest.raises(InputError, match="steps must be at least 1, got 0"):
        power_iteration(jnp.ones((3, 3)), v, 0)
    with pytest.raises(InputError, match="Y must have at least 2 axes, got 1"):
        step(v, v)
    with pytest.raises(InputError, match=r"every axis of Y must have the 3 entries of v, got shape \(3, 4\)"):
        step(jnp.ones((3, 4)), v)
    with pytest.raises(InputError, match=r"equally long, got shape \(3, 4\)"):
        symmetrise(jnp.ones((3, 4)))
