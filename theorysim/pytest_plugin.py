"""Claims as test items: `pytest --theorysim FILE.py`, or a paper, or a claim, each as `theorysim verify` takes them.

A claim fails its test when it is refuted or toothless, with the evidence in the failure's text. It is skipped when the
data do not decide it (a failure with --theorysim-strict), and an expected failure when it is refuted as its own note
announces. Items carry the marker `theorysim`: `-m theorysim` runs the claims alone, `-m "not theorysim"` the rest.

Without the option nothing is imported. The claims of a target share their measurements, as in `theorysim verify`; JAX's
configuration stays as it is.
"""

from __future__ import annotations

import argparse
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from theorysim.verify.claim import Claim
    from theorysim.verify.session import Session
    from theorysim.verify.verdict import Verdict

PRESETS = ("quick", "standard", "paper")
SEEDS = 2**63


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options, each beginning with --theorysim."""
    group = parser.getgroup("theorysim", "theorems as executable claims")
    group.addoption(
        "--theorysim",
        action="append",
        default=[],
        metavar="TARGET",
        help="verify the claims of FILE.py, FILE.py::CLAIM, a paper, or a claim by id; may be given several times",
    )
    group.addoption("--theorysim-preset", choices=PRESETS, default="quick", help="sizes and seeds (default: quick)")
    group.addoption("--theorysim-seed", type=_seed, default=0, metavar="INT", help="base seed (default: 0)")
    group.addoption("--theorysim-strict", action="store_true", help="inconclusive claims fail, too")


def _seed(text: str) -> int:
    if not (text.isdecimal() and int(text) < SEEDS):
        raise argparse.ArgumentTypeError(f"must be an integer from 0 to 2^63 - 1, got {text!r}")
    return int(text)


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", "theorysim: a claim that --theorysim names")


@pytest.hookimpl(tryfirst=True)  # before -k and -m deselect
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Add the claims of every target to what pytest has collected."""
    for target in dict.fromkeys(config.option.theorysim):
        name = Path(target.partition("::")[0])
        place = {"path": name.absolute()} if name.suffix == ".py" else {}
        items.extend(session.genitems(Target.from_parent(session, name=target, nodeid=target, **place)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skipped claim is reported where it is from, not here."""
    report = yield
    if isinstance(item, ClaimItem) and isinstance(report.longrepr, tuple):
        report.longrepr = (str(item.path), None, report.longrepr[2])  # type: ignore[assignment]  # no line
    return report


class Target(pytest.Collector):
    """What one --theorysim names: its claims."""

    def collect(self) -> Iterator[ClaimItem]:
        """The claims, in their order."""
        from theorysim.cli.targets import resolve_claims
        from theorysim.errors import InputError
        from theorysim.verify.session import Session

        try:
            claims = resolve_claims([self.name])
        except InputError as error:
            raise self.CollectError(f"theorysim: {error}") from None
        session = Session(preset=self.config.option.theorysim_preset, seed=self.config.option.theorysim_seed)
        for claim in claims:
            yield ClaimItem.from_parent(self, name=claim.id, claim=claim, session_of_target=session)


class Unproven(Exception):
    """A claim that was not verified."""


class ClaimItem(pytest.Item):
    """One claim: prediction, measurement and control, judged when it is run."""

    def __init__(self, *, claim: Claim, session_of_target: Session, **known: Any) -> None:
        super().__init__(**known)
        self.claim, self.measurements = claim, session_of_target
        self.add_marker(pytest.mark.theorysim)

    def runtest(self) -> None:
        """Judge the claim."""
        verdict = self.measurements.verify(self.claim)
        if verdict.failed:
            raise Unproven(evidence(self.claim, verdict))
        if verdict.status == "refuted":
            pytest.xfail(f"{self.name} is refuted, as announced: {' '.join(verdict.note.split())}")
        if verdict.status == "inconclusive":
            if self.config.option.theorysim_strict:
                raise Unproven(evidence(self.claim, verdict))
            pytest.skip("; ".join(_reasons(verdict)))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The evidence; one line for bad input; a traceback for anything else."""
        from theorysim.errors import InputError

        if isinstance(excinfo.value, Unproven):
            return str(excinfo.value)
        if isinstance(excinfo.value, InputError):
            return f"{self.name}: {excinfo.value}"
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        """Where the claim is from."""
        return self.path, None, f"claim {self.name}"


def evidence(claim: Claim, verdict: Verdict) -> str:
    """The verdict in words: what is claimed, and of each check what was predicted and measured, and its control."""
    from theorysim.report.table import measured, number

    lines = [f"{claim.id} is {verdict.status}: {' '.join(claim.statement.split())}"]
    for check in verdict.checks:
        judgement = check.judgement
        lines += [
            f"  check {check.name}: {judgement.status}",
            f"    predicted {number(judgement.predicted)}, measured {measured(judgement)}",
            f"    control ({' '.join(check.breaks.split())}): {check.control.status}",
        ]
    lines += [f"  {reason}" for reason in _reasons(verdict)]
    return "\n".join([*lines, f"  preset {verdict.preset}, seed {verdict.seed}, {verdict.seconds:.1f} s"])


def _reasons(verdict: Verdict) -> list[str]:
    from theorysim.report.table import reasons

    return reasons([verdict])
