"""Measurements against plain NumPy: dense circuits on the same tensor, exact averages, and the reference values."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random

from theorysim.errors import InputError
from theorysim.papers.qaoa_spiked_tensor import measurements, theory
from theorysim.papers.qaoa_spiked_tensor.claims import MOMENTS, circuit, optimum
from theorysim.papers.qaoa_spiked_tensor.setting import (
    Circuit,
    Cost,
    Gauge,
    NoiseFree,
    OneStep,
    PowerIteration,
    Response,
    Unfolding,
    angles,
)
from theorysim.sweep import run
from theorysim.sweep.settings import canonical

ANGLES = angles(0.3, 0.2), angles(0.6, 1.1)


def measured(function: Any, setting: Any, count: int, seed: int = 7) -> dict[str, np.ndarray]:
    """A measurement of `count` keys in one compiled program, in float64."""
    with jax.enable_x64(True):
        keys = random.split(random.key(seed), count)
        return jax.device_get(jax.jit(jax.vmap(function, in_axes=(0, None)))(keys, setting))


def dense_state(costs: list[np.ndarray], gammas: np.ndarray, betas: np.ndarray) -> list[np.ndarray]:
    """States after each layer, complex; one cost vector a layer."""
    n = len(costs[0]).bit_length() - 1
    psi, states = np.full(2**n, 2 ** (-n / 2), complex), []
    for cost, gamma, beta in zip(costs, gammas, betas, strict=True):
        mixer = np.ones((1, 1))
        for _ in range(n):
            mixer = np.kron(mixer, [[np.cos(beta), -1j * np.sin(beta)], [-1j * np.sin(beta), np.cos(beta)]])
        psi = mixer @ (np.exp(-1j * gamma * cost) * psi)
        states.append(psi)
    return states


def minus_spins(n: int) -> np.ndarray:
    return np.array([bin(s).count("1") for s in range(2**n)])


@pytest.mark.slow
@pytest.mark.parametrize("q", [2, 3, 4])
def test_overlap_law_is_that_of_the_tensor_drawn(q):
    n = 5
    setting = circuit(n, q, *ANGLES)
    laws = measured(measurements.overlap_law, setting, 3)["law"]
    with jax.enable_x64(True):
        tensors = [random.normal(key, (n**q + 1,))[:-1].reshape((n,) * q) for key in random.split(random.key(7), 3)]
    for W, law in zip(tensors, laws, strict=True):
        costs = theory.enumerated_costs(np.asarray(W), np.ones(n), setting.snr)
        p = np.abs(dense_state([costs, costs], *ANGLES)[-1]) ** 2
        np.testing.assert_allclose(law, np.bincount(minus_spins(n), p, n + 1), atol=1e-13)
    moments = measured(measurements.overlap_moments, setting, 3)
    R = 1 - 2 * np.arange(n + 1) / n
    np.testing.assert_allclose([moments["m1"], moments["m2"]], [laws @ R, laws @ R**2], atol=1e-14)


def test_the_outcome_is_measured_under_the_quantum_law():
    got = measured(measurements.overlap_moments, circuit(5, 3, *ANGLES), 4000)
    difference = got["outcome"] - got["m2"]
    assert abs(difference.mean()) < 4 * difference.std() / 4000**0.5
    assert set(np.round(np.sqrt(got["outcome"]), 12)) == {0.2, 0.6, 1.0}


def test_doubled_tensors_are_symmetric_with_entries_of_variance_one():
    laws = [measured(measurements.overlap_moments, optimum(6, tensor=t), 2000)["m2"].mean() for t in ("raw", "doubled")]
    exact = [theory.one_step_moments(6, 2, 6**0.5, optimum(6).gammas[0], np.pi / 4)[1]]
    # at q = 2 the diagonal only shifts the cost, and couplings J_ij + J_ji have variance 4 in place of 2
    exact.append(theory.one_step_moments(6, 2, 6**0.5, optimum(6).gammas[0], np.pi / 4, noise=2.0)[1])
    np.testing.assert_allclose(laws, exact, atol=0.01)


@pytest.mark.slow
def test_single_precision_agrees():
    one = measured(measurements.overlap_moments, circuit(8, 2, *ANGLES), 4)["m2"]
    other = circuit(8, 2, *ANGLES, precision="single")
    with jax.enable_x64(True):
        assert measurements.overlap_law(random.key(0), other)["law"].dtype == jnp.float32
    # other draws, other tensors: compare means of many
    many = [measured(measurements.overlap_moments, s, 4000)["m2"].mean() for s in (circuit(8, 2, *ANGLES), other)]
    assert abs(many[0] - many[1]) < 0.01
    assert one.dtype == np.float64


@pytest.mark.slow
def test_gauge_and_its_control():
    good = measured(measurements.gauge, Gauge(5, 3, 1.5), 4)
    np.testing.assert_allclose(good["after"], good["before"], atol=1e-14)
    assert good["before"].shape == (4, 5 + 1 + 32)
    bad = measured(measurements.gauge, Gauge(5, 3, 1.5, moved="signal"), 4)
    assert np.abs(bad["after"] - bad["before"]).max() > 1e-2


@pytest.mark.slow
@pytest.mark.parametrize("q", [2, 3])
def test_cost_and_its_control(q):
    for repeated, close in (("cancel", True), ("keep", False)):
        got = measured(measurements.cost, Cost(5, q, 1.5, repeated), 2)
        for W, spike, costs in zip(got["W"], got["spike"], got["costs"], strict=True):
            assert np.allclose(costs, theory.enumerated_costs(W, spike, 1.5), atol=1e-12) == close


@pytest.mark.parametrize("q", [2, 3])
def test_response_is_a_difference_quotient_of_the_dense_circuit(q):
    n, gammas, betas, h = 4, angles(0.3, 0.35), angles(0.6, 0.5), 0.02
    setting = Response(n, q, gammas, betas, h)
    got = measured(measurements.response, setting, 2)["response"]
    total = n - 2.0 * minus_spins(n)
    with jax.enable_x64(True):
        tensors = [np.asarray(random.normal(key, (n,) * q)) for key in random.split(random.key(7), 2)]
    for W, slopes in zip(tensors, got, strict=True):
        costs = theory.enumerated_costs(W, np.ones(n), 0.0)
        expected = np.zeros((2, 2))
        for s in range(2):
            m = {}
            for sign in (1, -1):
                layers = [costs + (q * sign * h * total if t == s else 0) for t in range(2)]
                m[sign] = [(np.abs(psi) ** 2) @ total / n for psi in dense_state(layers, gammas, betas)]
            expected[s] = (np.array(m[1]) - np.array(m[-1])) / (2 * h)
        np.testing.assert_allclose(slopes, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("n", "q", "beta"), [(2, 2, 0.3), (9, 3, 0.6), (26, 2, np.pi / 4), (1000, 4, 0.9), (10**6, 3, 0.7)]
)
def test_one_step_averages_are_those_of_the_theory(n, q, beta):
    gammas = np.array([0.05, 0.2, 0.4])
    snr = 0.7 * n ** ((q - 1) / 2)
    got = measured(measurements.one_step, OneStep(float(n), q, snr, gammas, beta), 1)
    exact = theory.one_step_moments(n, q, snr, gammas, beta)
    np.testing.assert_allclose([got["m1"][0], got["m2"][0]], exact, rtol=1e-9, atol=1e-12)
    assert got["best"][0] == got["m2"][0].max()


@pytest.mark.parametrize(
    ("n", "expected"), [(8, 0.36020), (16, 0.3154468), (24, 0.2997947), (26, 0.2973563), (1000, 0.2682860)]
)
def test_reference_second_moments(n, expected):
    setting = OneStep(float(n), 2, n**0.5, angles(float(theory.optimal_gamma())), np.pi / 4)
    assert abs(measured(measurements.one_step, setting, 1)["m2"][0, 0] - expected) < (
        3e-5 if n == 8 else 6e-8
    )  # the first is for gamma = .2243


def test_noise_free_reference():
    setting = NoiseFree(100, 2, 100**0.25, angles(0.15, 0.2), angles(np.pi / 4, np.pi / 4))
    assert abs(measured(measurements.noise_free, setting, 1)["m2"][0] - 0.14781) < 6e-6


def test_power_iteration_uses_the_paper_s_scaling():
    got = measured(measurements.iterate, PowerIteration(30, 2, 30**0.5), 4000)["square"]
    exact = theory.PowerIterationStep(30, 2, 30**0.5).second_moment()
    assert abs(got.mean() - exact) < 4 * got.std() / 4000**0.5


def test_unfolding_is_a_matrix_problem():
    setting = Unfolding(2, 2 * 2**0.5, angles(0.2243), angles(np.pi / 4))
    got = measured(measurements.unfolding, setting, 4000)["m2"]
    N, snr = theory.unfolded(2, 4, setting.snr)
    exact = theory.one_step_moments(N, 2, snr, 0.2243, np.pi / 4)[1]
    assert abs(got.mean() - exact) < 4 * got.std() / 4000**0.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: circuit(1, 2, *ANGLES), "n must be"),
        (lambda: Circuit(5, 1, 1.0, *ANGLES), "order q of the tensor must be at least 2, got 1"),
        (lambda: Circuit(40, 2, 1.0, *ANGLES), "n must be between 2 and 31, got 40"),
        (lambda: Circuit(5, 2, 1.0, angles(0.1), angles(0.1, 0.2)), "gammas and betas must be vectors of equal length"),
        (lambda: Circuit(5, 2, 1.0, angles(), angles()), "one layer or more"),
        (lambda: Circuit(5, 2, float("inf"), *ANGLES), "lambda_n must be finite"),
        (lambda: Circuit(5, 2, 1.0, angles(float("nan")), angles(0.1)), "gammas"),
        (lambda: Circuit(5, 3, 1.0, *ANGLES, tensor="doubled"), "tensor doubled is for q = 2"),
        (lambda: OneStep(2.5, 2, 1.0, angles(0.1), 0.3), "n must be an integer"),
        (lambda: NoiseFree(20_000, 2, 1.0, *ANGLES), "n must be between 2 and 10000"),
        (lambda: PowerIteration(5, 2, 1.0, 0), "steps must be at least 1"),
    ],
)
def test_bad_settings_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_a_size_beyond_memory_is_refused_before_it_is_compiled():
    settings = [circuit(30, 2, *ANGLES)]
    with pytest.raises(InputError, match=r"n = 30 needs (24|16) GiB at 64 bits.*n must be at most 2[56]"):
        run(MOMENTS, settings, 1, memory=2**30)


def test_settings_are_named_by_their_angles():
    assert canonical(circuit(5, 2, *ANGLES)) != canonical(circuit(5, 2, ANGLES[1], ANGLES[0]))
