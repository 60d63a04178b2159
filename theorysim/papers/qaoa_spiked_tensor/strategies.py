"""Admissible circuits, tensors and their relatives as Hypothesis strategies. Spins are few; all values are multiples of 1/64,
so that no property is lost to subnormal numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from theorysim.papers.qaoa_spiked_tensor.setting import (
    Circuit,
    Cost,
    Gauge,
    NoiseFree,
    OneStep,
    PowerIteration,
    Response,
    Unfolding,
)

LAYERS = 3
"""Most layers p of a circuit."""


def values(*shape: int, bound: float = 3.0) -> st.SearchStrategy[np.ndarray]:
    """Arrays with entries in [-bound, bound]."""
    return arrays(np.float64, shape, elements=st.integers(-int(64 * bound), int(64 * bound)).map(lambda k: k / 64))


def angles(layers: int) -> st.SearchStrategy[tuple[np.ndarray, np.ndarray]]:
    """Angles gamma and beta of a circuit of so many layers."""
    return st.tuples(values(layers), values(layers))


def signs(n: int) -> st.SearchStrategy[np.ndarray]:
    """Spikes in {-1, 1}^n."""
    return arrays(np.int32, (n,), elements=st.sampled_from([-1, 1]))


ANGLES = st.integers(1, LAYERS).flatmap(angles)
ORDERS = st.integers(2, 4)
SNRS = st.integers(0, 5 * 64).map(lambda k: k / 64)

SETTINGS: dict[type, st.SearchStrategy[Any]] = {
    Circuit: st.builds(
        lambda n, q, snr, pair, doubled, precision: Circuit(
            n, q, snr, pair[0], pair[1], "doubled" if doubled and q == 2 else "raw", precision
        ),
        st.integers(2, 8),
        ORDERS,
        SNRS,
        ANGLES,
        st.booleans(),
        st.sampled_from(("double", "single")),
    ),
    Gauge: st.builds(
        Gauge, st.integers(2, 8), ORDERS, SNRS, st.integers(1, LAYERS), st.sampled_from(("tensor", "signal"))
    ),
    Cost: st.builds(Cost, st.integers(2, 8), ORDERS, SNRS, st.sampled_from(("cancel", "keep"))),
    OneStep: st.builds(
        OneStep,
        st.sampled_from((4, 16, 100, 10_000, 10**6)),
        ORDERS,
        SNRS,
        st.integers(1, 5).flatmap(values),
        values().map(float),
    ),
    Response: st.builds(
        lambda n, q, pair, field: Response(n, q, pair[0], pair[1], field),
        st.integers(2, 8),
        ORDERS,
        ANGLES,
        st.sampled_from((0.02, 0.1, 0.001)),
    ),
    NoiseFree: st.builds(
        lambda n, q, snr, pair: NoiseFree(n, q, snr, pair[0], pair[1]), st.integers(2, 200), ORDERS, SNRS, ANGLES
    ),
    PowerIteration: st.builds(PowerIteration, st.integers(2, 10), ORDERS, SNRS, st.integers(1, 3), st.booleans()),
    Unfolding: st.builds(
        lambda n, snr, pair, rescaled: Unfolding(n, snr, pair[0], pair[1], rescaled),
        st.integers(2, 3),
        SNRS,
        ANGLES,
        st.booleans(),
    ),
}
"""Strategies of admissible settings, by class."""
