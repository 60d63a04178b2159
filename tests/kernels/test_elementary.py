"""Elementary functions against mpmath, in both dtypes, with their derivatives."""

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from theorysim.kernels import activations, elementary

POINTS = np.concatenate(
    [np.linspace(-45, 45, 181), [0.0, 1e-300, -1e-300, 1e-9, -1e-9, 700.0, -700.0, 1.4142135623730951]]
)
ULPS = 8 * 2.0**-52  # a few units in the last place of float64


def exact(function, points):
    with mp.workdps(60):
        return np.array([float(function(mp.mpf(float(z)))) for z in points])


def in64(function, points):
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, jax.jit(function)(jnp.asarray(points)))


def test_exp_minus():
    points = np.concatenate([np.abs(POINTS), [707.9]])
    np.testing.assert_allclose(in64(elementary.exp_minus, points), exact(lambda t: mp.exp(-t), points), rtol=ULPS)
    assert in64(elementary.exp_minus, np.array([708.0, 1e6, np.inf])).tolist() == [0, 0, 0]


def test_log1p_unit():
    points = np.concatenate([np.linspace(0, 1, 101), 10.0 ** np.arange(-300, 0, 13)])
    np.testing.assert_allclose(in64(elementary.log1p_unit, points), exact(mp.log1p, points), rtol=ULPS)


def test_softplus_and_sigmoid_are_accurate_relative_to_themselves():
    value, slope = in64(elementary.softplus_sigmoid, POINTS)
    np.testing.assert_allclose(value, exact(lambda z: mp.log1p(mp.exp(z)), POINTS), rtol=ULPS)
    np.testing.assert_allclose(slope, exact(lambda z: 1 / (1 + mp.exp(-z)), POINTS), rtol=ULPS)


def test_normal_cdf_is_accurate_in_the_lower_tail():
    points = np.linspace(-37, 9, 185)
    cdf, density = in64(elementary.normal_cdf_density, points)
    # relative error of the tail grows like z^2/2 times the rounding of the exponent
    np.testing.assert_allclose(cdf, exact(mp.ncdf, points), rtol=700 * 2.0**-52)
    np.testing.assert_allclose(density, exact(mp.npdf, points), rtol=700 * 2.0**-52)


def test_log_loss_stays_finite_where_the_loss_underflows():
    points = np.array([-800.0, -5.0, 0.0, 5.0, 29.9, 30.1, 300.0, 745.0, 1e4, 1e8])
    expected = exact(lambda F: mp.log(mp.log1p(mp.exp(-F))), points)
    np.testing.assert_allclose(in64(elementary.log_logistic_loss, points), expected, rtol=ULPS)


def test_nan_is_not_swallowed():
    nan = np.array([np.nan])
    functions = (elementary.exp_minus, elementary.softplus_sigmoid, elementary.normal_cdf_density, elementary.sincos)
    for function in functions:
        assert all(np.isnan(leaf).all() for leaf in jax.tree.leaves(in64(function, nan)))
    assert all(np.isnan(leaf).all() for leaf in in64(elementary.sincos, np.array([np.inf, -np.inf])))


@pytest.mark.parametrize(("dtype", "largest"), [(np.float64, 1e6), (np.float32, 2e4)])
def test_sine_and_cosine(dtype, largest):
    rng = np.random.default_rng(0)
    points = [np.pi / 4 * np.arange(-50, 51), np.pi / 2 * np.arange(10**3, 10**4, 999)]  # quadrants and their borders
    points += [scale * rng.uniform(-1, 1, 200) for scale in (1e-3, 10.0, largest)]
    points = np.concatenate(points).astype(dtype)
    with jax.enable_x64(True):
        values = jax.jit(elementary.sincos)(jnp.asarray(points))
    for ours, function in zip(values, (mp.sin, mp.cos), strict=True):
        assert ours.dtype == dtype
        assert np.abs(np.asarray(ours, float) - exact(function, points)).max() < 6 * np.finfo(dtype).eps


def test_sine_is_accurate_relative_to_itself_near_zero():
    points = np.array([0.0, 1e-300, -1e-9, 1e-5, 0.1])
    np.testing.assert_allclose(in64(elementary.sincos, points)[0], exact(mp.sin, points), rtol=ULPS)


def test_derivatives_of_sine_and_cosine():
    points = np.linspace(-9, 9, 37)
    sine, cosine = np.sin(points), np.cos(points)
    derivative = lambda i, order: lambda x: order(jax.grad(lambda z: elementary.sincos(z)[i]))(x)
    for i, (first, second) in enumerate([(cosine, -sine), (-sine, -cosine)]):
        np.testing.assert_allclose(in64(derivative(i, jax.vmap), points), first, atol=ULPS)
        np.testing.assert_allclose(in64(derivative(i, lambda f: jax.vmap(jax.grad(f))), points), second, atol=ULPS)


@pytest.mark.slow
@pytest.mark.parametrize("name", activations.ACTIVATIONS)
def test_slope_is_the_derivative_of_the_value(name):
    points = np.concatenate([np.linspace(-30, 30, 97), [0.0]])
    kinks = name == "huberised-relu"  # twice differentiable but at 0 and 1
    points = points[~np.isin(points, [0.0, 1.0])] if kinks else points
    with jax.enable_x64(True):
        value = jax.vmap(jax.grad(lambda z: activations.leaky(name, z, 0.3)[0]))(jnp.asarray(points))
        slope = activations.leaky(name, jnp.asarray(points), 0.3)[1]
        second = jax.vmap(jax.grad(lambda z: activations.leaky(name, z, 0.3)[1]))(jnp.asarray(points))
        h = 1e-5
        ahead, behind = (np.asarray(activations.leaky(name, jnp.asarray(points + s * h), 0.3)[1]) for s in (1, -1))
    np.testing.assert_allclose(value, slope, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(second, (ahead - behind) / (2 * h), atol=1e-9)  # h^2 f''''/6 + rounding/h


@pytest.mark.parametrize("name", activations.ACTIVATIONS)
def test_float32_follows_float64(name):
    points = np.linspace(-20, 20, 201).astype(np.float32)
    single = activations.leaky(name, jnp.asarray(points), 0.5)
    assert {leaf.dtype for leaf in single} == {np.dtype(np.float32)}
    double = in64(lambda z: activations.leaky(name, z, 0.5), points.astype(np.float64))
    for low, high in zip(single, double, strict=True):
        np.testing.assert_allclose(low, high, rtol=1e-5, atol=2e-6)
