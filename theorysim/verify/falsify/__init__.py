"""Counterexample search on bounds: `falsify`."""

from __future__ import annotations

import math
import time
from dataclasses import replace

from theorysim.errors import require
from theorysim.verify.claim import ALPHA, Check
from theorysim.verify.falsify.hunt import Hunt
from theorysim.verify.falsify.outcome import Falsification, Place
from theorysim.verify.falsify.search import ascend, generate, independent, simplify
from theorysim.verify.intervals import clopper_pearson
from theorysim.verify.judges import Bound
from theorysim.verify.session import Session

__all__ = ["Falsification", "Place", "falsify", "is_bound"]


def is_bound(check: Check) -> bool:
    """Whether a check is an inequality for every input."""
    return isinstance(check.judge, Bound)


def falsify(
    check: Check,
    session: Session,
    *,
    trials: int | None = None,
    restarts: int = 16,
    seconds: float = 60.0,
) -> Falsification:
    """Search for a counterexample to a bound.

    First fresh independent draws of the check's own design: they count as evidence. Then, where the check declares a `search`,
    Hypothesis over fields, settings and draws, and ascent from the worst points found, which do not count. A violation counts
    if the check's judge refutes on it alone, that is if it violates again in the next precision (or by 1000 rounding bounds
    where it cannot be recomputed). It is then made as plain as possible.

    trials: independent draws, by default as many as the design has; of an exhaustive check its design alone is run.
    restarts: points that ascend together.
    seconds: time for all but the independent draws; what is being compiled or measured when it ends is finished.

    Raises `InputError` for a check whose judge is not `Bound`, numbers out of range, and ranges of fields that are not there.
    """
    bound = check.judge
    require(isinstance(bound, Bound), f"judge of check {check.name!r} must be Bound, got {type(bound).__name__}")
    assert isinstance(bound, Bound)
    require(trials is None or trials >= 1, f"trials must be at least 1, got {trials}")
    require(restarts >= 2, f"restarts must be at least 2, got {restarts}")
    require(0 < seconds < math.inf, f"seconds must be positive and finite, got {seconds}")
    start = time.monotonic()
    # Keys of their own: verdicts rest on other draws.
    fresh = replace(check, experiment=replace(check.experiment, id=f"{check.experiment.id}/falsify"))
    hunt = Hunt(fresh, bound, restarts, math.inf, progress=session.progress)
    draws, violation = independent(hunt, session, trials)
    drawn = time.monotonic()
    ascent = "none (a violation among the draws)" if violation else "none (the check declares no search)"
    if check.search is not None:
        if violation is None:
            hunt.deadline = drawn + 0.3 * seconds
            violation, ascent = generate(hunt, session), "none (a violation before it)"
        if violation is None:
            hunt.deadline = drawn + 0.8 * seconds
            ascent, violation = ascend(hunt, session)
        if violation is not None:
            hunt.deadline = max(drawn + seconds, time.monotonic() + 0.2 * seconds)
            violation = simplify(hunt, violation)
    count = 0 if bound.exhaustive else draws
    return Falsification(
        check=check.name,
        draws=count,
        limit=float(clopper_pearson(0, count, ALPHA)[1]) if count and violation is None else None,
        mass=bound.mass,
        trials=hunt.trials + draws - count,
        undefined=hunt.undefined,
        least=hunt.least,
        tightening=1 / hunt.usage if hunt.usage > 0 else None,
        ascent=ascent,
        counterexample=None if violation is None else violation.place,
        seconds=time.monotonic() - start,
    )
