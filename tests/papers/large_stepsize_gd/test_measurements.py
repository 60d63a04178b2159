"""The compiled measurements against plain NumPy in extended precision, instance by instance, and the reference values.

The replays work on whole trajectories; the compiled measurements are running reductions that see each iterate once.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit, ndtr

from theorysim.kernels.activations import ACTIVATIONS
from theorysim.kernels.gradient_descent import Linear, TwoLayer, init, problem, step
from theorysim.papers.large_stepsize_gd import measurements, reference, replays, theory
from theorysim.papers.large_stepsize_gd.claims import modified_margin, random_instances
from theorysim.papers.large_stepsize_gd.measurements import Leak, OneStep, TwoPointStep
from theorysim.papers.large_stepsize_gd.setting import (
    FivePoint,
    LinearPredictor,
    ModifiedMargin,
    Network,
    RandomInstances,
    RandomTwoPoint,
    Training,
    TwoPoint,
    Xor,
)

NAMES = tuple(ACTIVATIONS)
TIMES = (0, 1, 2, 5, 20, 80)
KEYS = 10


def keys(count: int = KEYS) -> jax.Array:
    return jax.random.split(jax.random.key(7), count)


def measured(function: Any, setting: Any, count: int = KEYS) -> dict[str, np.ndarray]:
    """A measurement of `count` keys in one compiled program, in float64."""
    with jax.enable_x64(True):
        return jax.device_get(jax.jit(jax.vmap(function, in_axes=(0, None)))(keys(count), setting))


def agree(values: Any, exact: Any, name: str, rounding: float = 0.0) -> None:
    """Equality up to rounding that 80 steps may have amplified, with equal infinities."""
    values, exact = np.asarray(values, float), np.asarray(exact, float)
    np.testing.assert_allclose(values, exact, rtol=1e-9, atol=1e-12 + rounding, err_msg=name)


# --- stable_phase -----------------------------------------------------------------------------------------------------


def eventful(activation: str) -> RandomInstances:
    """Random instances on which most runs reach the stable phase within the short horizon: few samples, small width."""
    return random_instances(activation, TIMES, 2, 2, leaks=np.array([0.3, 0.5]))


@pytest.mark.slow
@pytest.mark.parametrize("activation", NAMES)
def test_stable_phase_is_that_of_the_replay(activation):
    setting, count = eventful(activation), 2 * KEYS
    results = measured(measurements.stable_phase, setting, count)
    for i, key in enumerate(keys(count)):
        exact = replays.stable_phase(setting, key)
        assert exact.keys() == results.keys()
        for name, value in exact.items():
            rounding = 0.0
            if name.startswith("rate"):  # a difference of 1/L, each with relative error 1e-14 or so
                rounding = 1e-13 / float(exact["eta"] * exact["risk_s"])
            agree(results[name][i], value, name=f"{name} of key {i}", rounding=rounding)
    assert 5 <= np.sum(results["s"] >= 0) <= count  # the test is about them, too


def brute_force(path: dict[str, np.ndarray], n: int, eta: float, k: theory.ActivationConstants) -> dict[str, Any]:
    """The extremes of the stable phase by their definitions, pairs of times included, in O(T^2), by the theory's formulas.

    Path in extended precision, formulas in float64. No step below `SETTLED` is looked at.
    """
    L, W, F = (path[name].astype(float) for name in ("risk", "norm", "min_margin"))
    s = int(np.flatnonzero(theory.stable_threshold(eta, n, k) >= L)[0])
    inside = [t for t in range(s, len(L)) if t == s or eta * float(k.lam) ** 2 * L[t] >= measurements.SETTLED]
    gbar, gc = F / W, theory.modified_margin(L, W, n, eta, k)
    sandwich, factor = theory.margin_sandwich(L, W, n, eta, k), theory.near_monotone_factor(L, n, eta, k)
    steps = [t for t in inside if t > s]
    rate = [(1 / L[t] - 1 / L[s]) / (eta * (t - s)) for t in steps]
    return {
        "s": s,
        "min_norm_ratio": min(W[t] / W[t - 1] for t in steps),
        "min_gc_ratio": min(gc[t] / gc[t - 1] for t in steps),
        "min_gbar_ratio": min(gbar[t] / gbar[t - 1] for t in steps),
        "min_lower": min(sandwich.lower[t] / gc[t] for t in inside),
        "min_middle": min(gbar[t] / sandwich.lower[t] for t in inside),
        "min_upper": min(sandwich.upper[t] / gbar[t] for t in inside),
        "near_monotone": min(gbar[t] / (gbar[r] * factor[r]) for t in inside for r in inside if r <= t),
        "rate_min": min(rate),
        "rate_max": max(rate),
        "increases": sum(L[t] > L[t - 1] for t in range(1, len(L))),
        "last_increase": max((t for t in range(1, len(L)) if L[t] > L[t - 1]), default=-1),
        "log_gc_s": np.log(gc[s]),
    }


@pytest.mark.slow
@pytest.mark.parametrize(("activation", "eta", "seed"), [("softplus", 128.0, 0), ("gelu", 64.0, 1), ("silu", 128.0, 4)])
def test_reductions_are_what_they_say_by_brute_force(activation, eta, seed):
    """On XOR, where the stable phase begins after increases of the risk and the hard margin may fall within it."""
    times = (0, 10, 300)
    setting = Training(Xor(), Network(activation, 10, 10, 0.5), eta, times, 1.0, modified_margin(activation, 0.5))
    results = measured(measurements.stable_phase, setting, count=8)
    reached = np.flatnonzero((results["s"] >= 0) & (results["s"] < 250))
    assert len(reached) >= 2
    for i in reached[:3]:
        with jax.enable_x64(True):
            X, y, *_ = setting.data.draw()
            W0 = np.asarray(setting.draw(keys(8)[i]).weights)
        signs = np.repeat([1.0, -1.0], 10)
        path = reference.trajectory(np.asarray(X), np.asarray(y), W0, signs, eta, times[-1], activation, 0.5)
        exact = brute_force(path, 4, eta, theory.activation_constants(activation, 0.5))
        for name, value in exact.items():
            agree(results[name][i], value, name=name)
        risk, slope = path["risk"], path["slope"]
        agree(results["risk_sum"][i], [risk[:t].sum() for t in times], "risk_sum")
        agree(results["slope_sum"][i], [slope[:t].sum() for t in times], "slope_sum")


def test_a_flipped_correction_is_seen_to_fail():
    """The two-point data at eta = 10, from s = 423 on: log gc with the wrong sign falls by up to 2.3e-4 a step."""
    setting = Training(TwoPoint(0.1), LinearPredictor(), 10.0, (0, 1500), margin=ModifiedMargin(sign=-1.0))
    results = measured(measurements.stable_phase, setting, count=1)
    for name, value in replays.stable_phase(setting, keys(1)[0]).items():
        agree(results[name][0], value, name=name)
    assert results["s"][0] == 423
    assert abs(np.log(results["min_gc_ratio"][0]) + 2.3e-4) < 5e-6


def test_unreached_stable_phases_are_empty():
    setting = Training(TwoPoint(0.1), LinearPredictor(), 1.0, (0, 50))
    results = measured(measurements.stable_phase, setting, count=1)
    assert results["s"][0] == -1 and results["risk_s"][0] == np.inf
    for name in ("min_norm_ratio", "min_gc_ratio", "min_lower", "min_middle", "min_upper", "near_monotone", "rate_min"):
        assert results[name][0] == np.inf
    assert results["rate_max"][0] == -np.inf and results["increases"][0] == 0 and results["last_increase"][0] == -1


# --- records ----------------------------------------------------------------------------------------------------------

RECORDED = [
    *(Training(FivePoint(), Network(name, 2, 1, 0.3), 20.0, TIMES, 1.0) for name in NAMES),  # type: ignore[arg-type]
    Training(FivePoint(), LinearPredictor(), 20.0, TIMES, 1.0),
    RandomTwoPoint(0.1, 60.0, TIMES),
]


@pytest.mark.slow
@pytest.mark.parametrize("setting", RECORDED, ids=lambda s: f"{type(s).__name__}-{getattr(s, 'predictor', '')}"[:40])
def test_records_are_those_of_the_replay(setting):
    results = measured(measurements.records, setting)
    assert results["weights"].shape[:2] == (KEYS, len(TIMES))
    agree(np.linalg.norm(results["weights"], axis=(2, 3)), results["norm"], "norm of the weights")
    for i, key in enumerate(keys()):
        for name, value in replays.records(setting, key).items():
            if name != "gamma" or np.isfinite(value):
                agree(results[name][i], value, name=f"{name} of key {i}")


# --- one step ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("activation", NAMES)
def test_one_step_is_that_of_the_reference(activation):
    """From the same state, rebuilt from the key: j steps from the initialisation, then one at eta = ceiling/L."""
    leaks, ceilings = np.array([0.3, 0.5]), np.array([0.4, 0.6])
    setting = OneStep(random_instances(activation, (0, 1), 16, 8, leaks), ceilings)
    results = measured(measurements.one_step, setting)
    for i, key in enumerate(keys()):
        with jax.enable_x64(True):
            draw_key, steps_key = jax.random.split(key)
            drawn = setting.instances.draw(draw_key)
            j = int(jax.random.randint(steps_key, (), 0, measurements.WALK))
        rows, signs = np.asarray(drawn.problem.weight) > 0, np.asarray(drawn.predictor.signs)
        data = (np.asarray(drawn.problem.X)[rows], np.asarray(drawn.problem.y)[rows])
        W, leak = np.asarray(drawn.weights)[signs != 0], float(drawn.predictor.leak)
        arguments = (signs[signs != 0], float(drawn.eta), activation, leak)
        for _ in range(j):
            W, _ = reference.one_step(*data, W, *arguments)
        _, before = reference.one_step(*data, W, *arguments)
        eta = ceilings[np.argmin(np.abs(leaks - leak))] / before.risk
        W, before = reference.one_step(*data, W, arguments[0], eta, *arguments[2:])
        _, after = reference.one_step(*data, W, *arguments)
        found = {name: results[name][i] for name in ("risk", "slope", "grad_norm2", "next_risk", "eta")}
        exact = (before.risk, before.slope, before.grad_norm2, after.risk, eta)
        # Relative accuracy also of tiny risks; rounding has grown along up to 15 unstable steps.
        np.testing.assert_allclose(list(found.values()), np.array(exact, float), rtol=1e-8, err_msg=f"key {i}, j = {j}")


def test_two_point_step_finds_the_worst_log_ratio():
    """The ratio after/before at eta = 1e5 against the limit formula, and against plain steps."""
    setting = TwoPointStep(1e5, ceiling=2.5)
    results = measured(measurements.one_step, setting, count=1)
    ratio = float(results["next_risk"][0] / results["risk"][0])
    _, expected = theory.two_point_worst_step(2.5)
    assert abs(ratio - expected) < 1e-4
    assert abs(float(results["risk"][0]) * 1e5 - 2.5) < 1e-8
    X = np.array([[1e-3, np.sqrt(1 - 1e-6)], [1e-3, -np.sqrt(1 - 1e-6)]])
    ratios = []
    for a in measurements.LOG_RATIOS:
        r = np.exp(np.longdouble(-a))
        loss = 2 * 2.5 / (1e5 * (1 + r)) * np.array([1, r])
        W = np.linalg.solve(X, (-np.log(np.expm1(loss))).astype(float))[None]
        W, before = reference.one_step(X, np.ones(2), W, np.ones(1), 1e5, "linear")
        ratios.append(float(reference.one_step(X, np.ones(2), W, np.ones(1), 1e5, "linear")[1].risk / before.risk))
    assert abs(max(ratios) - ratio) < 1e-6


def test_descent_location_brackets_two():
    """The bracket of 40 bisections: narrow, and where plain steps turn from falling to rising."""
    results = measured(measurements.descent_location, TwoPointStep(1e6, g=1e-5), count=1)
    low, high = results["low"][0], results["high"][0]
    assert 0 < high - low < 1e-11 and abs(low - theory.two_point_threshold()) < 1e-3
    for C, rises in ((low - 1e-3, False), (high + 1e-3, True)):
        step = measured(measurements.one_step, TwoPointStep(1e6, g=1e-5, ceiling=float(C)), count=1)
        assert bool(step["next_risk"][0] > step["risk"][0]) == rises


# --- activations ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_near_homogeneity_is_that_of_the_reference():
    """f and grad f by the reference's own step: descent/slope = <grad f, W>, sqrt(grad_norm2)/slope = ||grad f||."""
    setting = random_instances("softplus", (0, 1), 1, 8, leaks=np.array([0.0, 0.3]))
    results = measured(measurements.near_homogeneity, setting)
    for i, key in enumerate(keys()):
        with jax.enable_x64(True):
            draw_key, shift_key, size_key = jax.random.split(key, 3)
            drawn = setting.draw(draw_key)
            size = float(10 ** jax.random.uniform(size_key, (), minval=-3.0, maxval=1.0))
            shift = np.asarray(jax.random.normal(shift_key, drawn.weights.shape))
        neurons, columns = np.asarray(drawn.predictor.signs) != 0, np.asarray(drawn.direction) != 0
        W, leak = np.asarray(drawn.weights)[neurons], float(drawn.predictor.leak)
        other = W + size * shift[neurons] * columns
        x, signs = np.asarray(drawn.problem.X)[:1], np.asarray(drawn.predictor.signs)[neurons]
        agree(results["distance"][i], np.linalg.norm(W - other), name="distance")
        agree(results["norm"][i], np.linalg.norm(x), name="norm")
        for row, activation in enumerate(ACTIVATIONS):
            moved, d = reference.one_step(x, np.ones(1), W, signs, 1.0, activation, leak)
            elsewhere, e = reference.one_step(x, np.ones(1), other, signs, 1.0, activation, leak)
            change = ((moved - W) / d.slope - (elsewhere - other) / e.slope) / len(signs)
            exact = {
                "gradient": np.sqrt(d.grad_norm2) / d.slope,
                "defect": abs(d.min_margin - d.descent / d.slope),
                "size": abs(d.min_margin),
                "change": np.sqrt(np.sum(change**2)),
            }
            for name, value in exact.items():
                agree(results[name][i][row], value, name=f"{name}, {activation}")


