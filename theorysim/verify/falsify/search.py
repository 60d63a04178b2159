"""The parts of a search: independent draws, Hypothesis over settings and draws, ascent from the worst points, simplification."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float

from theorysim.errors import InputError
from theorysim.sweep import canonical, sample_keys
from theorysim.verify.claim import Check, Design, Search
from theorysim.verify.falsify.hunt import Batch, Hunt, Violation
from theorysim.verify.falsify.sides import of_case, reads, sides, slope
from theorysim.verify.falsify.space import Irreversible, Points, Space, Vectors, require_field, substitute
from theorysim.verify.session import Session

EXAMPLES = 64
"""Batches that Hypothesis generates at most."""
STEPS = 100
"""Steps of an ascent."""
FEW = 24
"""Coordinates up to which Hypothesis chooses draws one by one; more are drawn from keys that it chooses."""


def independent(hunt: Hunt, session: Session, trials: int | None) -> tuple[int, Violation | None]:
    """Fresh draws of the check's own distribution. Returns how many count, and a violation among them."""
    check = hunt.check
    settings = session.design(check.design).settings
    seeds = session.design(check.design).seeds
    if trials is not None and not hunt.bound.exhaustive:
        seeds = -(-trials // len(settings))
    design = Design(settings, seeds)
    cases = session.cases(replace(check, design={session.preset: design}))
    hunt.absolute = not any(np.any(case.predicted) for case in cases)
    measured = session.measure(check.experiment, design)
    names = [
        name for case, results in zip(cases, measured, strict=True) for name in reads(check, case.setting, results)
    ]
    hunt.reads = tuple(dict.fromkeys(names))
    draws, violation = 0, None
    for case, results in zip(cases, measured, strict=True):
        both, space = of_case(case), hunt.space(case.setting)
        draws += int(both.admissible.sum())

        def points(rows: Sequence[int], space: Space = space, setting: Any = case.setting) -> Points:
            return space.start(sample_keys(check.experiment.id, setting, session.seed, rows))

        _, certified = hunt.enter(space, case.setting, results, both, points, "independent draws")
        violation = violation or certified
    return draws, violation


def generate(hunt: Hunt, session: Session) -> Violation | None:
    """Hypothesis over settings, fields and draws: steered to small slack, and shrunk where it finds a violation."""
    import hypothesis
    from hypothesis import strategies as st
    from hypothesis.errors import NoSuchExample

    bases = list(_bases(hunt.check, session))
    found: dict[tuple[str, bytes, int], Violation | None] = {}

    @st.composite
    def examples(draw: Any) -> tuple[Space, np.ndarray, int]:
        space = hunt.space(draw(st.sampled_from(bases)))
        fields = [space.coordinate(name, draw(_natural(st, r.low, r.high, r.log))) for name, r in space.ranges.items()]
        draws = np.zeros(0)
        if 0 < space.size - space.fields <= FEW and draw(st.booleans()):
            ends = zip(space.low[space.fields :], space.high[space.fields :], strict=True)
            draws = np.array([draw(st.floats(low, high)) for low, high in ends])
        return space, np.concatenate([*fields, draws]), draw(st.integers(0, 2**32))

    def broken(example: tuple[Space, np.ndarray, int]) -> bool:
        space, chosen, number = example
        name = (canonical(space.setting), chosen.tobytes(), number)
        if name in found or hunt.over:  # Hypothesis repeats itself, and expects the same answer
            return found.get(name) is not None
        points = space.start(
            sample_keys(hunt.check.experiment.id, ("search", number), session.seed, range(hunt.points))
        )
        points.vectors[:, : space.fields] = chosen[: space.fields]
        points.vectors[0, : len(chosen)] = chosen  # the other points keep the draws of their keys
        batch = hunt.measure(space, points, "Hypothesis")
        if math.isfinite(batch.least.min()):
            hypothesis.target(-float(batch.least.min()))
        found[name] = batch.violation
        return batch.violation is not None

    quiet = hypothesis.settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        verbosity=hypothesis.Verbosity.quiet,
        suppress_health_check=(hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.filter_too_much),
    )
    try:
        space, chosen, number = hypothesis.find(examples(), broken, settings=quiet, random=random.Random(session.seed))
    except NoSuchExample:
        return None
    return found[canonical(space.setting), chosen.tobytes(), number]


