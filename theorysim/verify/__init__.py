"""Claims, their verdicts, one judge per kind of claim, and the statistics that the verdicts rest on."""

from theorysim.verify.claim import ALPHA, KINDS, PRESETS, Case, Check, Claim, Control, Design, Judge, Range, Search
from theorysim.verify.judges import (
    PMF,
    Bound,
    Equivalence,
    ExpectationBound,
    Identity,
    Law,
    Limit,
    Ordering,
    ProbabilityBound,
    Rate,
    Threshold,
)
from theorysim.verify.laws import Discrete, Tabulated
from theorysim.verify.session import Session
from theorysim.verify.verdict import CheckVerdict, Judgement, Verdict

__all__ = [
    "ALPHA",
    "KINDS",
    "PMF",
    "PRESETS",
    "Bound",
    "Case",
    "Check",
    "CheckVerdict",
    "Claim",
    "Control",
    "Design",
    "Discrete",
    "Equivalence",
    "ExpectationBound",
    "Identity",
    "Judge",
    "Judgement",
    "Law",
    "Limit",
    "Ordering",
    "ProbabilityBound",
    "Range",
    "Rate",
    "Search",
    "Session",
    "Tabulated",
    "Threshold",
    "Verdict",
]
