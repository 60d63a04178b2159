"""Counter-based noise against JAX's Threefry, and normal numbers against their law and at extreme words."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random
from jax.extend.random import threefry_2x32
from scipy import stats

from theorysim.kernels import noise

RNG = np.random.default_rng(0)


def first_normals(words, step, first, count, dtype):
    return noise.normals(words, noise.counters(first, count), step, dtype)


def test_threefry_is_that_of_jax():
    words = np.array([123456789, 987654321], np.uint32)
    counters = RNG.integers(0, 2**32, (2, 64), dtype=np.uint32)
    ours = jax.jit(noise.threefry)(words, *counters)
    expected = threefry_2x32(jnp.asarray(words), jnp.asarray(counters.ravel()))
    np.testing.assert_array_equal(np.concatenate(ours), expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normals(dtype):
    count = 200_000
    with jax.enable_x64(dtype == "float64"):
        draw = jax.jit(first_normals, static_argnums=(3, 4))
        words = noise.key_words(random.key(5), 1)
        steps = [np.asarray(draw(words, jnp.int32(k), 0, count, dtype), np.float64) for k in range(2)]
        part = np.asarray(draw(words, jnp.int32(0), 777, 1000, dtype))
    x, later = steps
    np.testing.assert_array_equal(part, x[777:1777])
    assert stats.kstest(x, "norm").pvalue > 1e-3
    # mean, variance, kurtosis, neighbours, next step: five standard errors each
    for values, mean, variance in (
        (x, 0, 1),
        (x**2, 1, 2),
        (x**4, 3, 96),
        (x[1:] * x[:-1], 0, 1),
        (x * later, 0, 1),
        (x[1:] ** 2 * x[:-1] ** 2, 1, 8),
    ):
        assert abs(values.mean() - mean) < 5 * np.sqrt(variance / count)


def test_both_precisions_draw_the_same_noise():
    words = noise.key_words(random.key(5), 1)
    with jax.enable_x64(True):
        draw = jax.jit(first_normals, static_argnums=(3, 4))
        single, double = (np.asarray(draw(words, jnp.int32(9), 0, 100_000, dtype)) for dtype in ("float32", "float64"))
    # A radius of near 0 has an absolute error of the square root of the rounding error.
    np.testing.assert_allclose(single, double, atol=4e-4)
    assert np.abs(single - double).mean() < 2e-7


def test_extreme_words_give_finite_numbers(monkeypatch):
    words = np.array([0, 1, 2**31 - 1, 2**31, 2**32 - 1], np.uint32)
    a, b = (v.ravel() for v in np.meshgrid(words, words))
    monkeypatch.setattr(noise, "threefry", lambda key, x, y: (jnp.asarray(a), jnp.asarray(b)))
    u, t = (a + 0.5) / 2**32, b.astype(np.int32) / 2**32
    expected = np.sqrt(-2 * np.log(u)) * np.cos(2 * np.pi * t)
    for dtype, tolerance in (("float32", 4e-4), ("float64", 1e-14)):
        with jax.enable_x64(True):
            ours = first_normals(jnp.zeros(2, jnp.uint32), jnp.int32(0), 0, 25, dtype)
        np.testing.assert_allclose(ours, expected, atol=tolerance)


def test_signs():
    words = noise.key_words(random.key(5), 1)
    draw = np.asarray(
        jax.jit(noise.signs, static_argnums=3)(words, noise.counters(0, 100_000), jnp.int32(3), "float32")
    )
    assert set(draw) == {-1.0, 1.0}
    assert abs(draw.mean()) < 5 / np.sqrt(draw.size)


def test_streams_differ():
    words = [noise.key_words(random.key(5), stream) for stream in (1, 2)]
    x, y = (np.asarray(first_normals(w, jnp.int32(0), 0, 100_000, "float32")) for w in words)
    assert abs((x * y).mean()) < 5 / np.sqrt(x.size)