@pytest.mark.slow
@pytest.mark.parametrize("leak", [0.0, 0.3])
def test_activation_extremes_are_those_of_a_plain_grid(leak):
    """Against the reference's activations on a coarse grid (a smooth maximum is within 1e-6 of that of the fine one)."""
    results = measured(measurements.activation_extremes, Leak(leak), count=1)
    z = np.linspace(-40, 40, 20_001)
    for row, name in enumerate(ACTIVATIONS):
        # One sample x = 1 with one neuron: f = phi(w), and its gradient is phi'(w).
        value, slope = np.array([plain(name, w, leak) for w in z[::4]]).T
        second = np.gradient(slope, z[::4])
        coarse = [np.abs(value - z[::4] * slope).max(), np.abs(second).max(), slope.min(), slope.max()]
        fine = results["extremes"][0][row]
        np.testing.assert_allclose(fine[[0, 2, 3]], np.array(coarse)[[0, 2, 3]], atol=2e-4)
        # Differences over the kinks of the Huberised ReLU's slope see half of them.
        assert fine[1] >= coarse[1] - 1e-6 and (name == "huberised-relu" or fine[1] - coarse[1] < 2e-4)
        np.testing.assert_allclose(results["double"][0][row], fine, atol=1e-5)
        np.testing.assert_allclose(results["single"][0][row], fine, atol=2e-5)


