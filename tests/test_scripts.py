"""The scripts: each explains itself, refuses bad input in one line, and draws its figure."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
from experiment_scripts import script

from theorysim.papers.large_stepsize_gd import figures
from theorysim.plots import Figure, styled
from theorysim.verify.session import Session

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted([*ROOT.glob("experiments/*.py"), *ROOT.glob("paper_figs/*.py")])


def run(path: Path, *arguments: str, monkeypatch, capsys) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `python script arguments`, in this process."""
    monkeypatch.setattr(sys, "argv", [str(path), *arguments])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_path(str(path), run_name="__main__")
    out, err = capsys.readouterr()
    code = exit_.value.code
    assert isinstance(code, int)
    return code, out, err


def test_there_are_scripts():
    assert {path.name for path in SCRIPTS} >= {"phase_diagram.py", "digits.py", "large_stepsize_gd_figure_1.py"}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_explain_themselves(path, monkeypatch, capsys):
    code, out, err = run(path, "--help", monkeypatch=monkeypatch, capsys=capsys)
    assert (code, err) == (0, "")
    assert path.name in out
    assert "?" in out or "Handwritten" in out
    for option in ("--preset", "--out", "--seed", "--store", "--memory"):
        assert option in out


BAD = [
    (("--preset", "huge"), ("--preset", "huge")),
    (("--seed", "-1"), ("--seed", "-1")),
    (("--out", "{file}"), ("--out", "file")),
    (("--store", "{file}/sub"), ("--store", "file")),
    (("--memory", "-3"), ("memory", "-3")),
    (("--horizon", "3"), ("--horizon",)),
]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_refuse_bad_input_in_one_line(path, monkeypatch, capsys, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    for arguments, words in BAD:
        given = [argument.format(file=tmp_path / "file") for argument in arguments]
        code, out, err = run(path, *given, monkeypatch=monkeypatch, capsys=capsys)
        assert (code, out, err.count("\n")) == (2, "", 1), (given, err)
        assert all(word in err for word in words), (given, err)


@pytest.mark.parametrize("data", ["mnist", "digits:3,3", "digits:1", "none.npz"])
def test_digits_refuses_bad_data(data, monkeypatch, capsys, tmp_path):
    path = ROOT / "experiments" / "digits.py"
    arguments = ("--data", data, "--out", str(tmp_path))
    code, out, err = run(path, *arguments, monkeypatch=monkeypatch, capsys=capsys)
    assert (code, out, err.count("\n")) == (2, "", 1), err


@pytest.mark.slow
def test_a_figure_script_draws(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(figures.SIZES["figure-3"], "quick", figures.Size(100))
    path = ROOT / "paper_figs" / "large_stepsize_gd_figure_3.py"
    code, out, err = run(path, "--out", str(tmp_path / "new"), monkeypatch=monkeypatch, capsys=capsys)
    assert (code, err) == (0, "")
    paths = [Path(line) for line in out.splitlines()]
    assert [path.suffix for path in paths] == [".png", ".pdf"]
    assert all(path.stat().st_size > 1000 for path in paths)


# Sizes of a quick preset that is quicker; every stable phase that a figure needs is reached.
TINY = {
    "phase_diagram": (4, 300),
    "transition_time": (200, 40),
    "acceleration": (5, 300),
    "margin_growth": (1500, 6, 300),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", TINY)
def test_experiments_draw(name, monkeypatch):
    experiment = script(name, monkeypatch)
    assert isinstance(experiment.FIGURE, Figure)
    monkeypatch.setitem(experiment.SIZES, "quick", TINY[name])
    monkeypatch.setitem(figures.SIZES["figure-5"], "quick", figures.Size(30_000))
    with styled():
        drawing = experiment.FIGURE.draw(Session())
        drawing.draw_without_rendering()  # lays out all labels
    assert all(panel.has_data() for panel in drawing.axes)
