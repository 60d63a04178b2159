"""A claim's verdict from those of its checks."""

import pytest

from theorysim.verify import ALPHA, CheckVerdict, Judgement, Verdict


def judged(status, p_refuted=None, samples=8):
    return Judgement(status, "limit", p_refuted=p_refuted, certified=p_refuted is None, samples=samples)


def verdict(*judgements, control="refuted", announced=False):
    checks = tuple(
        CheckVerdict(f"check {k}", judgement, judged(control), "something") for k, judgement in enumerate(judgements)
    )
    note = "known to fail" if announced else ""
    return Verdict("paper.claim", "paper", "limit", "quick", 0, checks, note, announced)


@pytest.mark.parametrize(
    ("judgements", "status", "decided"),
    [
        ((judged("verified"), judged("verified")), "verified", 0),
        ((judged("verified"), judged("inconclusive")), "inconclusive", 1),
        ((judged("inconclusive"), judged("refuted")), "refuted", 1),
        ((judged("verified"), judged("refuted", ALPHA / 2)), "refuted", 1),
        # at alpha, but one of two checks may err: not refuted, and not verified either
        ((judged("verified"), judged("refuted", 0.9 * ALPHA)), "inconclusive", 1),
        ((judged("refuted", 0.9 * ALPHA),), "refuted", 0),
    ],
)
def test_conjunction(judgements, status, decided):
    result = verdict(*judgements)
    assert result.status == result.judged == status
    assert result.headline is result.checks[decided]
    assert result.failed == (status == "refuted")


@pytest.mark.parametrize(
    ("control", "teeth"), [("verified", "control passes"), ("inconclusive", "underpowered control")]
)
def test_a_surviving_control_makes_the_claim_toothless_whatever_else(control, teeth):
    result = verdict(judged("verified"), control=control)
    assert result.status == "toothless" and result.failed and result.headline.teeth == teeth


def test_an_announced_refutation_is_a_finding_and_not_a_failure():
    assert not verdict(judged("refuted"), announced=True).failed
    assert verdict(judged("verified"), control="verified", announced=True).failed


def test_a_check_without_data_is_inconclusive_and_not_toothless():
    nothing = judged("inconclusive", samples=0)
    check = CheckVerdict("check", nothing, nothing, "something")
    result = Verdict("paper.claim", "paper", "limit", "quick", 0, (check,))
    assert result.status == "inconclusive" and not result.failed and result.headline.teeth == "no data"
    # a check with data must show that its control had some, too
    assert CheckVerdict("check", judged("verified"), nothing, "something").toothless