def plain(name: str, w: float, leak: float) -> tuple[float, float]:
    """phi_c(w) and its slope in float64, from the activations' definitions."""
    pdf = np.exp(-w * w / 2) / np.sqrt(2 * np.pi)
    value, slope = {
        "softplus": (np.logaddexp(0, w), expit(w)),
        "gelu": (w * ndtr(w), ndtr(w) + w * pdf),
        "silu": (w * expit(w), expit(w) + w * expit(w) * expit(-w)),
        "huberised-relu": (np.clip(w, 0, 1) ** 2 / 2 + max(w - 1, 0), np.clip(w, 0, 1)),
        "linear": (w, 1.0),
    }[name]
    return leak * w + (1 - leak) * value, leak + (1 - leak) * slope


# --- reference values -------------------------------------------------------------------------------------------------

# Two-point data, gamma = .1: eta, first t under min(1/(4 eta), 1/(4 e^2)), last t with L_t > L_{t-1} (-1: none).
SWITCHES = [
    (1, 3159, -1),
    (8, 426, -1),
    (30, 406, 15),
    (60, 384, 9),
    (120, 57, 9),
    (240, 8, 6),
    (480, 7, 5),
    (960, 7, 5),
]
SWITCHES_SMALL_MARGIN = [(30, 1629, 57), (120, 735, 39), (480, 22, 20)]


