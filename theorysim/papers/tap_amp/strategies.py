"""Admissible priors and linear models as Hypothesis strategies, with few observations and coefficients."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
from hypothesis import strategies as st

from theorysim.papers.tap_amp.setting import U3, Atoms, Law, LinearModel, SpikeAndSlab, three_point


def _atoms(values: set[int], weights: list[int]) -> Atoms:
    """Atoms at multiples of 1/8 with weights in these proportions."""
    w = np.array(weights[: len(values)], float)
    return Atoms(np.array(sorted(values)) / 8, w / w.sum())


MOST_ATOMS = 5

SETTINGS: dict[type, st.SearchStrategy[Any]] = {
    Atoms: st.one_of(
        st.just(U3),
        st.sampled_from((0.1, 0.5, 0.9)).map(three_point),
        st.builds(
            _atoms,
            st.sets(st.integers(-24, 24), min_size=2, max_size=MOST_ATOMS),
            st.lists(st.integers(1, 20), min_size=MOST_ATOMS, max_size=MOST_ATOMS),
        ),
    ),
    SpikeAndSlab: st.builds(SpikeAndSlab, st.sampled_from((1.0, 0.5, 0.2, 0.05)), st.sampled_from((1.0, 0.25, 4.0))),
}
"""Strategies of admissible settings, by class."""

priors = st.one_of(SETTINGS[Atoms], SETTINGS[SpikeAndSlab])
"""Any prior."""

SETTINGS[LinearModel] = st.builds(
    LinearModel,
    n=st.integers(1, 40),
    p=st.integers(1, 40),
    sigma=st.sampled_from((0.5, 0.1, 1.0, 0.01, 3.0)),
    prior=priors,
    entries=st.sampled_from(get_args(Law)),
)
