"""What the verdicts are worth: claims judged again with fresh seeds, beside mistakes planted in their predictions.

Every repetition of a claim is one record, of JSON's types: how claim and controls were judged, and which plants were caught.
`Tally` sums records up.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from theorysim.verify.claim import Check, Claim
from theorysim.verify.intervals import clopper_pearson
from theorysim.verify.plants import SIZES, plants, read_pilot
from theorysim.verify.session import Session
from theorysim.verify.verdict import ALPHA, CheckVerdict, refutes

Record = dict[str, Any]

FIRST_SEED = 1000
"""Base seed of the first repetition: no design was chosen with it in view."""

CONFIDENCE = 0.95


def audit(session: Session, claim: Claim, pilots: Mapping[str, Any]) -> Record:
    """One repetition of a claim under the session's seed.

    pilots: by name of the check, what `read_pilot` made of another repetition; plants that need it are left out without.
    """
    verdict = session.verify(claim)
    return {
        "claim": claim.id,
        "kind": claim.kind,
        "preset": session.preset,
        "adaptive": session.adaptive,
        "seed": session.seed,
        "sources": sources(claim),
        "announced": claim.announced,
        "judged": verdict.judged,
        "seconds": verdict.seconds,
        "checks": [
            _audited(session, check, seen, pilots.get(check.name), len(claim.checks))
            for check, seen in zip(claim.checks, verdict.checks, strict=True)
        ],
    }


def _audited(session: Session, check: Check, seen: CheckVerdict, pilot: Any, among: int) -> Record:
    budget, control = seen.budget, seen.control_budget
    assert budget is not None and control is not None
    cases = session.cases(check, budget.seeds)
    caught = {}
    for plant in plants(check.judge, pilot):
        with np.errstate(all="ignore"):  # infinities and NaN are the judge's business
            judgement = check.judge(plant.distort(cases), ALPHA / budget.looks)
        caught[plant.name] = {"size": plant.size, "wrong": plant.wrong, "status": judgement.status}
    return {
        "name": check.name,
        "judge": type(check.judge).__name__,
        "status": seen.judgement.status,
        "refutes": refutes(seen.judgement, budget.looks * among),
        "p_verified": seen.judgement.p_verified,
        "p_refuted": seen.judgement.p_refuted,
        "reason": seen.judgement.reason,
        "control": seen.control.status,
        "data": not seen.empty,
        "resolution": seen.judgement.resolution,
        "seeds": budget.seeds,
        "planned": budget.planned,
        "control_seeds": control.seeds,
        "control_planned": control.planned,
        "plants": caught,
        "pilot": read_pilot(check.judge, cases),
    }


@dataclass
class Count:
    """So many of so many, with limits at 95 %."""

    hits: int = 0
    trials: int = 0

    def add(self, hit: bool) -> None:
        self.hits += hit
        self.trials += 1

    @property
    def limits(self) -> tuple[float, float]:
        """Clopper-Pearson limits, 2.5 % on each side; (0, 1) without trials."""
        if self.trials == 0:
            return 0.0, 1.0
        lower, upper = clopper_pearson(self.hits, self.trials, (1 - CONFIDENCE) / 2)
        return float(lower), float(upper)


@dataclass
class Tally:
    """The records of one claim, or of several pooled.

    verified, inconclusive, refuted: of claims. controls: refuted controls, of checks with any admissible data, as are plants.
    caught: refuted plants by their size. A plant within the tolerance need not be caught.
    wrong: wrong verdicts of all that were reached: a claim refuted that does not announce it, a control verified, a plant
        beyond the tolerance verified.
    missed: stated plants that were not refuted, by check and plant.
    resolution: of a claim, the largest over its checks of the mean over repetitions; None where no judge states one.
    cost: seeds used over seeds planned, of checks and of controls whose design is looked at while it runs.
    """

    verified: Count = field(default_factory=Count)
    inconclusive: Count = field(default_factory=Count)
    refuted: Count = field(default_factory=Count)
    controls: Count = field(default_factory=Count)
    caught: dict[str, Count] = field(default_factory=lambda: {size: Count() for size in SIZES})
    wrong: Count = field(default_factory=Count)
    missed: dict[str, Count] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    cost: list[float] = field(default_factory=list)
    control_cost: list[float] = field(default_factory=list)
    _resolutions: dict[str, list[float]] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        """Count one repetition."""
        for status, count in (
            ("verified", self.verified),
            ("inconclusive", self.inconclusive),
            ("refuted", self.refuted),
        ):
            count.add(record["judged"] == status)
        self.wrong.add(record["judged"] == "refuted" and not record["announced"])
        self.seconds.append(record["seconds"])
        for check in record["checks"]:
            if not check["data"]:
                continue
            self.controls.add(check["control"] == "refuted")
            self.wrong.add(check["control"] == "verified")
            name = f"{record['claim']}: {check['name']}"
            for plant, seen in check["plants"].items():
                self.caught[seen["size"]].add(seen["status"] == "refuted")
                if seen["wrong"]:
                    self.wrong.add(seen["status"] == "verified")
                if seen["size"] == "stated":
                    self.missed.setdefault(f"{name}, {plant}", Count()).add(seen["status"] != "refuted")
            if check["resolution"] is not None:
                self._resolutions.setdefault(name, []).append(float(check["resolution"]))
            if record["adaptive"]:
                self.cost.append(check["seeds"] / check["planned"])
                self.control_cost.append(check["control_seeds"] / check["control_planned"])

    @property
    def resolution(self) -> float | None:
        means = [float(np.mean(values)) for values in self._resolutions.values()]
        return max(means) if means else None

    def misses(self, standard: bool) -> list[str]:
        """Which targets the records of one claim miss, in words.

        At any preset no wrong verdict; at `standard` also: verified and controls refuted in at least 99 %, the stated
        plants refuted, a resolution of at most 10 %.
        """
        said = []
        if self.wrong.hits:
            said.append(f"{self.wrong.hits} wrong verdicts of {self.wrong.trials}")
        if not standard:
            return said
        for name, count in (("verified", self.verified), ("controls refuted", self.controls)):
            if count.hits < 0.99 * count.trials:
                said.append(f"{name} {count.hits} of {count.trials}")
        said += [
            f"not refuted {c.hits} of {c.trials}: {name}" for name, c in self.missed.items() if c.hits > 0.05 * c.trials
        ]
        if self.resolution is not None and self.resolution > 0.1:
            said.append(f"resolution {self.resolution:.1%}")
        return said


def tallies(records: Iterable[Record]) -> dict[str, Tally]:
    """By claim, in the order of their first records."""
    result: dict[str, Tally] = {}
    for record in records:
        result.setdefault(record["claim"], Tally()).add(record)
    return result


def pooled(records: Iterable[Record]) -> Tally:
    """All records together."""
    result = Tally()
    for record in records:
        result.add(record)
    return result


def sources(claim: Claim) -> str:
    """SHA-256 of the source files that a claim's verdict depends on: those of its functions and all that they import.

    Files of the same project only: of the same package, and for a claim of a single file the file and theorysim.
    """
    modules = {
        getattr(part, "func", part).__module__
        for check in claim.checks
        for part in (check.experiment.measure, check.observable, check.predict, type(check.judge), Session, plants)
    }
    files: dict[Path, None] = {}
    for name in sorted(modules):
        module = sys.modules.get(name)
        if module is not None and module.__file__ is not None:
            _collect(Path(module.__file__), module, files)
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(_digest(file))
    return digest.hexdigest()[:16]


def _collect(file: Path, module: ModuleType | None, files: dict[Path, None]) -> None:
    """Add a source file and, along its import statements, those of the packages that it belongs with."""
    if file in files:
        return
    files[file] = None
    package = (module.__package__ if module is not None else "") or ""
    for name in _imports(file, package):
        root = name.split(".", 1)[0]
        if root != "theorysim" and root != package.split(".", 1)[0]:
            continue
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None and spec.origin.endswith(".py"):
            _collect(Path(spec.origin), sys.modules.get(name), files)


@cache
def _imports(file: Path, package: str) -> tuple[str, ...]:
    """Names of the modules that a source file imports, of `from a import b` both a and, where it is one, a.b."""
    names: dict[str, None] = {}
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(dict.fromkeys(alias.name for alias in node.names))
        elif isinstance(node, ast.ImportFrom):
            stem = (
                importlib.util.resolve_name("." * node.level + (node.module or ""), package)
                if node.level
                else node.module
            )
            assert stem is not None
            names[stem] = None
            names.update(
                dict.fromkeys(f"{stem}.{alias.name}" for alias in node.names if _is_module(f"{stem}.{alias.name}"))
            )
    return tuple(names)


@cache
def _is_module(name: str) -> bool:
    if name.split(".", 1)[0] != "theorysim":
        return name in sys.modules
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


@cache
def _digest(file: Path) -> bytes:
    return hashlib.sha256(file.read_bytes()).digest()
