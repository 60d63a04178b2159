"""`theorysim audit`: judge claims again and again with fresh seeds, beside planted mistakes."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional

from theorysim.cli.options import Json, Judging, check_file, number, path_option
from theorysim.cli.targets import resolve_claims
from theorysim.cli.verify import named
from theorysim.errors import require

if TYPE_CHECKING:
    from theorysim.verify.audit import Record
    from theorysim.verify.claim import Claim

Reseeds = Annotated[int, number("--reseeds", int)]
Records = Annotated[Path | None, path_option("--records")]
Markdown = Annotated[Path | None, path_option("--markdown")]


@dataclass(frozen=True, kw_only=True)
class Audit(Judging):
    """Measure the error rates of verdicts: fresh seeds each time, controls, and mistakes planted in the predictions.

    Exit code: 0 when no verdict is wrong and, beyond the preset quick, no target is missed, 1 otherwise, 2 for bad input.
    """

    targets: Positional[tuple[str, ...]] = ()
    """Papers, claims, or files FILE.py that define CLAIMS. Default: all papers."""

    reseeds: Reseeds = 5
    """Repetitions of each claim; the base seeds are --seed + 1000, + 1001, and so on."""

    records: Records = None
    """File that keeps each repetition, one a line; an interrupted or longer audit goes on from it."""

    json: Json = None
    """Also write tallies and records to this file."""

    markdown: Markdown = None
    """Also write the table to this file, as a section of Markdown."""

    def __call__(self) -> int:
        self.check()
        require(self.reseeds >= 1, f"--reseeds must be at least 1, got {self.reseeds}")
        for name, path in (("--records", self.records), ("--json", self.json), ("--markdown", self.markdown)):
            if path is not None:
                check_file(name, path)
        from theorysim.report import audit as report

        kept = [] if self.records is None else report.read(self.records)
        records = _Repetitions(resolve_claims(self.targets), self, kept)
        try:
            for _ in records.fill():
                pass
        finally:
            self._tell(records.found)
        return int(bool(report.misses(records.found)))

    def _tell(self, records: Sequence[Record]) -> None:
        """Print the table and write the files."""
        from theorysim.report import audit as report

        if not records:
            return
        for line in report.lines(records):
            print(line)
        facts = provenance()
        if self.json is not None:
            self.json.write_text(report.as_json(records, facts), encoding="utf-8")
        if self.markdown is not None:
            heading = f"Preset {self.preset}{', adaptive' if self.adaptive else ''}"
            said = [f"{name}: {value}" for name, value in facts.items()]
            self.markdown.write_text(report.markdown(records, heading, said), encoding="utf-8")


class _Repetitions:
    """The records that were asked for: those kept, and the others as they are made."""

    def __init__(self, claims: Sequence[Claim], options: Audit, kept: Sequence[Record]) -> None:
        from theorysim.verify.audit import FIRST_SEED, sources

        self.claims, self.options = claims, options
        self.seeds = [options.seed + FIRST_SEED + k for k in range(options.reseeds)]
        self._kept = {
            (r["claim"], r["seed"]): r
            for r in kept
            if r["preset"] == options.preset and r["adaptive"] == options.adaptive
        }
        current = {claim.id: sources(claim) for claim in claims}
        self._kept = {key: r for key, r in self._kept.items() if current.get(r["claim"]) == r["sources"]}
        self._made: dict[tuple[str, int], Record] = {}

    @property
    def found(self) -> list[Record]:
        """Records kept or made, by claim."""
        every = self._kept | self._made
        return [every[c.id, seed] for c in self.claims for seed in self.seeds if (c.id, seed) in every]

    def fill(self):
        """Make what is missing, one repetition of all claims after the other; yields after each."""
        from theorysim.report.audit import append
        from theorysim.sweep.progress import Progress
        from theorysim.verify.audit import audit

        pilots: dict[str, dict[str, Any]] = {}
        with Progress() as progress:
            for seed in self.seeds:
                paper, session = None, None
                for claim in self.claims:
                    record = self._kept.get((claim.id, seed))
                    if record is None:
                        if (
                            session is None or claim.paper != paper
                        ):  # measurements are shared within a paper, then let go
                            paper, session = claim.paper, replace(self.options, seed=seed).session(progress)
                        with named(claim):
                            record = audit(session, claim, pilots.get(claim.id, {}))
                        self._made[claim.id, seed] = record
                        if self.options.records is not None:
                            append(self.options.records, record)
                        yield
                    pilots[claim.id] = {check["name"]: check["pilot"] for check in record["checks"]}


def provenance() -> dict[str, str]:
    """Version, machine and date of what is reported."""
    import jax

    import theorysim
    from theorysim.sweep.plan import cores

    device = jax.local_devices()[0]
    kind = f"{cores()} cores, {platform.machine()}" if device.platform == "cpu" else device.device_kind
    return {
        "theorysim": theorysim.__version__,
        "jax": jax.__version__,
        "machine": f"{platform.system()}, {kind}",
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }
