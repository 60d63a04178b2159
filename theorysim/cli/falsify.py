"""`theorysim falsify`: search for counterexamples to bounds."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from tyro.conf import Positional

from theorysim.cli.options import Data, Json, Run, check_file, number
from theorysim.cli.process import TRACEBACK, explain
from theorysim.cli.targets import resolve_claims
from theorysim.errors import InputError, require

if TYPE_CHECKING:
    from rich.console import Console

    from theorysim.verify.claim import Check, Claim
    from theorysim.verify.falsify import Falsification, Place

Trials = Annotated[int | None, number("--trials", int)]
Restarts = Annotated[int, number("--restarts", int)]
Time = Annotated[float, number("--time", float)]

COLUMNS = ("claim", "check", "draws", "trials", "least slack", "tightening", "outcome", "seconds")
LEFT = ("claim", "check", "outcome")


@dataclass(frozen=True, kw_only=True)
class Falsify(Run):
    """Search for counterexamples to bounds, among independent draws and beyond them.

    Exit code: 0 when none is found, 1 when one is, 2 for bad input; with --controls 0 when one is found in every control.
    """

    targets: Positional[tuple[str, ...]] = ()
    """Papers, claims, or files FILE.py that define CLAIMS. Default: all papers."""

    trials: Trials = None
    """Independent draws of each check. Default: as many as the preset has."""

    restarts: Restarts = 16
    """Points from which the slack is driven down at the same time."""

    time: Time = 60.0
    """Seconds for the search beyond the independent draws, for each check."""

    controls: bool = False
    """Search the controls in place of the claims: each is false, so each must be found."""

    json: Json = None
    """Also write the results to this file, anew after each check."""

    data: Data = None
    """Put the papers' claims to a data set: digits (two of its digits: digits:3,8), or an .npz file with X and y."""

    rescale: bool = False
    """Scale the --data to satisfy the assumptions of the claims, instead of refusing it."""

    def __call__(self) -> int:
        self.check()
        require(self.trials is None or self.trials >= 1, f"--trials must be at least 1, got {self.trials}")
        require(self.restarts >= 2, f"--restarts must be at least 2, got {self.restarts}")
        require(0 < self.time < float("inf"), f"--time must be positive and finite, got {self.time}")
        if self.json is not None:
            check_file("--json", self.json)
        claims = resolve_claims(self.targets, self.data, self.rescale)
        searched = list(_bounds(claims, self.controls))
        what = ", ".join(self.targets) or "this installation"
        require(bool(searched), f"there are no bounds to search in {what}: no check is judged by Bound")
        found = falsify(searched, self)
        missed = [not one.found.counterexample for one in found]
        return int(any(missed) if self.controls else not all(missed))


class Searched(NamedTuple):
    """The search on one check of a claim."""

    claim: str
    found: Falsification


def _bounds(claims: Sequence[Claim], controls: bool) -> Iterator[tuple[str, Check]]:
    """The bounds among the checks of claims, or their controls, with the claims' ids."""
    from theorysim.verify.falsify import is_bound

    for claim in claims:
        for check in filter(is_bound, claim.checks):
            yield claim.id, check.broken() if controls else check


def falsify(checks: Sequence[tuple[str, Check]], options: Falsify) -> list[Searched]:
    """Search each check, printing and writing what is found as soon as it is there."""
    from rich.console import Console

    from theorysim.sweep.progress import Progress
    from theorysim.verify.falsify import falsify as search

    console = Console(highlight=False, soft_wrap=True)
    widths = [max(len(COLUMNS[0]), *(len(claim) for claim, _ in checks))]
    widths += [max(len(COLUMNS[1]), *(len(check.name) for _, check in checks)), 8, 8, 11, 10, 14, 7]
    _line(console, COLUMNS, widths)
    _line(console, ["-" * width for width in widths], widths)
    done: list[Searched] = []
    with _no_notes(), Progress() as progress:
        session = options.session(progress)
        for claim, check in checks:
            try:
                found = search(check, session, trials=options.trials, restarts=options.restarts, seconds=options.time)
            except Exception as error:
                if os.environ.get(TRACEBACK):
                    raise
                raise InputError(f"{claim} ({check.name}): {explain(error)}") from error
            done.append(Searched(claim, found))
            _line(console, _row(done[-1]), widths, "red" if found.counterexample else "")
            if options.json is not None:
                _write(done, options, options.json)
    for line in (line for one in done for line in _details(one)):
        console.print(line, markup=False)
    console.print(_summary(done, options), markup=False)
    return done