def _bases(check: Check, session: Session) -> Iterator[Any]:
    """The design's settings, each with every choice that it admits."""
    choices = (check.search or Search()).choices
    for setting in session.design(check.design).settings:
        variants = [setting]
        for name, values in choices.items():
            variants += [made for known in variants for value in values if (made := _admitted(known, name, value))]
        yield from {canonical(variant): variant for variant in variants}.values()


def _admitted(setting: Any, name: str, value: Any) -> Any:
    """The setting with another value of a field; None where that does not fit the others."""
    require_field(setting, name)
    try:
        return substitute(setting, {name: value})
    except InputError:
        return None


def _natural(st: Any, low: float, high: float, log: bool) -> Any:
    """Numbers of a range, the simplest being short ones."""
    if not log:
        return st.floats(low, high)
    return st.floats(math.log10(low), math.log10(high)).map(lambda exponent: min(max(10.0**exponent, low), high))


# --- ascent -----------------------------------------------------------------------------------------------------------


def ascend(hunt: Hunt, session: Session) -> tuple[str, Violation | None]:
    """Drive the slack down from the worst points of every setting. Returns how, and the violation that this leads to."""
    how = ""
    spaces = [space for space in hunt.spaces.values() if space.size]
    least = {id(s): (hunt.worst[canonical(s.setting)] or [(math.inf, None)])[0][0] for s in spaces}
    deadline = hunt.deadline
    for number, space in enumerate(sorted(spaces, key=lambda s: least[id(s)])):
        if hunt.over:
            break
        now = time.monotonic()
        hunt.deadline = now + (deadline - now) / min(2, len(spaces) - number)  # half of what is left, the last one all
        rng = np.random.default_rng([session.seed, number])
        points = _starts(hunt, space, session, rng)
        try:
            violation, how = _by_gradient(hunt, space, points), how or "gradient"
        except Irreversible as reason:
            violation, how = _by_steps(hunt, space, points, rng), how or f"steps without gradient ({reason})"
        hunt.deadline = deadline
        if violation is not None:
            return how, violation
    return how or ("none (time was up)" if spaces else "none (nothing to move)"), None


