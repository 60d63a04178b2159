"""Claims as test items: what passes, fails, is skipped or expected to fail, and what pytest says of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jax  # imported before pytester forgets what is imported in its runs
import numpy as np
import pytest

from theorysim.verify import session

pytest_plugins = "pytester"

TOY = Path(__file__).parent / "cli" / "toy_claims.py"


@pytest.fixture
def toy(pytester: pytest.Pytester) -> Path:
    """A copy of the toy claims in the folder where pytest runs."""
    assert jax and np and session
    pytester.makepyfile(test_other="def test_other(): pass")
    return pytester.makepyfile(toy=TOY.read_text())


def test_each_claim_is_an_item(pytester, toy):
    result = pytester.runpytest_inprocess("-v", "-rsx", "--theorysim", "toy.py")
    result.assert_outcomes(passed=2, failed=2, skipped=1, xfailed=1)
    result.stdout.fnmatch_lines(
        [
            "toy.py::toy.true PASSED*",
            "toy.py::toy.false FAILED*",
            "toy.py::toy.announced XFAIL*",
            "toy.py::toy.toothless FAILED*",
            "toy.py::toy.undecided SKIPPED*",
            "*toy.false is refuted: The mean of n normal variables is mu.",
            "*predicted 2, measured 0.9* [[]*",
            "*tolerance region [[]1.8, 2.2[]]; worst: n=*",
            "*preset quick, seed 0*",
            "*toy.toothless is toothless:*",
            "*toothless toy.toothless: the control (mean times 1.5) is verified, not refuted*",
            "SKIPPED * toy.py: inconclusive toy.undecided: *seeds per setting would decide",
            "XFAIL toy.py::toy.announced - toy.announced is refuted, as announced: The factor is 1, not 2.",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")


def test_items_are_chosen_and_configured(pytester, toy):
    chosen = ("--theorysim", "toy.py::toy.undecided", "-m", "theorysim")
    result = pytester.runpytest_inprocess(*chosen, "--theorysim-strict", "--theorysim-seed", "7")
    result.assert_outcomes(failed=1, deselected=1)
    result.stdout.fnmatch_lines(["*toy.undecided is inconclusive*", "*preset quick, seed 7*"])
    result = pytester.runpytest_inprocess("--theorysim", "toy.py", "--theorysim-preset", "standard", "-k", "toy.true")
    result.assert_outcomes(passed=1, deselected=5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--theorysim", "none.py"), "theorysim: file of claims must be a Python file that exists, got 'none.py'"),
        (("--theorysim", "no-such"), "theorysim: unknown paper or claim 'no-such'*"),
        (("--theorysim", "toy.py::toy.tru"), "theorysim: unknown claim 'toy.tru'; did you mean toy.true*"),
    ],
)
def test_unknown_targets_are_errors_of_the_collection(pytester, toy, arguments, words):
    result = pytester.runpytest_inprocess(*arguments)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines([words])


def test_bad_options_are_refused(pytester, toy):
    for option, value, words in (
        ("--theorysim-preset", "huge", "invalid choice: 'huge'"),
        ("--theorysim-seed", "-1", "must be an integer from 0 to"),
    ):
        result = pytester.runpytest_inprocess(f"{option}={value}")
        assert result.ret == pytest.ExitCode.USAGE_ERROR
        result.stderr.fnmatch_lines([f"*{words}*"])


def test_nothing_is_imported_unless_asked_for():
    text = "import sys, theorysim.pytest_plugin; print([m for m in sys.modules if m.split('.')[0] in ('jax', 'numpy')])"
    found = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