@contextlib.contextmanager
def _no_notes() -> Iterator[None]:
    """Keep Hypothesis from leaving a folder where the command is run."""
    from hypothesis.configuration import set_hypothesis_home_dir

    with tempfile.TemporaryDirectory() as folder:
        set_hypothesis_home_dir(folder)
        try:
            yield
        finally:
            set_hypothesis_home_dir(None)


def _line(console: Console, cells: Sequence[str], widths: Sequence[int], style: str = "") -> None:
    aligned = (
        cell.ljust(width) if name in LEFT else cell.rjust(width)
        for name, cell, width in zip(COLUMNS, cells, widths, strict=True)
    )
    console.print("  ".join(aligned).rstrip(), style=style, markup=False)


def _row(one: Searched) -> tuple[str, ...]:
    found = one.found
    return (
        one.claim,
        found.check,
        str(found.draws) if found.draws else "-",
        str(found.trials),
        "-" if found.least is None else f"{found.least.relative:.4g}",
        "-" if found.tightening is None else f"{found.tightening:.5g}",
        "counterexample" if found.counterexample else "none found",
        f"{found.seconds:.1f}",
    )


def _details(one: Searched) -> Iterator[str]:
    """A line on where the slack is least, or on the counterexample."""
    found, name = one.found, f"{one.claim} ({one.found.check})"
    if found.counterexample is not None:
        yield f"counterexample {name}: {_place(found.counterexample)}; key {found.counterexample.key}"
    elif found.least is not None:
        limit = f"; violating mass below {found.limit:.2g}" if found.limit is not None else ""
        yield f"least slack {name}: {_place(found.least)}; search: {found.ascent}{limit}"
    else:
        yield f"no inequality defined {name}: {found.trials + found.draws} inputs, {found.undefined} undefined"


def _place(place: Place) -> str:
    """An input in words: both sides, setting, instance, and which part of the search came across it."""
    moved = "" if place.draws is None else f", {len(place.draws)} draws moved"
    instance = "".join(f", {name}={_short(value)}" for name, value in place.instance.items())
    sides = f"observed {place.observed:.10g}, predicted {place.predicted:.10g}, slack {place.slack:.4g}"
    return f"{sides} at {place.setting}{instance} (by {place.found}{moved})"


def _short(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _summary(done: Sequence[Searched], options: Falsify) -> str:
    found = sum(one.found.counterexample is not None for one in done)
    draws, trials = sum(one.found.draws for one in done), sum(one.found.trials for one in done)
    kind = "control" if options.controls else "bound"
    counted = f"{draws} independent draws and {trials} other trials"
    seconds = sum(one.found.seconds for one in done)
    number = f"{len(done)} {kind}{'s' if len(done) != 1 else ''}"
    return (
        f"{number}: {found} with a counterexample, {counted} (preset {options.preset}, seed {options.seed},"
        f" {seconds:.1f} s)"
    )


def _write(done: Sequence[Searched], options: Falsify, path: Path) -> None:
    from theorysim.report.json import plain

    head = {"preset": options.preset, "seed": options.seed, "controls": options.controls}
    records = [{"claim": one.claim, **head, **plain(one.found)} for one in done]
    path.write_text(json.dumps(records, indent=2, allow_nan=False) + "\n")
