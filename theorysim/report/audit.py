"""The audit's table: how often each claim was judged how, and which planted mistakes it caught."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from theorysim.errors import InputError
from theorysim.report.json import plain
from theorysim.verify.audit import Count, Record, Tally, pooled, tallies
from theorysim.verify.claim import KINDS

HEADER = (
    "claim",
    "verified",
    "inconclusive",
    "refuted",
    "control refuted",
    "small",
    "stated",
    "gross",
    "resolution",
    "s",
)

FIELDS = {"claim", "kind", "preset", "adaptive", "seed", "sources", "announced", "judged", "seconds", "checks"}


def read(path: Path) -> list[Record]:
    """The records of a file, one a line; a last line that a kill cut short is left out. Empty where there is no file.

    Raises InputError where a line is no record.
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    records = []
    for number, line in enumerate(lines[:-1], 1):  # a complete line ends with a newline
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict) or not record.keys() >= FIELDS:
            raise InputError(f"--records must be a file of audit records, got {str(path)!r}: line {number} is none")
        records.append(record)
    return records


def append(path: Path, record: Record) -> None:
    """Add a record to a file; what a kill left of a line is cut off first."""
    with path.open("a+b") as file:
        end = file.seek(0, 2)
        if end:
            file.seek(0)
            content = file.read()
            file.truncate(content.rfind(b"\n") + 1)
        file.write(json.dumps(plain(record), allow_nan=False).encode() + b"\n")


def rows(records: Sequence[Record]) -> list[tuple[str, ...]]:
    """The cells of `HEADER`: a row a claim, then the claims pooled by kind and all together."""
    result = [_row(claim, tally) for claim, tally in tallies(records).items()]
    kinds = [kind for kind in KINDS if any(record["kind"] == kind for record in records)]
    result += [_row(f"all of kind {kind}", pooled(r for r in records if r["kind"] == kind)) for kind in kinds]
    if records:
        result.append(_row("all", pooled(records)))
    return result


def _row(name: str, tally: Tally) -> tuple[str, ...]:
    mean = sum(tally.seconds) / len(tally.seconds)
    return (
        name,
        *(_share(count) for count in (tally.verified, tally.inconclusive, tally.refuted, tally.controls)),
        *(_share(count) for count in tally.caught.values()),
        "-" if tally.resolution is None else f"{tally.resolution:.1%}",
        f"{mean:.1f}",
    )


def _share(count: Count) -> str:
    return f"{count.hits}/{count.trials}" if count.trials else "-"


def summary(records: Sequence[Record]) -> list[str]:
    """What the audit says as a whole, a sentence a line."""
    if not records:
        return ["no records"]
    every = pooled(records)
    lines = [
        f"{name}: {_limits(count)}"
        for name, count in (
            ("claims verified", every.verified),
            ("claims refuted", every.refuted),
            ("controls refuted", every.controls),
            ("plants of 10 % or 2 tolerances refuted", every.caught["stated"]),
            ("plants of a factor 2 and the like refuted", every.caught["gross"]),
            ("wrong verdicts", every.wrong),
        )
    ]
    if every.cost:
        cost, control = (sum(values) / len(values) for values in (every.cost, every.control_cost))
        lines.append(f"seeds used over seeds planned: claims {cost:.2f}, controls {control:.2f}")
    return lines


def _limits(count: Count) -> str:
    lower, upper = count.limits
    return f"{count.hits} of {count.trials}, 95 % limits [{lower:.4f}, {upper:.4f}]"


def misses(records: Sequence[Record]) -> list[str]:
    """The targets that claims miss, a line each."""
    standard = all(record["preset"] != "quick" for record in records)
    return [f"{claim}: {said}" for claim, tally in tallies(records).items() for said in tally.misses(standard)]


def lines(records: Sequence[Record]) -> Iterable[str]:
    """The table as lines of fixed width, then summary and misses."""
    table = [HEADER, *rows(records)]
    widths = [max(len(row[k]) for row in table) for k in range(len(HEADER))]
    for row in table:
        cells = [
            cell.ljust(width) if k == 0 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
    yield ""
    yield from summary(records)
    yield from (f"target missed: {line}" for line in misses(records))


def markdown(records: Sequence[Record], heading: str, facts: Sequence[str]) -> str:
    """The same as a section of a Markdown page; `facts` say what produced it."""
    table = ["| " + " | ".join(HEADER) + " |", "|---|" + "---:|" * (len(HEADER) - 1)]
    table += ["| " + " | ".join(row) + " |" for row in rows(records)]
    missed = misses(records)
    parts = [
        f"## {heading}",
        *(f"- {fact}" for fact in facts),
        "",
        *(f"- {line}" for line in summary(records)),
        "",
        *table,
    ]
    if missed:
        parts += ["", "Targets missed:", "", *(f"- {line}" for line in missed)]
    return "\n".join(parts) + "\n"


def as_json(records: Sequence[Record], facts: dict[str, Any]) -> str:
    """Facts, the tallies by claim and pooled, and every record."""

    def counts(tally: Tally) -> dict[str, Any]:
        named = {"verified": tally.verified, "inconclusive": tally.inconclusive, "refuted": tally.refuted}
        named |= {"controls refuted": tally.controls, "wrong verdicts": tally.wrong}
        named |= {f"{size} plants refuted": count for size, count in tally.caught.items()}
        shares = {name: {"hits": c.hits, "trials": c.trials, "limits": c.limits} for name, c in named.items()}
        return {**shares, "resolution": tally.resolution}

    whole = {
        **facts,
        "claims": {claim: counts(tally) for claim, tally in tallies(records).items()},
        "all": counts(pooled(records)),
        "misses": misses(records),
        "records": list(records),
    }
    return json.dumps(plain(whole), indent=1, allow_nan=False) + "\n"
