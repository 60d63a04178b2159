"""`theorysim verify`: carry claims through and print their verdicts."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from theorysim.cli.options import Data, Json, Judging, Run, check_file
from theorysim.cli.process import TRACEBACK, explain
from theorysim.cli.targets import resolve_claims
from theorysim.errors import InputError

if TYPE_CHECKING:
    from theorysim.verify.claim import Claim
    from theorysim.verify.verdict import Verdict


@dataclass(frozen=True, kw_only=True)
class Verify(Judging):
    """Judge claims against simulation.

    Exit code: 0 when no claim is refuted or toothless (but for refutations that a claim's own note announces), 1
    otherwise, 2 for bad input.
    """

    targets: Positional[tuple[str, ...]] = ()
    """Papers, claims, or files FILE.py that define CLAIMS. Default: all papers."""

    json: Json = None
    """Also write the verdicts to this file, anew after each claim."""

    strict: bool = False
    """Exit with 1 when a claim is inconclusive, too."""

    data: Data = None
    """Put the papers' claims to a data set: digits (two of its digits: digits:3,8), or an .npz file with X and y."""

    rescale: bool = False
    """Scale the --data to satisfy the assumptions of the claims, instead of refusing it."""

    def __call__(self) -> int:
        self.check()
        if self.json is not None:
            check_file("--json", self.json)
        claims = resolve_claims(self.targets, self.data, self.rescale)
        verdicts = verify(claims, self, self.json)
        return failed(verdicts, self.strict)


def verify(claims: Sequence[Claim], options: Run, json: Path | None = None) -> list[Verdict]:
    """Verdicts on the claims, printed and written as they are reached; also those before an error or interruption."""
    from theorysim.report.json import write
    from theorysim.report.table import Printer
    from theorysim.sweep.progress import Progress

    verdicts: list[Verdict] = []
    printer = Printer([claim.id for claim in claims])
    try:
        with Progress() as progress:
            session = options.session(progress)
            if json is not None:
                write(verdicts, json)
            for claim in claims:
                with named(claim):
                    verdicts.append(session.verify(claim))
                printer.add(verdicts[-1])
                if json is not None:
                    write(verdicts, json)
    finally:
        if verdicts:
            printer.finish(verdicts, len(claims))
    return verdicts


@contextlib.contextmanager
def named(claim: Claim) -> Iterator[None]:
    """Whatever fails in a claim becomes one line that names it."""
    try:
        yield
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        raise InputError(f"{claim.id}: {explain(error)}") from error


def failed(verdicts: Sequence[Verdict], strict: bool) -> int:
    """Exit code of the verdicts."""
    return int(any(v.failed or (strict and v.status == "inconclusive") for v in verdicts))
