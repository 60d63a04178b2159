"""The verdict table for people: one row a claim, then notes, what keeps a claim from being verified, and a summary."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from theorysim.verify.family import holm_statuses
from theorysim.verify.verdict import CheckVerdict, Judgement, Verdict

COLUMNS = ("claim", "kind", "predicted", "measured [interval]", "verdict", "control", "seconds")
WIDTHS = (0, 9, 11, 34, 21, 19, 7)  # of the plain table; that of the claim column follows the longest id
NUMERIC = ("predicted", "seconds")
STYLES = {"verified": "green", "refuted": "red", "toothless": "red", "inconclusive": "yellow"}


def number(value: float | None) -> str:
    """Five significant digits; "-" for None."""
    return "-" if value is None else f"{value:.5g}"


def measured(judgement: Judgement) -> str:
    """Estimate and interval: "0.50312 [0.49912, 0.50711]"."""
    text = number(judgement.estimate)
    if judgement.interval is None:
        return text
    low, high = judgement.interval
    return f"{text} [{number(low)}, {number(high)}]"


def outcome(verdict: Verdict) -> str:
    """The claim's status; a refutation that the claim's note announces says so."""
    return verdict.status + (" (announced)" if verdict.announced and verdict.status == "refuted" else "")


def row(verdict: Verdict) -> tuple[str, ...]:
    """The cells of a claim, in the order of `COLUMNS`. The numbers are those of the check that decided."""
    check = verdict.headline
    judgement = check.judgement
    return (
        verdict.claim,
        verdict.kind,
        number(judgement.predicted),
        measured(judgement),
        outcome(verdict),
        check.teeth,
        f"{verdict.seconds:.1f}",
    )


class Printer:
    """Prints verdicts: a table in colour at the end on a terminal, else a plain line of fixed width as each is reached.

    claims: ids of all claims to come, which fix the width of the plain table.
    """

    def __init__(self, claims: Sequence[str], console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)
        self._widths = (max(map(len, claims)), *WIDTHS[1:])
        self._printed = False

    def add(self, verdict: Verdict) -> None:
        """Take note of a verdict as soon as it is there."""
        if self.console.is_terminal:
            return
        if not self._printed:
            self._line(COLUMNS)
            self._line(tuple("-" * width for width in self._widths))
            self._printed = True
        self._line(row(verdict))

    def finish(self, verdicts: Sequence[Verdict], claims: int) -> None:
        """Print what is left: the table on a terminal, notes, reasons and the summary line of `claims` claims."""
        if self.console.is_terminal and verdicts:
            grid = table(verdicts)
            unbounded = self.console.options.update(width=10_000)
            if self.console.measure(grid, options=unbounded).maximum <= self.console.width:
                self.console.print(grid)
            else:
                self.console.print(*blocks(verdicts), sep="\n")
        for line in (*notes(verdicts), *reasons(verdicts), *family(verdicts)):
            self._say(line)
        self._say(summary(verdicts, claims))

    def _line(self, cells: tuple[str, ...]) -> None:
        aligned = (
            cell.rjust(width) if name in NUMERIC else cell.ljust(width)
            for name, cell, width in zip(COLUMNS, cells, self._widths, strict=True)
        )
        self._say("  ".join(aligned).rstrip())

    def _say(self, line: str) -> None:
        if self.console.is_terminal:
            self.console.print(Text(line))
        else:  # no wrapping: one fact a line, for grep and for files
            print(line, file=self.console.file or sys.stdout, flush=True)


def table(verdicts: Sequence[Verdict]) -> Table:
    """The verdicts as a rich table, whose cells are never wrapped."""
    result = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for name in COLUMNS:
        result.add_column(name, justify="right" if name in NUMERIC else "left", no_wrap=True)
    result.add_column("holm", no_wrap=True)
    for verdict, status in zip(verdicts, holm_statuses(verdicts), strict=True):
        cells = [Text(cell) for cell in row(verdict)]
        cells[COLUMNS.index("verdict")].stylize(_style(verdict))
        if verdict.headline.toothless:
            cells[COLUMNS.index("control")].stylize("red")
        result.add_row(*cells, Text(status or "-", style=STYLES[status] if status else ""))
    return result


def blocks(verdicts: Iterable[Verdict]) -> Iterator[Text]:
    """The same for terminals that are too narrow for the table: a line with the id, and one with the numbers."""
    for verdict in verdicts:
        claim, kind, predicted, estimate, status, control, seconds = row(verdict)
        yield Text(claim, style="bold")
        numbers = f"  {kind}; predicted {predicted}, measured {estimate}; control: {control}; {seconds} s"
        yield Text.assemble("  ", (status, _style(verdict)), numbers)


def _style(verdict: Verdict) -> str:
    return "yellow" if outcome(verdict) == "refuted (announced)" else STYLES[verdict.status]


def notes(verdicts: Iterable[Verdict]) -> list[str]:
    """What was found when the claims were checked, a line each."""
    return [f"note {verdict.claim}: {' '.join(verdict.note.split())}" for verdict in verdicts if verdict.note]


def reasons(verdicts: Iterable[Verdict]) -> list[str]:
    """Why a check is not verified, or shows no teeth, and how many seeds would decide: a line each."""
    lines = []
    for verdict in verdicts:
        for check in verdict.checks:
            name = verdict.claim if len(verdict.checks) == 1 else f"{verdict.claim} ({check.name})"
            if check.judgement.status != "verified":
                lines.append(f"{check.judgement.status} {name}: {_why(check.judgement)}")
            if check.toothless:
                lines.append(f"toothless {name}: {_blunt(check)}")
    return lines


def family(verdicts: Sequence[Verdict]) -> list[str]:
    """What Holm's procedure says of the report: a summary line, and one for each claim that it decides otherwise."""
    pairs = [(v, s) for v, s in zip(verdicts, holm_statuses(verdicts), strict=True) if s is not None]
    if len(pairs) < 2:
        return []
    counts = Counter(status for _, status in pairs)
    said = ", ".join(f"{counts[name]} {name}" for name in ("verified", "refuted", "inconclusive") if counts[name])
    lines = [f"holm at .05 over the {len(pairs)} claims with p-values: {said}"]
    return lines + [f"holm {v.claim}: {s} (at the fixed level {v.status})" for v, s in pairs if s != v.status]