@pytest.mark.parametrize(("gamma", "table"), [(0.1, SWITCHES), (0.05, SWITCHES_SMALL_MARGIN)])
def test_switching_times_of_the_two_point_data(gamma, table):
    etas = np.array([eta for eta, *_ in table], float)

    def one(eta):
        return measurements.stable_phase(
            jax.random.key(0), Training(TwoPoint(gamma), LinearPredictor(), eta, (0, 4000))
        )

    with jax.enable_x64(True):
        results = jax.device_get(jax.jit(jax.vmap(one))(jnp.asarray(etas)))
    assert list(zip(results["s"].tolist(), results["last_increase"].tolist(), strict=True)) == [
        row[1:] for row in table
    ]


def test_counts_and_peaks_of_the_two_point_data():
    """Increases of the risk at eta = 83.3 and 25, and its peak at eta = 30, 120 and 480."""
    for eta, increases in ((1e6 * 0.01 / 120, 7), (25.0, 8)):
        setting = Training(TwoPoint(0.1), LinearPredictor(), eta, (0, 2000))
        assert measured(measurements.records, setting, count=1)["increases"][0] == increases
    for eta, peak in ((30.0, 1.731372), (120.0, 8.378849), (480.0, 32.80848)):
        setting = Training(TwoPoint(0.1), LinearPredictor(), eta, tuple(range(60)))
        assert abs(measured(measurements.records, setting, count=1)["risk"].max() / peak - 1) < 1e-6


