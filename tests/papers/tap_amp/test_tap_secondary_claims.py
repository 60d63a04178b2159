"""Sparse recovery, the LASSO and Z2 synchronisation on reduced designs: not refuted; controls and distorted predictions are."""

import dataclasses
import re

import numpy as np
import pytest
from reduced_designs import Reduction, assert_told_apart, at

from theorysim.errors import InputError
from theorysim.papers.tap_amp import secondary
from theorysim.papers.tap_amp.secondary import Recovery, SparseRegression, Synchronisation
from theorysim.sweep import run
from theorysim.verify import Equivalence, Session, Threshold

REDUCED = (
    (secondary.DONOHO_TANNER, Reduction(seeds=48, change=at(steps=300))),
    (secondary.LASSO_SE, Reduction(seeds=16)),
    (secondary.Z2_BBP, Reduction(seeds=64)),
)
CHECKS = [(claim, reduction(check)) for claim, reduction in REDUCED for check in claim.checks]
IDS = [f"{c.id}: {k.name}" for c, k in CHECKS]
SESSION = Session(preset="quick")


@pytest.mark.parametrize("claim", secondary.CLAIMS, ids=lambda claim: claim.id)
def test_every_check_has_presets_and_a_control(claim):
    for check in claim.checks:
        assert set(check.design) == {"quick", "standard", "paper"}
        changed = [getattr(check.control, name) for name in ("predict", "observable", "design")]
        assert check.control.breaks and sum(change is not None for change in changed) == 1


@pytest.mark.slow
@pytest.mark.parametrize(("claim", "check"), CHECKS, ids=IDS)
def test_claims_are_told_from_their_controls(claim, check):
    assert_told_apart(SESSION, check)


DISTORTED = [(c, k) for c, k in CHECKS if isinstance(k.judge, Equivalence | Threshold)]


@pytest.mark.parametrize("factor", [0.7, 1.3])
@pytest.mark.parametrize(("claim", "check"), DISTORTED, ids=[f"{c.id}: {k.name}" for c, k in DISTORTED])
def test_a_prediction_thirty_percent_off_is_refuted(claim, check, factor):
    off = dataclasses.replace(check, predict=lambda s, i: factor * np.asarray(check.predict(s, i)))
    assert SESSION.judge(off).status == "refuted"


@pytest.mark.parametrize("signed", [True, False])
def test_recovery_far_from_the_transition(signed):
    """Of the nested signals of one seed, sparse ones are recovered to the noise that stands for none, dense ones are not."""
    alpha = secondary.theory.donoho_tanner(0.5, signed=signed).alpha
    setting = Recovery(200, 100, (5, 15, 80), alpha, 300, signed=signed)
    error = run(secondary.RECOVERY, (setting,), 4, seed=1)["error"].values[0]
    assert (error[:, :2] < 1e-8).all() and (error[:, 2] > 0.1).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Recovery(100, 100, (5,), 0.9, 10), "n must lie between 1 and N - 1 = 99, got 100"),
        (lambda: Recovery(100, 50, (), 0.9, 10), "sparsities must not be empty, got ()"),
        (lambda: Recovery(100, 50, (5, 0), 0.9, 10), "sparsity k must lie between 1 and N = 100, got 0"),
        (lambda: Recovery(100, 50, (5,), -0.9, 10), "threshold alpha must be positive and finite, got -0.9"),
        (lambda: Recovery(100, 50, (5,), 0.9, 0), "steps must be at least 1, got 0"),
        (lambda: Recovery(100, 50, (5,), 0.9, 10, damping=1.0), "damping must lie in [0, 1), got 1.0"),
        (lambda: SparseRegression(1, 1, 1, 0.1, 1.0, 0.1), "N must be at least 2, got 1"),
        (lambda: SparseRegression(100, 50, 5, 0.0, 1.0, 0.1), "noise s must be positive and finite, got 0.0"),
        (lambda: SparseRegression(100, 50, 5, 0.1, 1.0, -0.1), "penalty must be positive and finite, got -0.1"),
        (lambda: SparseRegression(100, 50, 5, 0.1, 1.0, 0.1, instances=0), "instances must be at least 1, got 0"),
        (lambda: Synchronisation(1, 1.5), "n must be at least 2, got 1"),
        (lambda: Synchronisation(10, -1.5), "signal-to-noise ratio l must be positive and finite, got -1.5"),
        (lambda: Synchronisation(10, 1.5, steps=0), "steps must be at least 1, got 0"),
    ],
)
def test_inadmissible_settings(make, message):
    with pytest.raises(InputError, match=re.escape(message)):
        make()