def _why(judgement: Judgement) -> str:
    parts = [judgement.reason or f"measured {measured(judgement)}, predicted {number(judgement.predicted)}"]
    if judgement.region is not None:
        low, high = judgement.region
        parts.append(f"tolerance region [{number(low)}, {number(high)}]")
    if judgement.worst:
        parts.append(f"worst: {judgement.worst}")
    if judgement.needed is not None:
        parts.append(f"about {judgement.needed} seeds per setting would decide")
    return "; ".join(" ".join(part.split()) for part in parts)


def _blunt(check: CheckVerdict) -> str:
    return (
        f"the control ({' '.join(check.breaks.split())}) is {check.control.status}, not refuted: {_why(check.control)}"
    )


def summary(verdicts: Sequence[Verdict], claims: int) -> str:
    """One line: how many of `claims` claims came out how."""
    counts = Counter(outcome(verdict) for verdict in verdicts)
    order = ("verified", "refuted (announced)", "refuted", "toothless", "inconclusive")
    parts = [f"{counts[name]} {name}" for name in order if counts[name]]
    if len(verdicts) < claims:
        parts.append(f"{claims - len(verdicts)} not reached")
    run = ""
    if verdicts:
        seconds = sum(verdict.seconds for verdict in verdicts)
        run = f" (preset {verdicts[0].preset}, seed {verdicts[0].seed}, {seconds:.1f} s)"
    return f"{claims} claim{'s' if claims != 1 else ''}: {', '.join(parts)}{run}"
