"""Monotone runs on the two-point data: no stepsize above eta_1, and t L(w_t) >= .63; adversarial gamma and eta."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np
from hypothesis import strategies as st
from property_instances import BATCH, try_all

from theorysim.papers.large_stepsize_gd import measurements, replays, theory
from theorysim.papers.large_stepsize_gd.setting import LinearPredictor, Training, TwoPoint

TIMES = (0, 1, 400)
CASES = st.tuples(
    st.sampled_from((0.1, 1e-2, 1e-4, 1e-8)),  # gamma is at most this
    st.floats(0.1, 1.0),  # share of it
    st.sampled_from(("uniform", "at the limit", "small")),
    st.floats(1e-9, 1.0),
)
"""gamma in (0, .1] down to 1e-9; eta uniform on (0, 24], within 1e-3 to 1e-12 of eta_1, or small."""

largest = functools.cache(theory.largest_monotone_stepsize)


def gamma_and_eta(case: tuple[float, float, str, float]) -> tuple[float, float]:
    bound, share, where, u = case
    gamma = bound * share
    limit = largest(gamma)
    if where == "at the limit":
        return gamma, limit * (1 + (1 if u < 0.5 else -1) * 10 ** (-3 - 9 * u))
    return gamma, 24 * u if where == "uniform" else 10 ** (-6 * u)


@functools.cache
def program() -> Any:
    def one(gamma: jax.Array, eta: jax.Array) -> dict[str, jax.Array]:
        setting = Training(TwoPoint(gamma), LinearPredictor(), eta, TIMES)  # type: ignore[arg-type]
        return measurements.records(jax.numpy.zeros(2, jax.numpy.uint32), setting)

    return jax.jit(jax.vmap(one))


def test_monotone_runs_have_small_stepsizes_and_slow_risks():
    tried: set[Any] = set()
    monotone_runs = 0

    def check(cases: list[Any]) -> None:
        nonlocal monotone_runs
        pairs = [gamma_and_eta(case) for case in cases]
        gamma, eta = np.array(pairs + pairs[:1] * (BATCH - len(pairs))).T
        with jax.enable_x64(True):
            r = jax.device_get(program()(gamma, eta))
        limit = np.array([largest(g) for g in gamma])
        monotone = r["increases"] == 0
        suspicious = monotone & ((eta > limit * (1 + 1e-14)) | (r["least_scaled_risk"] < 0.63))
        # and every stepsize above eta_1 raises the risk at once
        suspicious |= (eta > limit * (1 + 1e-14)) & (r["risk"][:, 1] <= r["risk"][:, 0])
        for i in np.flatnonzero(suspicious[: len(cases)]):
            setting = Training(TwoPoint(gamma[i]), LinearPredictor(), eta[i], TIMES)
            exact = replays.records(setting, jax.random.key(0))
            message = f"gamma = {gamma[i]!r}, eta = {eta[i]!r}, eta_1 = {limit[i]!r}: {exact}"
            # eta_1 is the root of a float64 equation, known to some 1e-15 of its slope.
            assert eta[i] <= limit[i] * (1 + 1e-13) or exact["risk"][1] > exact["risk"][0], message
            assert exact["increases"] > 0 or exact["least_scaled_risk"] >= 0.63, message
        new = {pair for pair, counts in zip(pairs, monotone, strict=False) if counts} - tried
        monotone_runs += len(new)
        tried.update(pairs)

    batch = st.integers(BATCH // 2, BATCH).flatmap(lambda size: st.lists(CASES, min_size=size, max_size=size))
    try_all("monotone lower bound", batch, check, rounds=10)
    assert len(tried) >= 2000
    assert monotone_runs >= 1000
