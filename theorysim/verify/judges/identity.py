"""Exact equality, input by input, against a tolerance that stands well above a measured rounding floor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from theorysim.errors import InputError, require
from theorysim.verify.claim import ALPHA, Case, Kind
from theorysim.verify.judges._evidence import label_of, matched
from theorysim.verify.verdict import Judgement

Scale = float | str | Callable[[Any], Any]


@dataclass(frozen=True)
class Identity:
    """observed = predicted at every input (every scalar), relative to max(|observed|, |predicted|, scale).

    An input counts if its rounding floor is at most tolerance/10 (all do where no floor was measured). A counting input
    beyond the tolerance refutes, which rounding cannot do.

    at_least: counting inputs needed for `verified`.
    scale: natural size where values near 0 are sums of larger terms: a number, a function of the setting, or "sample"
        for the largest component of each sample.
    """

    tolerance: float = 1e-9
    at_least: int = 100
    scale: Scale | None = None
    kind: Kind = "identity"

    def __post_init__(self) -> None:
        require(self.tolerance > 0, f"tolerance must be positive, got {self.tolerance}")
        require(self.at_least >= 1, f"at_least must be at least 1, got {self.at_least}")
        named = not isinstance(self.scale, str) or self.scale == "sample"
        require(named, f"scale must be a number, a function of the setting or 'sample', got {self.scale!r}")

    def __call__(self, cases: Sequence[Case], alpha: float = ALPHA) -> Judgement:
        """Deterministic: no error rate, `alpha` is not used."""
        inputs = counting = broken = 0
        worst_error, worst_label, worst_floor = -np.inf, "", 0.0
        measured = False
        for case in cases:
            observed, predicted, mask = matched(case)
            left, right = observed[mask], predicted[mask]
            floor = np.zeros(left.shape)
            if case.floor is not None:
                measured = True
                floor = np.broadcast_to(np.asarray(case.floor, float), observed.shape)[mask]
            if left.size == 0:
                continue
            inputs += left.size
            size = np.maximum(np.maximum(np.abs(left), np.abs(right)), self._scale(case, left, right))
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                error = np.where(left == right, 0.0, np.abs(left - right) / size).astype(float)
            valid = np.isfinite(left) & np.isfinite(right) & np.isfinite(error)
            broken += int(np.sum(~valid))
            counts = valid & (floor <= self.tolerance / 10)
            counting += int(counts.sum())
            worst_floor = max(worst_floor, float(np.max(floor, initial=0.0, where=np.isfinite(floor))))
            if counts.any():
                masked = np.where(counts, error, -np.inf)
                index = np.unravel_index(int(masked.argmax()), masked.shape)
                if masked[index] > worst_error:
                    worst_error = float(masked[index])
                    sample = int(np.flatnonzero(mask)[index[0]])
                    worst_label = label_of(case.setting, (sample, *map(int, index[1:])))
        reason = ""
        if worst_error > self.tolerance:
            status = "refuted"
        elif broken:
            status, reason = "inconclusive", f"invalid data: {broken} of {inputs} inputs are not finite"
        elif inputs == 0:
            status, reason = "inconclusive", "invalid data: no data"
        elif counting < self.at_least:
            status, reason = "inconclusive", f"{counting} of {inputs} inputs count, {self.at_least} are needed"
        else:
            status = "verified"
        return Judgement(
            status,
            self.kind,
            predicted=0.0,
            estimate=worst_error if counting else None,
            interval=(0.0, worst_error) if counting else None,
            region=(0.0, self.tolerance),
            certified=True,
            samples=counting,
            worst=worst_label,
            reason=reason,
            gates={
                "inputs": inputs,
                "counting": counting,
                "rounding floor": worst_floor if measured else "not measured",
            },
        )

    def _scale(self, case: Case, left: np.ndarray, right: np.ndarray) -> Any:
        if self.scale is None:
            return 0.0
        if self.scale == "sample":
            axes = tuple(range(1, left.ndim))
            return np.maximum(np.abs(left), np.abs(right)).max(axis=axes, keepdims=True)
        value = np.asarray(self.scale(case.setting) if callable(self.scale) else self.scale, float)
        if not np.all(value >= 0):
            raise InputError(f"scale of {label_of(case.setting)} must be at least 0, got {value.min()}")
        return value
