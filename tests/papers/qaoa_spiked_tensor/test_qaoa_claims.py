"""The paper's claims at the quick preset: verified (one lacks seeds there), controls refuted, predictions that are off refuted."""

import dataclasses

import numpy as np
import pytest

from theorysim.papers import claims
from theorysim.verify import Bound, Equivalence, Identity, Law, Limit, Rate, Session, Tabulated

CLAIMS = claims("qaoa-spiked-tensor")
CHECKS = [(claim, check) for claim in CLAIMS for check in claim.checks]
IDS = [f"{c.id}: {k.name}" for c, k in CHECKS]
UNDECIDED = {"qaoa-spiked-tensor.response-constants"}
"""Extrapolated from n = 4 ... 13 with 3000 seeds; decided at the standard size."""
SESSION = Session(preset="quick")


def test_the_eleven_claims_are_there():
    names = [claim.id.split(".")[1] for claim in CLAIMS]
    assert len(names) == len(set(names)) == 11


@pytest.mark.parametrize(("claim", "check"), CHECKS, ids=IDS)
def test_every_check_has_presets_and_a_control(claim, check):
    assert set(check.design) == {"quick", "standard", "paper"}
    changed = [getattr(check.control, name) for name in ("predict", "observable", "design")]
    assert check.control.breaks and any(change is not None for change in changed)


@pytest.mark.parametrize(("claim", "check"), CHECKS, ids=IDS)
def test_quick_verifies_and_the_control_is_refuted(claim, check):
    judgement, control = SESSION.judge(check), SESSION.judge(check.broken())
    if claim.id in UNDECIDED:
        assert judgement.status == "inconclusive" and judgement.needed is not None, judgement
    else:
        assert judgement.status == "verified", judgement
    assert control.status == "refuted", control


def planted(check):
    """The check with its prediction distorted: 10 % in value, two tolerances in an exponent or where these are absolute, a law
    stretched by 10 %."""

    def predict(setting, inputs):
        value = check.predict(setting, inputs)
        if isinstance(check.judge, Law):
            return Tabulated(np.clip(1.1 * value.points, -1.2, 1.2), value.values)
        if isinstance(check.judge, Rate):
            return value + 2 * check.judge.tolerance
        if getattr(check.judge, "absolute", False):
            return value + 2.5 * check.judge.tolerance
        return 1.1 * np.asarray(value)

    return dataclasses.replace(check, predict=predict)


DISTORTED = [
    (c, k)
    for c, k in CHECKS
    if isinstance(k.judge, Equivalence | Identity | Law | Limit | Rate) and c.id not in UNDECIDED
]


@pytest.mark.parametrize(("claim", "check"), DISTORTED, ids=[f"{c.id}: {k.name}" for c, k in DISTORTED])
def test_a_planted_distortion_is_refuted(claim, check):
    assert SESSION.judge(planted(check)).status == "refuted"


def test_the_bound_on_the_bridging_law_is_two_sided():
    check = next(k for c, k in CHECKS if k.name == "finite n, without noise")
    assert isinstance(check.judge, Bound)
    for factor in (0.9, 1.1):
        moved = dataclasses.replace(check, observable=lambda s, r, f=factor: f * check.observable(s, r))
        assert SESSION.judge(moved).status == "refuted"
