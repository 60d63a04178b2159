"""`theorysim list` and `theorysim show`: what there is, and what a claim says, assumes, runs and costs."""

from __future__ import annotations

import dataclasses
import itertools
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from tyro.conf import Positional

from theorysim import papers
from theorysim.cli.targets import claims_of_file, figures_of_file, is_file, resolve_claims
from theorysim.errors import require

if TYPE_CHECKING:
    from theorysim.plots import Figure
    from theorysim.verify.claim import Check, Claim, Design

RATE = 10**10
"""Floating-point operations a second of the nominal machine: two cores on small batched problems in float64, where the
property sweep of large-stepsize gradient descent was measured at 2e10."""

SHOWN = 8
"""Settings of a design that are written out."""


@dataclass(frozen=True, kw_only=True)
class List:
    """List papers, their claims and their figures."""

    targets: Positional[tuple[str, ...]] = ()
    """Papers, or files FILE.py that define CLAIMS (and FIGURES). Default: all papers."""

    def __call__(self) -> int:
        for target in self.targets or papers.slugs():
            if is_file(target):
                _print(_listing(target, claims_of_file(target), figures_of_file(target)))
            else:
                _print(_listing(target, papers.claims(target), papers.figures(target)))
        return 0


@dataclass(frozen=True, kw_only=True)
class Show:
    """Show claims in full: statement, source, assumptions, designs and their cost, judge, control, note."""

    targets: Positional[tuple[str, ...]] = ()
    """Claims by id, papers, or files FILE.py that define CLAIMS."""

    def __call__(self) -> int:
        require(bool(self.targets), "show needs a claim, as in theorysim show PAPER.CLAIM; see theorysim list")
        for claim in resolve_claims(self.targets):
            _print(_page(claim))
        return 0


def _print(lines: Iterator[str]) -> None:
    """Lines, each wrapped on a terminal and kept whole elsewhere."""
    console = Console(highlight=False, markup=False)
    for line in lines:
        if not console.is_terminal:
            print(line)
            continue
        margin = " " * (len(line) - len(line.lstrip()) + 2)
        print(textwrap.fill(line, max(console.width, 40), subsequent_indent=margin, break_on_hyphens=False) or "")


def _listing(title: str, claims: tuple[Claim, ...], figures: tuple[Figure, ...]) -> Iterator[str]:
    yield title
    width = max((len(entry.id) for entry in (*claims, *figures)), default=0)
    for claim in claims:
        yield f"  {claim.id:<{width}}  {claim.kind:<9}  {textwrap.shorten(claim.statement, 90, placeholder=' ...')}"
    for figure in figures:
        yield f"  {figure.id:<{width}}  {'figure':<9}  {textwrap.shorten(figure.question, 90, placeholder=' ...')}"
    if not claims and not figures:
        yield "  no claims yet"


def _page(claim: Claim) -> Iterator[str]:
    from theorysim.verify.claim import ALPHA

    yield f"{claim.id} ({claim.kind})"
    for name in ("statement", "source", "assumptions", "note"):
        text = " ".join(getattr(claim, name).split())
        if text:
            yield f"  {name}: {text}"
    if claim.announced:
        yield "  announced: the claim is refuted as stated, for the reason in its note; this counts as no failure"
    yield f"  error rate: at most {ALPHA:g} in either direction"
    shown: list[tuple[str, Design]] = []
    for check in claim.checks:
        yield f"  check: {check.name}"
        yield f"    judge: {_describe(check.judge)}"
        yield f"    control: {' '.join(check.control.breaks.split())}"
        for preset, design in check.design.items():
            yield from _design(preset, check, design, shown)
    for preset in claim.checks[0].design:
        yield f"  cost of {preset}: {_cost(claim, preset)}"
    yield ""


def _describe(judge: object) -> str:
    """Kind and parameters of a judge."""
    if not dataclasses.is_dataclass(judge):
        return str(judge)
    parameters = ", ".join(f"{field.name}={getattr(judge, field.name)!r}" for field in dataclasses.fields(judge))
    return f"{type(judge).__name__.lower()}({parameters})"


def _design(preset: str, check: Check, design: Design, shown: list[tuple[str, Design]]) -> Iterator[str]:
    """A design; its settings in full unless they are among those `shown` before, to which they are added."""
    from theorysim.verify.session import sizes

    counts = f"{preset}: {_count(len(design.settings), 'setting')} x {_count(design.seeds, 'seed')}"
    grown = ", ".join(f"{size:.6g}" for size in sizes(check, design))
    yield f"    {counts}" + (f"; sizes {grown}" if grown else "")
    known = next((title for title, other in shown if other.settings == design.settings), None)
    if known is not None:
        yield f"      the settings of {known}"
        return
    shown.append((f"{preset}, check {check.name}", design))
    yield from (f"      {line}" for line in _settings(design.settings))


def _settings(settings: Sequence[Any]) -> Iterator[str]:
    """What all settings have in common in one line, then what differs, a line each."""
    rows = [dict(_parameters(setting)) for setting in settings]
    names = list(dict.fromkeys(name for row in rows for name in row))
    common = [name for name in names if len({row.get(name) for row in rows}) == 1]
    lasts = [name.rpartition(".")[2] for name in names]
    short = {name: last if lasts.count(last) == 1 else name for name, last in zip(names, lasts, strict=True)}
    if common:
        yield ("all: " if len(rows) > 1 else "") + ", ".join(f"{short[name]}={rows[0][name]}" for name in common)
    varying = [name for name in names if name not in common]
    if not varying:
        return
    for row in rows[:SHOWN]:
        yield ", ".join(f"{short[name]}={row[name]}" for name in varying if name in row)
    if len(rows) > SHOWN:
        yield f"... and {len(rows) - SHOWN} more"


def _parameters(setting: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted names and texts of a setting's parameters, those of nested settings included."""
    from theorysim.sweep import describe

    if not dataclasses.is_dataclass(setting):
        yield prefix.rstrip("."), describe(setting)
        return
    for field in dataclasses.fields(setting):
        value = getattr(setting, field.name)
        if dataclasses.is_dataclass(value):
            yield prefix + field.name, type(value).__name__
            yield from _parameters(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, describe(value)


def _cost(claim: Claim, preset: str) -> str:
    """Operations of checks and controls, where measurements that a session shares are counted once."""
    runs: dict[object, float] = {}
    for check in itertools.chain(claim.checks, (check.broken() for check in claim.checks)):
        design = check.design.get(preset)
        if design is None:
            continue
        if check.experiment.operations is None:
            return "unknown (the experiment does not state its operations)"
        total = design.seeds * sum(map(check.experiment.operations, design.settings))
        runs[check.experiment.id, design.settings, design.seeds] = total
    operations = sum(runs.values())
    return (
        f"{operations:.2g} floating-point operations, about {_duration(operations / RATE)} at a nominal 10^10 a second"
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("s" if number != 1 else "")


def _duration(seconds: float) -> str:
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.2g} s"