class Xor20(Training):
    """XOR from the standard normal W_0 of a NumPy seed, m = 20, leaky softplus, c = .5."""

    def __init__(self, eta: float, times: tuple[int, ...], seed: int = 0) -> None:
        fields = {"eta": eta, "times": times, "weights": np.random.default_rng(seed).normal(size=(20, 2))}
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def draw(self, key):
        training = Training(Xor(), Network("softplus", 10, 10, 0.5), 1.0, (0, 1), 1.0, modified_margin("softplus", 0.5))
        return training.draw(key)._replace(weights=jnp.asarray(self.weights), eta=jnp.asarray(self.eta))


def test_switching_times_and_margins_on_xor():
    """s, increases and sqrt(m) gc(W_s) for the NumPy seed 0."""
    table = {0.5: (12241, 0, -1), 2.0: (3060, 0, -1), 8.0: (765, 0, -1), 32.0: (305, 0, -1), 128.0: (18, 6, 11)}
    margins = {8.0: 0.0472139652, 128.0: 0.0436243916}
    one = lambda eta: measurements.stable_phase(jax.random.key(0), Xor20(eta, (0, 12_500)))
    with jax.enable_x64(True):
        results = jax.device_get(jax.jit(jax.vmap(one))(jnp.asarray(list(table))))
    found = zip(*(results[name].tolist() for name in ("s", "increases", "last_increase")), strict=True)
    assert dict(zip(table, found, strict=True)) == table
    for eta, margin in margins.items():
        assert abs(np.sqrt(20) * np.exp(results["log_gc_s"][list(table).index(eta)]) - margin) < 1e-10


