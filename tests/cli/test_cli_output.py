"""What commands print, write and return when the input is good: verdicts, exit codes, JSON, figures, interruptions."""

from __future__ import annotations

import io
import json
from pathlib import Path

import jax
import matplotlib.image
import numpy as np
import pytest
from rich.console import Console

from theorysim import papers
from theorysim.cli import main
from theorysim.cli.script import main as script_main
from theorysim.plots import Figure, band, canvas, points, save, size_colors, size_label, spread, styled, theory
from theorysim.report.json import plain, write
from theorysim.report.table import Printer
from theorysim.verify.claim import PRESETS
from theorysim.verify.session import Session
from theorysim.verify.verdict import CheckVerdict, Judgement, Verdict

TOY = str(Path(__file__).with_name("toy_claims.py"))
VERDICTS = {
    "toy.true": "verified",
    "toy.false": "refuted",
    "toy.announced": "refuted",
    "toy.toothless": "toothless",
    "toy.undecided": "inconclusive",
}
FIELDS = (
    "claim paper kind verdict holm announced control predicted estimate interval sizes samples preset seed seconds note"
)


def test_verify_prints_a_row_a_claim_and_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "verdicts.json"
    assert main(["verify", TOY, "--json", str(path), "--seed", "3", "--store", str(tmp_path / "store")]) == 1
    out, err = capsys.readouterr()
    assert err == ""
    rows = {line.split()[0]: line for line in out.splitlines() if line.startswith("toy.")}
    assert list(rows) == list(VERDICTS)
    assert all(status in rows[claim] for claim, status in VERDICTS.items())
    assert "refuted (announced)" in rows["toy.announced"]
    assert "control passes" in rows["toy.toothless"]
    assert "note toy.announced: The factor is 1, not 2." in out
    assert "seeds per setting would decide" in out
    summary = "5 claims: 1 verified, 1 refuted (announced), 1 refuted, 1 toothless, 1 inconclusive"
    assert out.splitlines()[-1].startswith(summary)
    records = json.loads(path.read_text())
    assert {record["claim"]: record["verdict"] for record in records} == VERDICTS
    assert list(records[0]) == [*FIELDS.split(), "checks"]
    first = records[0]
    assert first["preset"] == "quick" and first["seed"] == 3 and first["sizes"] == [10.0, 20.0]
    assert first["interval"][0] < first["estimate"] < first["interval"][1]
    assert first["checks"][0]["control"]["status"] == "refuted"
    assert first["checks"][0]["judgement"]["region"] == [0.9, 1.1]
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["verdicts.json"]


def toy_file(tmp_path: Path, names: str) -> str:
    """A file of some of the toy claims."""
    file = tmp_path / "some.py"
    file.write_text(
        Path(TOY).read_text() + f"\nCLAIMS = [c for c in CLAIMS if c.id.split('.')[1] in {names.split()}]\n"
    )
    return str(file)


@pytest.mark.parametrize(
    ("names", "options", "code"),
    [
        ("true", [], 0),
        ("true announced", ["--strict"], 0),
        ("true false", [], 1),
        ("true toothless", [], 1),
        ("true undecided", [], 0),
        ("true undecided", ["--strict"], 1),
    ],
)
def test_exit_codes(names: str, options: list[str], code: int, tmp_path: Path) -> None:
    assert main(["verify", toy_file(tmp_path, names), *options]) == code


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: 9 TB")])
def test_what_is_finished_is_kept(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    verify = Session.verify

    def stopped(self: Session, claim: object) -> Verdict:
        if claim.id == "toy.announced":
            raise error
        return verify(self, claim)

    monkeypatch.setattr(Session, "verify", stopped)
    path = tmp_path / "verdicts.json"
    code = main(["verify", TOY, "--json", str(path)])
    out, err = capsys.readouterr()
    interrupted = isinstance(error, KeyboardInterrupt)
    assert code == (130 if interrupted else 2)
    assert err.count("\n") == 1
    assert ("interrupted" if interrupted else "toy.announced: out of memory") in err
    assert [record["claim"] for record in json.loads(path.read_text())] == ["toy.true", "toy.false"]
    assert "5 claims: 1 verified, 1 refuted, 3 not reached" in out


def test_list_and_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", TOY]) == 0
    listed = capsys.readouterr().out
    assert all(claim in listed for claim in VERDICTS)
    assert main(["list"]) == 0
    assert all(slug in capsys.readouterr().out for slug in papers.slugs()[:1])
    assert main(["show", TOY]) == 0
    shown = capsys.readouterr().out
    for words in ("The mean of n normal variables is mu.", "equivalence(tolerance=0.1", "control: mean times 1.5"):
        assert words in shown
    # 2 settings x 400 seeds of 10 n operations, shared by check and control: 10 * (10 + 20) * 400.
    assert "cost of quick: 1.2e+05 floating-point operations" in shown


@pytest.mark.parametrize("command", [[], ["list"], ["show"], ["verify"], ["figures"]])
def test_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*command, "--help"]) == 0
    out, err = capsys.readouterr()
    assert "usage: theorysim" in out and err == ""


@pytest.mark.parametrize("width", [40, 80, 200])
def test_terminals_of_any_width_show_every_word(width: int) -> None:
    judgement = Judgement("verified", "limit", 0.5, 0.5, (0.4, 0.6))
    check = CheckVerdict("c", judgement, Judgement("refuted", "limit"), "nothing")
    verdict = Verdict("paper.a-claim-of-many-words", "paper", "limit", "quick", 0, (check,), "[a note]")
    console = Console(force_terminal=True, width=width, record=True, file=io.StringIO(), color_system=None)
    printer = Printer([verdict.claim], console)
    printer.add(verdict)
    printer.finish([verdict], 1)
    text = console.export_text()
    assert all(len(line) <= width for line in text.splitlines())
    words = text.split()
    for word in ["paper.a-claim-of-many-words", "limit", "0.5", "[0.4,", "0.6]", "verified", "refuted", "[a", "note]"]:
        assert any(word in shown for shown in words), (word, text)
    assert "1 claim: 1 verified" in text