def _starts(hunt: Hunt, space: Space, session: Session, rng: np.random.Generator) -> Points:
    """The worst points known, three quarters at most, and random ones."""
    known = [point for _, point in hunt.worst[canonical(space.setting)]][: max(1, 3 * hunt.points // 4)]
    keys = sample_keys(
        hunt.check.experiment.id, ("ascent", space.setting), session.seed, range(hunt.points - len(known))
    )
    fresh = space.start(keys)
    fresh.vectors[:, : space.fields] = rng.uniform(size=(len(keys), space.fields))
    return Points(*(np.concatenate(parts) for parts in zip(*known, fresh, strict=True)))


def _targets(batch: Batch) -> np.ndarray:
    """Component that each point is to drive down, -1 for whichever is least: so the first half; the others one component each."""
    half = len(batch.relative) // 2
    order = np.argsort(batch.relative.min(axis=0), kind="stable")
    return np.concatenate([np.full(half, -1), np.resize(order, len(batch.relative) - half)])


def _by_gradient(hunt: Hunt, space: Space, points: Points, rate: float = 0.1) -> Violation | None:
    """Adam on the relative slack, projected to the box; a step to where nothing is defined is halved and its rate, too."""
    vectors = space.project(points.vectors)
    safe, rates = vectors.copy(), np.full((len(vectors), 1), rate)
    mean, square, targets = np.zeros_like(vectors), np.zeros_like(vectors), None
    begin = time.monotonic()
    for step in range(1, STEPS + 1):
        batch = hunt.measure(space, points.at(vectors), "gradient")
        if batch.violation is not None or hunt.over:
            return batch.violation
        targets = _targets(batch) if targets is None else targets
        component = np.where(targets < 0, batch.relative.argmin(axis=1), targets)
        usable = np.isfinite(batch.relative[np.arange(len(vectors)), component])
        if not usable.any():
            return None
        safe[usable] = vectors[usable]
        gradient = _gradient(hunt, space, points.at(safe), batch, component, usable)
        if step == 1 and not gradient.any():
            raise Irreversible("the slack does not change with them")
        rates[~usable] /= 2
        mean[usable] = 0.9 * mean[usable] + 0.1 * gradient[usable]
        square[usable] = 0.99 * square[usable] + 0.01 * gradient[usable] ** 2
        moment = mean / (1 - 0.9**step) / (np.sqrt(square / (1 - 0.99**step)) + 1e-300)
        spent = (time.monotonic() - begin) / (hunt.deadline - begin)
        decay = 0.01 ** max(step / STEPS, min(spent, 1))
        forward = space.project(safe - decay * rates * space.span * moment)
        vectors = np.where(usable[:, None], forward, (safe + vectors) / 2)
    return None


def _gradient(
    hunt: Hunt, space: Space, points: Points, batch: Batch, component: np.ndarray, usable: np.ndarray
) -> Vectors:
    """Gradient of each usable point's relative slack; measured numbers by the chain rule, fields that the bound reads itself by
    differences."""
    cotangents: dict[str, np.ndarray] = {}
    direct = np.zeros_like(points.vectors)
    for row in np.flatnonzero(usable):
        setting, one = batch.settings[row], {name: value[row : row + 1] for name, value in batch.results.items()}
        for name, part in slope(hunt.check, hunt.bound, setting, one, int(component[row]), hunt.absolute).items():
            cotangents.setdefault(name, np.zeros(batch.results[name].shape))[row] = part[0]

        def relative(setting: Any, one=one, row=row) -> float:
            return float(sides(hunt.check, setting, one).relative(hunt.bound, hunt.absolute)[0, component[row]])

        direct[row] = space.direct(points.vectors, int(row), relative)
    gradient = space.gradient(points, cotangents) if cotangents else 0.0
    found = gradient + direct
    return np.where(usable[:, None] & np.isfinite(found), found, 0.0)


def _by_steps(hunt: Hunt, space: Space, points: Points, rng: np.random.Generator) -> Violation | None:
    """Random steps of some coordinates, kept where the slack falls; their length follows their success."""
    best, length = space.project(points.vectors), np.full((len(points.keys), 1), 0.3)
    value, targets = np.full(len(best), math.inf), None
    vectors = best
    for _ in range(2 * STEPS):
        batch = hunt.measure(space, points.at(vectors), "steps without gradient")
        if batch.violation is not None or hunt.over:
            return batch.violation
        targets = _targets(batch) if targets is None else targets
        component = np.where(targets < 0, batch.relative.argmin(axis=1), targets)
        reached = batch.relative[np.arange(len(best)), component]
        better = (reached < value)[:, None]
        best, value = np.where(better, vectors, best), np.minimum(reached, value)
        length = np.clip(np.where(better, 2 * length, 0.85 * length), 1e-6, 1.0)
        some = rng.uniform(size=best.shape) < max(0.15, 1 / space.size)
        some[np.arange(len(best)), rng.integers(space.size, size=len(best))] = True
        vectors = space.project(best + length * space.span * some * rng.normal(size=best.shape))
    return None


# --- simplification ---------------------------------------------------------------------------------------------------


def simplify(hunt: Hunt, violation: Violation) -> Violation:
    """The violation with as many plain coordinates as possible: in the middle of their law, the setting's own, or round."""
    space = violation.space
    for block in _blocks(space.size):
        if hunt.over:
            break
        here = violation.point.vectors[0]
        simpler = [v for v in _simpler(space, here, block) if not np.array_equal(v, here)][: hunt.points]
        if not simpler:
            continue
        tried = violation.point.take(np.zeros(len(simpler), int)).at(np.array(simpler))
        batch = hunt.measure(space, tried, violation.place.found)
        for row in np.flatnonzero(batch.least < 0):  # the simplest first
            again = hunt.measure(space, tried.take([row]), violation.place.found).violation
            if again is not None:
                violation = again
                break
    return violation


def _blocks(size: int, most: int = 128) -> Iterator[np.ndarray]:
    """All coordinates, their halves, and so on to single ones or `most` blocks."""
    count = 1
    while size and count <= most:
        yield from (block for block in np.array_split(np.arange(size), count) if len(block))
        if count >= size:
            return
        count = min(2 * count, size)


def _simpler(space: Space, vector: Float[np.ndarray, " D"], block: np.ndarray) -> Iterator[Float[np.ndarray, " D"]]:
    """The vector with a block made plainer, the plainest first."""
    plain = vector.copy()
    plain[block] = space.centre[block]
    yield plain
    for digits in (1, 2, 3):
        rounded = vector.copy()
        rounded[block] = space.rounded(vector, digits)[block]
        yield space.project(rounded)
