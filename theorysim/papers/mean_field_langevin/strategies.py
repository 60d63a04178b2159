"""Admissible problems as Hypothesis strategies, the named ones among them, with few data of low dimension."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from theorysim.papers.mean_field_langevin.setting import (
    LossName,
    NeuronName,
    Problem,
    circles,
    gauss,
    rbf,
    tanh1d,
    tanhlog,
)

SCALES = st.sampled_from((0.05, 0.1, 0.02, 0.5, 1.0))


def _problem(neuron: NeuronName, loss: LossName, n: int, q: int, lam: float, lamp: float, seed: int) -> Problem:
    """n standard normal data in q dimensions; labels +-1 for the logistic loss, normal ones otherwise."""
    rng = np.random.default_rng(seed)
    Z, y = rng.standard_normal((n, q)), rng.standard_normal(n)
    return Problem(neuron, loss, Z, np.where(y < 0, -1.0, 1.0) if loss == "logistic" else y, lam, lamp)


SETTINGS: dict[type, st.SearchStrategy[Any]] = {
    Problem: st.one_of(
        st.sampled_from((tanh1d, tanhlog, gauss, circles)).map(lambda make: make()),
        SCALES.map(rbf),
        st.builds(
            _problem,
            st.sampled_from(("tanh", "rbf", "linear", "tanh-with-bias")),
            st.sampled_from(("squared", "logistic")),
            st.integers(1, 8),
            st.integers(1, 3),
            SCALES,
            SCALES,
            st.integers(0, 2**16),
        ),
    )
}
"""Strategies of admissible settings, by class."""
