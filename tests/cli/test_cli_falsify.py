"""`theorysim falsify`: exit codes, the table, JSON, controls, and one line for bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from theorysim.cli import main

TOY = str(Path(__file__).with_name("toy_claims.py"))
CLAIMS = """
import jax
import numpy as np
from theorysim.sweep import Experiment, setting
from theorysim.verify import Bound, Check, Claim, Control, Design, Search

@setting
class Sample:
    n: int = 6

def norms(key, s):
    z = jax.random.normal(key, (s.n,))
    return {"sum": abs(z.sum()), "norm": (z**2).sum() ** 0.5}

NORMS = Experiment("toy/norms", norms)

def claim(name, constant):
    check = Check("sum", NORMS, {"quick": Design((Sample(),), 50)}, lambda s, r: r["sum"],
        lambda s, i: constant * i["norm"], Bound(), Control("n^{1/4}", predict=lambda s, i: s.n**0.25 * i["norm"]),
        inputs=("norm",), search=Search(draws=True))
    return Claim(f"toy.{name}", "bound", "|sum z| <= c |z|.", "Cauchy-Schwarz", "none", (check,))

CLAIMS = (claim("true", 6**0.5 * 1.1), claim("false", 2.4))
"""


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("falsify") / "norms.py"
    path.write_text(CLAIMS)
    return str(path)


def test_counterexample_is_printed_written_and_returned(
    toy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "found.json"
    assert main(["falsify", toy, "--trials", "30", "--seed", "5", "--time", "600", "--json", str(path)]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    rows = {line.split()[0]: line for line in out.splitlines() if line.startswith("toy.")}
    assert "none found" in rows["toy.true"] and "counterexample" in rows["toy.false"]
    assert "least slack toy.true (sum): observed" in out and "violating mass below 0.25" in out
    assert "counterexample toy.false (sum): observed" in out and "draws moved" in out
    assert out.splitlines()[-1].startswith("2 bounds: 1 with a counterexample, 60 independent draws and")
    assert list(tmp_path.iterdir()) == [path]  # Hypothesis leaves nothing behind
    true, false = json.loads(path.read_text())
    assert true["claim"] == "toy.true" and true["seed"] == 5 and true["draws"] == 30 and true["trials"] > 0
    assert true["counterexample"] is None and true["limit"] == pytest.approx(1 - 2e-4 ** (1 / 30))
    assert 1.1 <= true["tightening"] < 1.1 / 0.99
    violation = false["counterexample"]
    assert violation["observed"] > violation["predicted"] == pytest.approx(2.4 * violation["instance"]["norm"])
    assert len(violation["draws"]) == 6 and len(violation["key"]) == 2


def test_controls_are_all_found(toy: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["falsify", toy, "--controls"]) == 0
    assert "2 controls: 2 with a counterexample" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trials", "0"], "--trials must be at least 1, got 0"),
        (["--trials", "many"], "--trials must be an integer, got 'many'"),
        (["--restarts", "1"], "--restarts must be at least 2, got 1"),
        (["--time", "nan"], "--time must be positive and finite, got nan"),
        (["--json", "/no/such/folder/x.json"], "--json must be a file that can be written"),
        ([TOY], f"there are no bounds to search in {TOY}: no check is judged by Bound"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["falsify", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and len(err.splitlines()) == 1
