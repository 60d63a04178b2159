"""Family-wise control over a report: Holm's procedure beside the fixed level of each claim.

A claim's verdict at alpha = 2e-4 is Bonferroni at .05 over 250 claims and depends on no other claim. Holm on a report's own
list, once on the p-values of "not as claimed" and once on those of "as claimed", each at .05, may decide what the fixed level
leaves open. Of the two nulls of a claim one is true, so some wrong verdict at the fixed level has probability .05 at most;
with Holm the two families add, to .10.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from theorysim.verify.intervals import holm
from theorysim.verify.verdict import Status, Verdict


def p_values(verdict: Verdict) -> tuple[float, float] | None:
    """p-values of a claim: that of its worst check for verified, J times that of its best for refuted.

    Each is multiplied by the number of looks it was chosen from. None where a check was decided without probability: such
    claims enter no family.
    """
    verified, refuted = [], []
    for check in verdict.checks:
        judgement, looks = check.judgement, check.budget.looks if check.budget else 1
        if judgement.p_verified is None or judgement.p_refuted is None:
            if judgement.status != "verified":
                return None
            continue
        verified.append(looks * judgement.p_verified)
        refuted.append(looks * judgement.p_refuted)
    if not verified:
        return None
    return min(1.0, max(verified)), min(1.0, len(verdict.checks) * min(refuted))


def holm_statuses(verdicts: Sequence[Verdict], level: float = 0.05) -> list[Status | None]:
    """What Holm's procedure at `level` says of each claim of a report; None for those without p-values.

    A toothless claim has none either: its check has not shown that it could fail.
    """
    values = [None if verdict.status == "toothless" else p_values(verdict) for verdict in verdicts]
    known = [value for value in values if value is not None]
    if not known:
        return [None] * len(verdicts)
    verified, refuted = (iter(holm(np.array(side), level)) for side in zip(*known, strict=True))
    statuses: list[Status | None] = []
    for value in values:
        if value is None:
            statuses.append(None)
        else:
            shown, broken = bool(next(verified)), bool(next(refuted))
            statuses.append("verified" if shown else "refuted" if broken else "inconclusive")
    return statuses