def test_json_has_no_nan(tmp_path: Path) -> None:
    judgement = Judgement(
        "inconclusive", "limit", np.float64(0), float("nan"), (-np.inf, np.inf), gates={"x": np.arange(2)}
    )
    check = CheckVerdict("c", judgement, Judgement("refuted", "limit"), "nothing")
    write([Verdict("a.b", "a", "limit", "quick", 0, (check,))], tmp_path / "x.json")
    text = (tmp_path / "x.json").read_text()

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    (record,) = json.loads(text, parse_constant=refuse)
    assert (record["estimate"], record["interval"]) == ("nan", ["-inf", "inf"])
    assert record["checks"][0]["judgement"]["gates"] == {"x": [0, 1]}
    assert plain({1: (np.bool_(True), np.int64(3), {2})}) == {"1": [True, 3, [2]]}


def test_importing_the_command_line_changes_no_setting_of_jax(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = "import jax; before = dict(jax.config.values); import theorysim.cli, theorysim.plots, theorysim.report.table"
    done = subprocess.run([sys.executable, "-c", f"{code}\nassert before == dict(jax.config.values)"], timeout=120)
    assert done.returncode == 0
    quick = (
        "import sys; from theorysim.cli import main; main(['verify', '--help']); main(['show']); main(['list', 'x'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{quick}\nassert 'jax' not in sys.modules"], capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_presets_of_the_command_line() -> None:
    from typing import get_args, get_type_hints

    from theorysim.cli.options import Run

    assert get_args(get_type_hints(Run)["preset"]) == PRESETS


def draw(session: Session):
    rng = np.random.default_rng(session.seed)
    x = np.arange(1.0, 6.0)
    drawing, axes = canvas(1, 2, width=6.8)
    for size, color in zip((10, 1000), size_colors(2), strict=True):
        points(axes[0, 0], x, 1 / x + rng.normal(size=(20, 5)) / size, label=size_label("n", size), color=color)
    theory(axes[0, 0], x, 1 / x)
    theory(axes[0, 1], x, x, bound=True, label="bound")
    band(axes[0, 1], x, x - 1, x + 1, label="allowed")
    axes[0, 0].legend()
    return drawing


def test_figures_are_the_same_on_every_run(tmp_path: Path) -> None:
    figure = Figure("toy.figure-1", "Does the mean converge?", draw)
    png, pdf = figure.render(Session(), tmp_path / "a")
    assert (png.name, pdf.name) == ("toy.figure-1.png", "toy.figure-1.pdf")
    again = figure.render(Session(), tmp_path / "b")
    assert [path.read_bytes() for path in (png, pdf)] == [path.read_bytes() for path in again]
    assert matplotlib.image.imread(png).shape[1] == pytest.approx(6.8 * 300, abs=2)


def test_style_is_scoped() -> None:
    before = dict(matplotlib.rcParams)
    with styled():
        assert matplotlib.rcParams["font.size"] == 8
    assert dict(matplotlib.rcParams) == before


def test_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figure = Figure("toy.figure-1", "Does the mean converge?", draw)
    out = tmp_path / "figures"
    code = script_main("Is it so?", claims=[toy_file(tmp_path, "true")], figures=[figure], argv=["--out", str(out)])
    printed = capsys.readouterr().out
    assert code == 0
    assert "toy.true" in printed and str(out / "toy.figure-1.pdf") in printed
    assert sorted(path.name for path in out.iterdir()) == ["toy.figure-1.pdf", "toy.figure-1.png"]
    assert script_main("Is it so?", argv=["--help"]) == 0
    assert "Is it so?" in capsys.readouterr().out


def test_spread() -> None:
    samples = np.array([[1.0, 2.0], [3.0, 2.0], [5.0, np.inf]])
    centre, distances = spread(samples)
    # mean 3, standard deviation 2, t quantile 4.302653 of 2 degrees of freedom
    assert centre[0] == 3 and distances[:, 0] == pytest.approx(4.3026527 * 2 / np.sqrt(3))
    assert not np.isfinite(centre[1])
    # 10 seeds: the 2nd and 9th order statistics cover the median with probability .9785, the 3rd and 8th with .89
    ordered = np.arange(10.0)[:, None]
    centre, distances = spread(ordered, median=True)
    assert centre[0] == 4.5 and distances[:, 0].tolist() == [3.5, 3.5]
    assert np.isnan(spread(ordered[:5], median=True)[1]).all()
    assert np.isnan(spread(ordered[:1])[1]).all()


def test_size_label() -> None:
    assert size_label("n", 1000) == "$n = 1{,}000$"
    assert size_label("n", [10, 1000]) == r"$n = 10 \ldots 1{,}000$"


def test_save_without_canvas(tmp_path: Path) -> None:
    with styled():
        drawing, _ = canvas()
        assert all(path.stat().st_size > 0 for path in save(drawing, tmp_path, "x"))


def test_compilation_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from theorysim.cli.process import set_up

    known = jax.config.jax_compilation_cache_dir
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    try:
        monkeypatch.setenv("THEORYSIM_CACHE", str(tmp_path / "cache"))
        set_up()
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "cache" / "xla")
        (tmp_path / "file").touch()
        monkeypatch.setenv("THEORYSIM_CACHE", str(tmp_path / "file"))
        set_up()  # goes on without
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "cache" / "xla")
    finally:
        jax.config.update("jax_compilation_cache_dir", known)
