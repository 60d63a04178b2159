"""Agreement in expectation, or in the median: an interval inside the tolerance, never mere non-rejection."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from theorysim.errors import require
from theorysim.verify.claim import ALPHA, Case, Kind
from theorysim.verify.judges._evidence import decide
from theorysim.verify.judges._functionals import functional_evidence
from theorysim.verify.verdict import Judgement


@dataclass(frozen=True)
class Equivalence:
    """The mean over seeds equals the prediction within a tolerance, at every setting and component.

    A prediction that varies over seeds is compared as a ratio of expectations (relative) or by differences (absolute).

    tolerance: of the prediction's size, or `absolute`.
    functional: mean, or median (for heavy tails; sign test).
    skewed: per-seed values of a skewed kind (squares, times, weights): Hall's transform, which asks for 64 seeds.
    bias: bound on an error that no seed reveals (time step, quadrature), in the observable's units.
    kind: of the claim that this judge serves.
    """

    tolerance: float = 0.05
    absolute: bool = False
    functional: Literal["mean", "median"] = "mean"
    skewed: bool = False
    bias: float = 0.0
    kind: Kind = "identity"

    def __post_init__(self) -> None:
        require(self.tolerance > 0, f"tolerance must be positive, got {self.tolerance}")
        require(self.bias >= 0, f"bias must be at least 0, got {self.bias}")
        require(self.functional in ("mean", "median"), f"functional must be mean or median, got {self.functional!r}")

    def __call__(self, cases: Sequence[Case], alpha: float = ALPHA) -> Judgement:
        """Verified iff every setting and component is; refuted iff some p-value is at most alpha/J."""
        evidence = [
            item
            for case in cases
            for item in functional_evidence(
                case,
                tolerance=self.tolerance,
                absolute=self.absolute,
                functional=self.functional,
                skewed=self.skewed,
                bias=self.bias,
                alpha=alpha,
            )
        ]
        return decide(evidence, self.kind, alpha, bias=self.bias, absolute=self.absolute)
