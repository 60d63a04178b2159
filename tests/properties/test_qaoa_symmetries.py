"""Symmetries of QAOA on any cost, tensor, spike and angles: what holds exactly at every input.

Shapes are fixed (five or six spins, two layers), so that each property is one compiled program.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from theorysim.kernels import qaoa
from theorysim.papers.qaoa_spiked_tensor.measurements import noise_costs, signal
from theorysim.testing import qaoa_spiked_tensor

N = 5
EXAMPLES = settings(max_examples=60)


values = qaoa_spiked_tensor.values
ANGLES = qaoa_spiked_tensor.angles(2)
SIGNS = qaoa_spiked_tensor.signs(N)


@cache
def _compiled(function: Any) -> Any:
    return jax.jit(function)


def call(function: Any, *arguments: Any) -> Any:
    """A compiled function in float64, its result in NumPy."""
    with jax.enable_x64(True):
        return jax.device_get(_compiled(function)(*map(jnp.asarray, arguments)))


def probabilities(costs, gammas, betas):
    return qaoa.probabilities(costs, gammas, betas)


def tensor_costs(W, spike, snr):
    mask = jnp.sum((spike < 0).astype(jnp.uint32) << jnp.arange(N, dtype=jnp.uint32), dtype=jnp.uint32)
    return noise_costs(W) + signal(2**N, N, W.ndim, snr, W.dtype, mask)


def overlap_law(W, spike, snr, gammas, betas):
    return qaoa.overlap_distribution(qaoa.probabilities(tensor_costs(W, spike, snr), gammas, betas), spike)


@EXAMPLES
@given(values(32, bound=20.0), ANGLES)
def test_probabilities_are_probabilities(costs, angles):
    p = call(probabilities, costs, *angles)
    assert (p >= 0).all() and abs(p.sum() - 1) < 1e-12


@EXAMPLES
@given(values(32, bound=20.0), ANGLES, st.integers(0, 31), values())
def test_relabelled_strings_and_shifted_costs(costs, angles, mask, shift):
    """An exclusive or relabels the strings, a constant is a global phase."""
    order = np.arange(32) ^ mask
    p = call(probabilities, costs, *angles)
    np.testing.assert_allclose(call(probabilities, costs[order] + shift, *angles), p[order], atol=1e-11)


@EXAMPLES
@given(values(32, bound=20.0), ANGLES)
def test_complex_conjugation(costs, angles):
    gammas, betas = angles
    p = call(probabilities, costs, gammas, betas)
    np.testing.assert_allclose(call(probabilities, costs, -gammas, -betas), p, atol=1e-12)


@EXAMPLES
@given(values(32, bound=5.0), ANGLES)
def test_half_a_turn_of_the_mixer_is_a_global_sign(costs, angles):
    gammas, betas = angles
    p = call(probabilities, costs, gammas, betas)
    np.testing.assert_allclose(call(probabilities, costs, gammas, betas + np.pi), p, atol=1e-11)


@pytest.mark.parametrize("q", [2, 3])
def test_gauge(q):
    @EXAMPLES
    @given(values(*(N,) * q), SIGNS, SIGNS, values(), ANGLES)
    def check(W, spike, other, snr, angles):
        turn = spike * other
        moved = W * np.multiply.outer(turn, turn) if q == 2 else W * np.einsum("i,j,k->ijk", turn, turn, turn)
        np.testing.assert_allclose(
            call(overlap_law, moved, other, snr, *angles), call(overlap_law, W, spike, snr, *angles), atol=1e-12
        )

    check()


@EXAMPLES
@given(values(N, N, N), SIGNS, values(), ANGLES)
def test_odd_costs_mirror_the_overlap(W, spike, snr, angles):
    gammas, betas = angles
    law = call(overlap_law, W, spike, snr, gammas, betas)
    np.testing.assert_allclose(call(overlap_law, W, spike, snr, -gammas, betas), law[::-1], atol=1e-12)


def half_law(J, gammas, betas):
    return qaoa.overlap_distribution(
        qaoa.probabilities(qaoa.quadratic_costs(J, half=True), gammas, betas, half=True), half=True
    )


def full_law(J, gammas, betas):
    return qaoa.overlap_distribution(qaoa.probabilities(qaoa.quadratic_costs(J), gammas, betas))


@pytest.mark.parametrize("n", [5, 6])
def test_even_costs_live_in_half_the_space(n):
    @EXAMPLES
    @given(values(n, n), ANGLES)
    def check(J, angles):
        law = call(half_law, J, *angles)
        np.testing.assert_allclose(law, call(full_law, J, *angles), atol=1e-12)
        np.testing.assert_allclose(law, law[::-1], atol=1e-12)

    check()