def test_the_hard_margin_falls_where_the_modified_one_does_not():
    """XOR at eta = 128, seed 0: the least one-step change of sqrt(m) gbar after s = 18 is -9.3e-5."""
    with jax.enable_x64(True):
        results = jax.device_get(
            jax.jit(lambda: measurements.stable_phase(jax.random.key(0), Xor20(128.0, (0, 2000))))()
        )
    assert results["min_gbar_ratio"] < 1 - 1e-5
    assert results["min_gc_ratio"] >= 1 - 1e-13


def test_risks_on_xor():
    """L at t = 1000 for the NumPy seed 0."""
    table = {0.5: 0.162967, 2.0: 0.0384294, 8.0: 0.00906962, 32.0: 0.00220937, 128.0: 2.10909e-4}
    with jax.enable_x64(True):
        for eta, risk in table.items():
            setting = Xor20(eta, (0, 1000))
            found = jax.jit(lambda setting=setting: measurements.records(jax.random.key(0), setting)["risk"][-1])()
            assert abs(float(found) / risk - 1) < 5e-6


def test_average_risks_of_the_two_point_data():
    """Average risk and the optimised bound at t = 100 and 10^4, gamma = .1."""
    table = {
        1.0: ((0.562852, 0.0497679), (0.818147, 0.108354)),
        10.0: ((0.253658, 0.00732500), (1.943147, 0.0560759)),
        100.0: ((0.382183, 0.00418858), (13.1931, 0.157853)),
        1000.0: ((2.803953, 0.0280395), (125.693, 1.28162)),
    }
    k, t = theory.activation_constants("linear"), np.array([100, 10_000])
    for eta, (average, bound) in table.items():
        setting = Training(TwoPoint(0.1), LinearPredictor(), eta, (0, 100, 10_000))
        found = measured(measurements.stable_phase, setting, count=1)["risk_sum"][0, 1:] / t
        np.testing.assert_allclose(found, average, rtol=3e-6)
        np.testing.assert_allclose(theory.average_risk_bound(t, eta, 0.1, 0.0, 0.0, k), bound, rtol=6e-6)


def test_the_five_points_are_fitted_by_the_network_before_either_neuron():
    """Unscaled data, m = 2, W_0 = 0, eta = 1.5: risk, normalised margin and the neurons' own margins at t = 10^4."""
    setting = Training(FivePoint(scaled=False), Network("softplus", 1, 1, 0.5), 1.5, (0, 1000, 10_000))
    results = measured(measurements.records, setting, count=1)
    np.testing.assert_allclose(results["risk"][0, 1:], [0.2724306, 0.0550531], rtol=1e-6)
    gbar = results["min_margin"][0, 1:] / results["norm"][0, 1:]
    np.testing.assert_allclose(gbar, [-0.0040665, 0.0184013], atol=1e-7)
    with jax.enable_x64(True):
        X, y, *_ = map(np.asarray, setting.data.draw())
    neurons = results["weights"][0, -1] * np.array([[1.0], [-1.0]])
    own = np.min(y[:, None] * (X @ neurons.T), axis=0) / np.linalg.norm(neurons, axis=1)
    np.testing.assert_allclose(own, [-0.238029, -0.334155], atol=1e-6)


def test_a_step_of_the_kernel_is_a_step_of_the_reference_in_a_line():
    """The simplest case by hand: x = 1, w = 0, eta = 1: p = 1/2, so w' = 1/2."""
    with jax.enable_x64(True):
        data = problem(jnp.ones((1, 1)), jnp.ones(1))
        for predictor in (Linear(), TwoLayer(jnp.ones(1), 0.0, 1.0, "linear")):
            state, d = step(init(jnp.zeros((1, 1))), predictor, data, 1.0)
            assert float(state.weights[0, 0]) == 0.5 and abs(float(d.risk) - np.log(2)) < 2e-16
