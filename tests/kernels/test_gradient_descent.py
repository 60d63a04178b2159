"""The gradient-descent kernel against automatic differentiation and against a plain loop in extended precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from theorysim.errors import InputError
from theorysim.kernels.gradient_descent import (
    Linear,
    Problem,
    Reduction,
    TwoLayer,
    init,
    log_spaced_times,
    problem,
    run,
    step,
)
from theorysim.papers.large_stepsize_gd import reference

XOR = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]]) / np.sqrt(2)
XOR_LABELS = np.array([1.0, -1, -1, 1])


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def random_network(activation="softplus", n=6, d=3, m=4, leak=0.3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    X /= np.linalg.norm(X, axis=1).max()
    y = rng.choice([-1.0, 1.0], size=n)
    signs = rng.choice([-1.0, 1.0], size=m)
    return X, y, signs, rng.normal(size=(m, d)), leak, activation


def jax_loss(weights, X, y, signs, leak, activation):
    from theorysim.kernels.activations import leaky

    outputs = leaky(activation, X @ weights.T, leak)[0] @ signs / signs.shape[0]
    return jnp.mean(jnp.logaddexp(0.0, -y * outputs))


@pytest.mark.parametrize("activation", ["softplus", "gelu", "silu", "huberised-relu", "linear"])
def test_one_step_is_a_gradient_step(activation):
    X, y, signs, W, leak, _ = random_network(activation)
    eta, m = 0.7, len(signs)
    loss, gradient = jax.value_and_grad(jax_loss)(jnp.asarray(W), X, y, signs, leak, activation)
    predictor = TwoLayer(jnp.asarray(signs), leak, float(m), activation)
    state, d = step(init(jnp.asarray(W)), predictor, problem(jnp.asarray(X), jnp.asarray(y)), eta)
    np.testing.assert_allclose(state.weights, W - eta * m * gradient, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(d.risk, loss, rtol=1e-13)
    np.testing.assert_allclose(d.log_risk, np.log(loss), rtol=1e-13)
    np.testing.assert_allclose(d.grad_norm2, np.sum(np.square(gradient)), rtol=1e-12)
    np.testing.assert_allclose(d.descent, -np.sum(gradient * W), rtol=1e-11)
    np.testing.assert_allclose(d.norm, np.linalg.norm(W), rtol=1e-14)


@pytest.mark.parametrize("activation", ["softplus", "gelu", "silu", "huberised-relu"])
def test_trajectory_agrees_with_extended_precision(activation):
    X, y, signs, W, leak, _ = random_network(activation)
    times = np.array([0, 1, 2, 7, 30])
    predictor = TwoLayer(jnp.asarray(signs), leak, float(len(signs)), activation)
    observe = lambda d, _: {"risk": d.risk, "slope": d.slope, "min_margin": d.min_margin, "norm": d.norm}
    _, trace, _ = run(
        init(jnp.asarray(W)), predictor, problem(jnp.asarray(X), jnp.asarray(y)), 1.5, times=times, observe=observe
    )
    exact = reference.trajectory(X, y, W, signs, 1.5, 30, activation, leak)
    for name, values in trace.items():
        np.testing.assert_allclose(values, exact[name][times].astype(float), rtol=1e-11, atol=1e-13)


def test_linear_is_the_network_of_one_identity_neuron():
    X, y, *_ = random_network()
    data, w = problem(jnp.asarray(X), jnp.asarray(y)), jnp.ones((1, 3))
    kwargs = {"times": np.array([0, 5, 50]), "observe": lambda d, _: (d.risk, d.weights)}
    _, linear, _ = run(init(w), Linear(), data, 3.0, **kwargs)
    _, network, _ = run(init(w), TwoLayer(jnp.ones(1), 0.0, 1.0, "linear"), data, 3.0, **kwargs)
    for a, b in zip(linear, network, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_padding_changes_nothing():
    X, y, signs, W, leak, activation = random_network()
    n, m = len(y), len(signs)
    padded = Problem(
        jnp.asarray(np.pad(X, ((0, 5), (0, 2)))), jnp.ones(n + 5).at[:n].set(y), jnp.zeros(n + 5).at[:n].set(1 / n)
    )
    larger = TwoLayer(jnp.asarray(np.pad(signs, (0, 3))), leak, float(m), activation)
    smaller = TwoLayer(jnp.asarray(signs), leak, float(m), activation)
    kwargs = {"times": np.array([0, 3, 40]), "observe": lambda d, _: (d.risk, d.min_margin, d.norm, d.grad_norm2)}
    _, with_padding, _ = run(init(jnp.asarray(np.pad(W, ((0, 3), (0, 2))))), larger, padded, 2.0, **kwargs)
    _, without, _ = run(init(jnp.asarray(W)), smaller, problem(jnp.asarray(X), jnp.asarray(y)), 2.0, **kwargs)
    for a, b in zip(with_padding, without, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_reduction_sees_every_iterate_once_and_records_see_what_came_before():
    X, y, *_ = random_network()
    data = problem(jnp.asarray(X), jnp.asarray(y))
    count = Reduction((0.0, 0), lambda c, d: (c[0] + d.risk, c[1] + 1))
    times = np.array([0, 1, 4, 20])
    _, (risks, before), (total, seen) = run(
        init(jnp.zeros((1, 3))), Linear(), data, 1.0, times=times, observe=lambda d, c: (d.risk, c[1]), reduction=count
    )
    _, every, _ = run(init(jnp.zeros((1, 3))), Linear(), data, 1.0, times=np.arange(21), observe=lambda d, _: d.risk)
    assert int(seen) == 21
    np.testing.assert_array_equal(before, times)
    np.testing.assert_array_equal(risks, np.asarray(every)[times])
    np.testing.assert_allclose(total, np.sum(every), rtol=1e-14)


def test_a_run_continued_equals_a_run_in_one_piece():
    X, y, signs, W, leak, activation = random_network()
    data, predictor = problem(jnp.asarray(X), jnp.asarray(y)), TwoLayer(jnp.asarray(signs), leak, 4.0, activation)
    observe = lambda d, _: d.risk
    half, first, _ = run(init(jnp.asarray(W)), predictor, data, 2.0, times=np.array([0, 10]), observe=observe)
    _, second, _ = run(half, predictor, data, 2.0, times=np.array([25]), observe=observe)  # not recorded at once
    _, whole, _ = run(init(jnp.asarray(W)), predictor, data, 2.0, times=np.array([0, 10, 25]), observe=observe)
    np.testing.assert_array_equal([*first, *second], whole)


def test_batches_over_stepsizes_seeds_and_data_agree_with_single_runs():
    X, y, signs, W, leak, activation = random_network()
    rng = np.random.default_rng(1)
    batch = {
        "W": W + rng.normal(size=(5, 1, 1)),
        "X": X * rng.uniform(0.5, 1, size=(5, 1, 1)),
        "eta": np.geomspace(0.1, 50, 5),
    }

    def one(W, X, eta):
        predictor = TwoLayer(jnp.asarray(signs), leak, 4.0, activation)
        times, observe = np.array([0, 30]), lambda d, _: d.risk
        return run(init(W), predictor, problem(X, jnp.asarray(y)), eta, times=times, observe=observe)[1]

    together = jax.jit(jax.vmap(one))(*map(jnp.asarray, batch.values()))
    alone = [one(*(jnp.asarray(v[i]) for v in batch.values())) for i in range(5)]
    np.testing.assert_allclose(together, alone, rtol=1e-11)  # another order of summation, 30 steps


def test_float32_runs_in_float32():
    with jax.enable_x64(False):
        data = problem(jnp.asarray(XOR, jnp.float32), jnp.asarray(XOR_LABELS, jnp.float32))
        W = jnp.asarray(np.random.default_rng(0).normal(size=(4, 2)), jnp.float32)
        predictor = TwoLayer(jnp.asarray([1.0, 1, -1, -1]), 0.5, 4.0, "softplus")
        state, trace, _ = run(init(W), predictor, data, 8.0, times=np.array([0, 100]), observe=lambda d, _: d.risk)
    assert state.weights.dtype == trace.dtype == jnp.float32
    assert trace[1] < trace[0]


def test_log_risk_outlives_the_risk():
    data = problem(jnp.asarray([[1.0, 0.0]]), jnp.ones(1))
    _, d = step(init(jnp.asarray([[2000.0, 0.0]])), Linear(), data, 1.0)
    assert float(d.risk) == 0
    np.testing.assert_allclose(d.log_risk, -2000.0)


# Reference values: eta t L on XOR at eta = 16, T = 40000, a = +1 for the first half, W_0 of the given NumPy seed.
XOR_VALUES = [
    ("softplus", 8, 0, 64.05292),
    ("softplus", 8, 1, 74.73611),
    ("softplus", 20, 0, 70.15464),
    ("softplus", 20, 1, 64.05111),
    ("softplus", 20, 2, 65.38566),
    ("gelu", 20, 0, 71.48225),
    ("silu", 20, 0, 70.14690),
    ("huberised-relu", 20, 0, 71.48479),
]


@pytest.mark.parametrize(("activation", "m", "seed", "expected"), XOR_VALUES)
def test_xor_reference_values(activation, m, seed, expected):
    W = np.random.default_rng(seed).normal(size=(m, 2))
    predictor = TwoLayer(jnp.asarray(np.repeat([1.0, -1.0], m // 2)), 0.5, float(m), activation)
    one = jax.jit(
        lambda W: run(
            init(W),
            predictor,
            problem(jnp.asarray(XOR), jnp.asarray(XOR_LABELS)),
            16.0,
            times=np.array([0, 40_000]),
            observe=lambda d, _: d.risk,
        )[1]
    )
    assert abs(16.0 * 40_000 * float(one(jnp.asarray(W))[1]) - expected) < 6e-6


def test_acceleration_reference_values():
    """L(w_T) at eta = gamma^2 T/120 on the two-point data, gamma = .1, p = .9, q = .5, w_0 = 0."""
    data = problem(jnp.asarray([[0.1, 0.9], [0.1, -0.5]]), jnp.ones(2))
    horizons = np.array([10_000, 30_000, 100_000, 300_000, 1_000_000])
    one = lambda eta: run(init(jnp.zeros((1, 2))), Linear(), data, eta, times=horizons, observe=lambda d, _: d.risk)[1]
    fast = np.diag(jax.jit(jax.vmap(one))(jnp.asarray(0.01 * horizons / 120)))
    np.testing.assert_allclose(
        fast, [1.2467244087e-2, 1.3431492241e-3, 1.2011273567e-4, 1.3334856737e-5, 1.199913876e-6], rtol=5e-10
    )
    slow = jax.jit(one)(jnp.asarray(16.0))
    np.testing.assert_allclose(slow, [6.272897e-4, 2.086351e-4, 6.253185e-5, 2.083735e-5, 6.250408e-6], rtol=1e-6)


@pytest.mark.parametrize(("steps", "count"), [(1, 2), (10, 5), (100_000, 64), (7, 100)])
def test_log_spaced_times_increase_from_0_to_the_horizon(steps, count):
    times = log_spaced_times(steps, count)
    assert times[0] == 0 and times[-1] == steps and len(times) <= count and np.all(np.diff(times) > 0)


@pytest.mark.parametrize(("steps", "count", "named"), [(0, 5, "steps"), (-3, 5, "steps"), (10, 1, "count")])
def test_bad_record_times_are_refused(steps, count, named):
    with pytest.raises(InputError, match=named):
        log_spaced_times(steps, count)


def test_network_acceleration_reference_values():
    """The same data and stepsizes, leaky softplus c = .5, m = 2, a = (+1, -1), W_0 = 0."""
    data = problem(jnp.asarray([[0.1, 0.9], [0.1, -0.5]]), jnp.ones(2))
    horizons = np.array([10_000, 100_000, 300_000, 1_000_000])
    predictor = TwoLayer(jnp.asarray([1.0, -1.0]), 0.5, 2.0, "softplus")
    one = lambda eta: run(init(jnp.zeros((2, 2))), predictor, data, eta, times=horizons, observe=lambda d, _: d.risk)[1]
    risks = np.diag(jax.jit(jax.vmap(one))(jnp.asarray(0.01 * horizons / 120)))
    np.testing.assert_allclose(risks, [2.0583733e-2, 1.9219587e-4, 2.1335250e-5, 1.9200087e-6], rtol=3e-8)


# eta T L at eta = 10, T = 10^6 on one sample x = 1, W_0 = 0.
ONE_SAMPLE = [
    ("softplus", 0.5, 2, 2, 1.5999880),
    ("silu", 0.3, 2, 2, 1.8352783),
    ("huberised-relu", 0.5, 3, 1, 1.2307626),
]


@pytest.mark.parametrize(("activation", "leak", "plus", "minus", "expected"), ONE_SAMPLE)
def test_one_sample_reference_values(activation, leak, plus, minus, expected):
    signs = jnp.asarray([1.0] * plus + [-1.0] * minus)
    predictor = TwoLayer(signs, leak, float(plus + minus), activation)
    times, observe = jnp.asarray([0, 1_000_000]), lambda d, _: d.risk
    one = jax.jit(
        lambda w: run(init(w), predictor, problem(jnp.ones((1, 1)), jnp.ones(1)), 10.0, times=times, observe=observe)[1]
    )
    assert abs(1e7 * float(one(jnp.zeros((plus + minus, 1)))[1]) - expected) < 6e-8


@pytest.mark.parametrize(
    ("eta", "risks", "margins", "scaled"),
    [
        (1.5, {1000: 0.2724306, 10_000: 0.0550531}, {1000: -0.0040665, 10_000: 0.0184013}, 862.24),
        (3.0, {10: 0.4858930, 100: 0.3797907, 1000: 0.1975456, 10_000: 0.0281802},
         {10: -0.2962430, 100: -0.0581189, 1000: 0.0079393, 10_000: 0.0197586}, 869.52),
    ],
)  # fmt: skip
def test_five_point_reference_values(eta, risks, margins, scaled):
    """L, min F/||W||_F and eta t L at t = 10^5 on the unscaled five points, m = 2, leaky softplus c = .5, W_0 = 0."""
    X = np.array([[0.05, 1, 2], [0.05, -2, 1], [-1, 0, 2], [0.05, -2, -2], [0.05, 1, -2]])
    data = problem(jnp.asarray(X), jnp.asarray([1.0, 1, -1, 1, 1]))
    predictor = TwoLayer(jnp.asarray([1.0, -1.0]), 0.5, 2.0, "softplus")
    times = np.array([10, 100, 1000, 10_000, 100_000])
    observe = lambda d, _: (d.risk, d.min_margin / d.norm)
    _, (risk, margin), _ = jax.jit(
        lambda w: run(init(w), predictor, data, eta, times=jnp.asarray(times), observe=observe)
    )(jnp.zeros((2, 3)))
    at = {int(t): k for k, t in enumerate(times)}
    for t, value in risks.items():
        assert abs(float(risk[at[t]]) - value) < 6e-8
    for t, value in margins.items():
        assert abs(float(margin[at[t]]) - value) < 6e-8
    assert abs(eta * 100_000 * float(risk[-1]) - scaled) < 6e-3


def test_xor_error_halves_per_doubling():
    """Relative error of eta T L against m S/(1-c)^2, m = 20, seed 0: at T = 10^4, 2, 4, 8, 16 x 10^4."""
    W = np.random.default_rng(0).normal(size=(20, 2))
    predictor = TwoLayer(jnp.asarray(np.repeat([1.0, -1.0], 10)), 0.5, 20.0, "softplus")
    times = 10_000 * np.array([1, 2, 4, 8, 16])
    _, risk, _ = jax.jit(
        lambda w: run(
            init(w),
            predictor,
            problem(jnp.asarray(XOR), jnp.asarray(XOR_LABELS)),
            16.0,
            times=jnp.asarray(times),
            observe=lambda d, _: d.risk,
        )
    )(jnp.asarray(W))
    error = 16.0 * times * np.asarray(risk) / (20 * (1 / 5 + 1 / 5 + 1 / 3 + 1 / 7) / 0.25) - 1
    half_a_digit = np.array([5e-7, 5e-7, 5e-8, 5e-8, 5e-8])
    assert np.all(np.abs(error - [2.845e-3, 1.558e-3, 8.474e-4, 4.579e-4, 2.461e-4]) <= half_a_digit)
