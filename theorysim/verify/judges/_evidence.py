"""From the evidence of every setting and component to one judgement: verified iff all are, refuted at alpha/J."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from theorysim.errors import InputError
from theorysim.sweep import describe
from theorysim.verify.claim import Case, Kind
from theorysim.verify.primitive import resolution, seeds_needed
from theorysim.verify.verdict import Judgement, Status


class Draws(NamedTuple):
    """Admissible samples of one case, components flattened: `observed` and `predicted` of shape (components, seeds)."""

    observed: np.ndarray
    predicted: np.ndarray
    labels: list[str]


@dataclass(frozen=True)
class Evidence:
    """What the data say of one setting (a component of a case, or a sequence in size).

    problem: why this setting's data cannot be judged ('' when they can); its p-values are then 1.
    tolerance: half-width of the region in the units of the estimate, None where no resolution is defined.
    gates: diagnostics of this setting, shown when it is the one that decides.
    """

    label: str
    predicted: float
    estimate: float
    interval: tuple[float, float]
    region: tuple[float, float]
    p_verified: float
    p_refuted: float
    se: float | None = None
    df: float | None = None
    seeds: int = 0
    tolerance: float | None = None
    problem: str = ""
    gates: dict[str, object] | None = None


def invalid(label: str, problem: str, predicted: float = float("nan"), seeds: int = 0) -> Evidence:
    """A setting without usable data."""
    nan = float("nan")
    return Evidence(label, predicted, nan, (nan, nan), (nan, nan), 1.0, 1.0, seeds=seeds, problem=problem)


def label_of(setting: object, component: Sequence[int] = ()) -> str:
    """A setting in words, with the component where there are several."""
    text = describe(setting) if not isinstance(setting, str) else setting
    return f"{text}[{', '.join(map(str, component))}]" if component else text


def matched(case: Case) -> tuple[np.ndarray, np.ndarray, Bool[np.ndarray, " seeds"]]:
    """Observed values, predictions of the same shape and the mask of admissible samples. Dtypes are kept."""
    observed = np.asarray(case.observed)
    if observed.ndim == 0:
        raise InputError(f"observed of {label_of(case.setting)} must have a leading seed axis, got a scalar")
    try:
        predicted = np.broadcast_to(np.asarray(case.predicted), observed.shape)
    except ValueError:
        shape = np.shape(case.predicted)
        raise InputError(
            f"predicted of {label_of(case.setting)} must broadcast against observed {observed.shape}, got shape {shape}"
        ) from None
    if case.admissible is None:
        mask = np.ones(observed.shape[0], bool)
    else:
        mask = np.asarray(case.admissible, bool)
        if mask.shape != observed.shape[:1]:
            raise InputError(
                f"admissible of {label_of(case.setting)} must have shape {observed.shape[:1]}, got {mask.shape}"
            )
    return observed, predicted, mask


def draws_of(case: Case) -> Draws:
    """Admissible samples of a case as float64, one row per component."""
    observed, predicted, mask = matched(case)
    observed, predicted = observed[mask].astype(np.float64), predicted[mask].astype(np.float64)
    shape = observed.shape[1:]
    labels = [label_of(case.setting, index) for index in np.ndindex(*shape)]
    flat = (observed.shape[0], len(labels))
    return Draws(observed.reshape(flat).T, predicted.reshape(flat).T, labels)


def region_of(predicted: float, tolerance: float, absolute: bool) -> tuple[float, float]:
    """Tolerance region around a prediction."""
    half = tolerance if absolute else tolerance * abs(predicted)
    return predicted - half, predicted + half


def one_sided(region: tuple[float, float], side: str) -> tuple[float, float]:
    """Open the lower end for 'upper' (at most), the upper end for 'lower' (at least); keep 'two-sided'."""
    lo, hi = region
    return (-np.inf if side == "upper" else lo), (np.inf if side == "lower" else hi)


class SizeSequence(NamedTuple):
    """Cases of one group ordered by size, or one case whose last axis is size.

    values: per size an array (components, seeds), or (components, seeds, sizes) where seeds are shared.
    predicted: shape (components,), the limit, equal for all sizes.
    """

    labels: list[str]
    sizes: Float[np.ndarray, " sizes"]
    values: list[np.ndarray] | np.ndarray
    predicted: Float[np.ndarray, " components"]

    @property
    def shared(self) -> bool:
        """Whether every seed ran all sizes."""
        return isinstance(self.values, np.ndarray)

    @property
    def columns(self) -> list[np.ndarray]:
        """Per size an array (components, seeds)."""
        if isinstance(self.values, np.ndarray):
            return [self.values[..., k] for k in range(len(self.sizes))]
        return self.values


def _constant(predicted: np.ndarray, label: str) -> np.ndarray:
    """The prediction of each component, which must not vary over seeds and sizes; shape (components, ...)."""
    flat = predicted.reshape(len(predicted), -1)
    if flat.shape[1] == 0:
        return np.full(len(predicted), np.nan)
    if not np.allclose(flat, flat[:, :1], rtol=1e-9, atol=0, equal_nan=True):
        raise InputError(
            f"predicted of {label} must be the same for all seeds and sizes of a sequence, got several values"
        )
    return flat[:, 0]


def has_vector_size(case: Case) -> bool:
    """Whether the case holds several sizes along its last axis."""
    return case.size is not None and np.ndim(case.size) > 0


def sequences(cases: Sequence[Case]) -> list[SizeSequence]:
    """Sequences in size. A group is one case with a vector of sizes along the last axis, or cases with a size each."""
    groups: dict[object, list[Case]] = {}
    for case in cases:
        if case.size is None:
            raise InputError(f"size of {label_of(case.setting)} must be given for a claim about growing size, got None")
        groups.setdefault(case.group, []).append(case)
    result = []
    for group, members in groups.items():
        name = label_of(group if group is not None else "all sizes")
        if any(map(has_vector_size, members)):
            if len(members) > 1:
                raise InputError(f"group {name} must hold one case when its size is a vector, got {len(members)}")
            result.append(_shared(members[0]))
            continue
        members = sorted(members, key=lambda case: float(np.asarray(case.size)))
        sizes = np.array([float(np.asarray(case.size)) for case in members])
        draws = [draws_of(case) for case in members]
        if len({len(d.labels) for d in draws}) > 1:
            raise InputError(f"components of group {name} must be the same at all sizes")
        predictions = np.concatenate([d.predicted for d in draws], 1)
        components = len(draws[0].labels)
        labels = [name] if components == 1 else [f"{name}[{k}]" for k in range(components)]
        result.append(SizeSequence(labels, sizes, [d.observed for d in draws], _constant(predictions, name)))
    for sequence in result:
        if np.any(np.diff(sequence.sizes) <= 0) or np.any(sequence.sizes <= 0):
            raise InputError(f"sizes of {sequence.labels[0]} must be positive and distinct, got {list(sequence.sizes)}")
    return result


def _shared(case: Case) -> SizeSequence:
    observed, predicted, mask = matched(case)
    sizes = np.asarray(case.size, float)
    if sizes.ndim != 1 or observed.ndim < 2 or observed.shape[-1] != len(sizes):
        raise InputError(
            f"size of {label_of(case.setting)} must be a number or a vector along the last axis of observed "
            f"{observed.shape}, got shape {sizes.shape}"
        )
    order = np.argsort(sizes)
    observed, predicted = (v[mask][..., order].astype(np.float64) for v in (observed, predicted))
    middle = observed.shape[1:-1]
    labels = [label_of(case.setting, index) for index in np.ndindex(*middle)]
    shape = (len(observed), len(labels), len(sizes))
    values, limits = (np.moveaxis(v.reshape(shape), 0, 1) for v in (observed, predicted))
    return SizeSequence(labels, sizes[order], values, _constant(limits, label_of(case.setting)))


def exact_sequences(cases: Sequence[Case]) -> list[SizeSequence]:
    """Deterministic sequences: every seed is an instance of its own, judged by itself; values (sequences, 1, sizes)."""
    groups: dict[object, list[Case]] = {}
    for case in cases:
        groups.setdefault(case.group, []).append(case)
    flat = []
    for members in groups.values():
        for case in members:
            if not has_vector_size(case):
                continue
            observed, predicted, mask = matched(case)
            rows = observed[mask].shape[0]
            for seed in range(rows):
                flat.append(
                    case._replace(
                        observed=observed[mask][seed : seed + 1],
                        predicted=predicted[mask][seed : seed + 1],
                        admissible=None,
                        group=(case.group, id(case), seed),
                    )
                )
        scalars = [case for case in members if not has_vector_size(case)]
        if any(len(np.asarray(case.observed)) != 1 for case in scalars):
            raise InputError("seeds of exact data with one size a case must be 1; give the sizes as a vector for more")
        flat.extend(scalars)
    result = []
    for sequence in sequences(flat):
        values = sequence.values if sequence.shared else np.stack(list(sequence.values), -1)
        result.append(sequence._replace(values=np.asarray(values)))
    return result


def decide(
    evidence: Sequence[Evidence],
    kind: Kind,
    alpha: float,
    *,
    gates: dict[str, object] | None = None,
    bias: float = 0.0,
    absolute: bool = False,
) -> Judgement:
    """J rule over settings: verified iff every one is, refuted iff some p_refuted <= alpha/J.

    A setting without usable data forbids `verified`; it does not shield another one from being refuted.
    """
    if len(evidence) == 0:
        return Judgement("inconclusive", kind, p_verified=1.0, p_refuted=1.0, reason="invalid data: no data")
    count = len(evidence)
    p_v = np.array([1.0 if e.problem else e.p_verified for e in evidence])
    p_r = np.array([1.0 if e.problem else e.p_refuted for e in evidence])
    p_verified, p_refuted = float(p_v.max()), float(min(1.0, count * p_r.min()))
    problems = [k for k, e in enumerate(evidence) if e.problem]
    status: Status = "inconclusive"
    if p_refuted <= alpha:
        status, worst = "refuted", int(p_r.argmin())
    elif problems:
        worst = problems[0]
    else:
        status, worst = "verified" if p_verified <= alpha else "inconclusive", int(p_v.argmax())
    decided = evidence[worst]
    reason, needed = "", None
    if status == "inconclusive":
        reason = decided.problem or "too few seeds to decide"
        if not problems:
            wanted = [
                seeds_needed(e.estimate, e.se, e.seeds, *e.region, alpha)
                for e in evidence
                if e.p_verified > alpha and e.se is not None
            ]
            known = [n for n in wanted if n is not None]
            needed = max(known) if known else None
    return Judgement(
        status,
        kind,
        predicted=decided.predicted,
        estimate=decided.estimate,
        interval=decided.interval,
        region=decided.region,
        p_verified=p_verified,
        p_refuted=p_refuted,
        se=decided.se,
        df=decided.df,
        bias=bias,
        samples=decided.seeds,
        worst=decided.label if count > 1 else "",
        reason=reason,
        needed=needed,
        resolution=None if absolute else _worst_resolution(evidence, alpha),
        gates={"settings": count, **(decided.gates or {}), **(gates or {})},
    )


def _worst_resolution(evidence: Sequence[Evidence], alpha: float) -> float | None:
    """Largest relative delta_95 over the settings."""
    values = [
        resolution(e.tolerance, e.se, round(e.df or 1) + 1, alpha) / abs(e.predicted)
        for e in evidence
        if e.tolerance is not None and e.se is not None and np.isfinite(e.se) and e.predicted
    ]
    return max(values) if values else None


def decide_certified(evidence: Sequence[Evidence], kind: Kind, *, gates: dict[str, object] | None = None) -> Judgement:
    """Model-error intervals of exact data: inside the region verified, outside refuted, no probability."""
    if len(evidence) == 0:
        return Judgement("inconclusive", kind, reason="invalid data: no data")

    def margin(e: Evidence) -> float:
        """Positive inside the region, negative by how far the interval is outside, 0 between."""
        (lower, upper), (lo, hi) = e.interval, e.region
        if lower > hi or upper < lo:
            return -max(lower - hi, lo - upper)
        return min(lower - lo, hi - upper) if lo <= lower and upper <= hi else 0.0

    sound = [e for e in evidence if not e.problem]
    outside = [e for e in sound if e.interval[0] > e.region[1] or e.interval[1] < e.region[0]]
    inside = [e for e in sound if e.region[0] <= e.interval[0] and e.interval[1] <= e.region[1]]
    reason = ""
    if outside:
        status, decided = "refuted", min(outside, key=margin)
    elif len(inside) == len(evidence):
        status, decided = "verified", min(inside, key=margin)
    else:
        status: Status = "inconclusive"
        decided = next((e for e in evidence if e.problem), None) or next(e for e in sound if e not in inside)
        reason = decided.problem or "the model-error interval crosses the edge of the region"
    return Judgement(
        status,
        kind,
        predicted=decided.predicted,
        estimate=decided.estimate,
        interval=decided.interval,
        region=decided.region,
        certified=True,
        samples=decided.seeds,
        worst=decided.label if len(evidence) > 1 else "",
        reason=reason,
        gates={"settings": len(evidence), "interval": "model error", **(decided.gates or {}), **(gates or {})},
    )
