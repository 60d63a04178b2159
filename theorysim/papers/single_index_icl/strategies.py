"""Admissible links and tasks as Hypothesis strategies, in low dimension."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st

from theorysim.papers.single_index_icl.setting import HE2, HE3, HE4, MIX, Band, Coefficients, Tasks

MOST_DEGREE = 5

COEFFICIENTS = st.lists(st.integers(-16, 16), min_size=1, max_size=MOST_DEGREE).filter(any)

SETTINGS: dict[type, st.SearchStrategy[Any]] = {
    Coefficients: st.one_of(
        st.sampled_from((HE2, HE3, HE4)), COEFFICIENTS.map(lambda c: Coefficients(np.array([0, *c]) / 8))
    ),
    Band: st.one_of(
        st.just(MIX),
        st.tuples(st.integers(1, 3), st.integers(0, 2)).map(lambda pair: Band(pair[0], sum(pair))),
    ),
}
"""Strategies of admissible settings, by class."""

links = st.one_of(SETTINGS[Coefficients], SETTINGS[Band])
"""Any link."""

SETTINGS[Tasks] = st.integers(1, 8).flatmap(
    lambda d: st.builds(
        Tasks,
        st.just(d),
        st.integers(1, d),
        links,
        st.sampled_from((0.0, 0.1, 1.0)),
        st.sampled_from(("sign", "gaussian")),
        st.sampled_from(("gaussian", "sphere")),
    )
)
