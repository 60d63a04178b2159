"""One judge per kind of claim. A judge is a frozen dataclass of tolerances; called on cases it returns a judgement."""

from theorysim.verify.judges.bound import Bound, ExpectationBound, ProbabilityBound
from theorysim.verify.judges.equivalence import Equivalence
from theorysim.verify.judges.identity import Identity
from theorysim.verify.judges.law import PMF, Law
from theorysim.verify.judges.limit import Limit
from theorysim.verify.judges.ordering import Ordering
from theorysim.verify.judges.rate import Rate
from theorysim.verify.judges.threshold import Threshold

__all__ = [
    "PMF",
    "Bound",
    "Equivalence",
    "ExpectationBound",
    "Identity",
    "Law",
    "Limit",
    "Ordering",
    "ProbabilityBound",
    "Rate",
    "Threshold",
]
