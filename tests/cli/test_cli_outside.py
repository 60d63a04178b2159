"""Theorems from outside: a starting file, one's own file and an installed package under the commands, and three files."""

from __future__ import annotations

import importlib.util
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import stats

from theorysim import papers
from theorysim.cli import main
from theorysim.cli.targets import resolve_claims, resolve_figures
from theorysim.errors import InputError
from theorysim.plots import Figure, canvas
from theorysim.verify import Design, Session

ROOT = Path(__file__).parents[2]
OUTSIDE = sorted((ROOT / "experiments" / "outside").glob("*.py"))


def words(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    out, err = capsys.readouterr()
    return out, err


# --- a starting file ----------------------------------------------------------------------------------------------------


def test_the_starting_file_runs_and_is_never_overwritten(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["new", "tail_bound.py"]) == 0
    assert main(["verify", "tail_bound.py"]) == 0
    out, err = words(capsys)
    assert err == "" and "2 claims: 2 verified" in out
    assert out.count("refuted ") == 2  # the controls
    assert main(["figures", "tail_bound.py"]) == 0
    assert words(capsys)[0].split() == ["figures/tail-bound.mean.png", "figures/tail-bound.mean.pdf"]
    Path("tail_bound.py").write_text("mine")
    assert main(["new", "tail_bound.py"]) == 2
    assert "must not exist yet, got 'tail_bound.py'" in words(capsys)[1]
    assert Path("tail_bound.py").read_text() == "mine"


@pytest.mark.parametrize("name", ["a theorem.py", "theorem.txt", "no/theorem.py", "1.py", ""])
def test_new_refuses_other_names(name, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["new", name]) == 2
    out, err = words(capsys)
    assert out == "" and err.count("\n") == 1 and "file must be" in err
    assert list(tmp_path.iterdir()) == []


# --- an installed package -----------------------------------------------------------------------------------------------


@pytest.fixture
def package(monkeypatch):
    """An installed package `toypkg` whose module is that of the toy claims, with a figure; returns what installs it."""
    path = Path(__file__).with_name("toy_claims.py")
    spec = importlib.util.spec_from_file_location("toypkg", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.FIGURES = (Figure("toy.empty", "What is there?", lambda session: canvas()[0]),)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "toypkg", module)

    def install(**values: str) -> ModuleType:
        entries = [EntryPoint(name, value, papers.GROUP) for name, value in values.items()]
        monkeypatch.setattr(papers, "entry_points", lambda group: entries)
        papers.installed.cache_clear()
        return module

    yield install
    papers.installed.cache_clear()


@pytest.mark.parametrize("value", ["toypkg", "toypkg:CLAIMS"])
def test_claims_of_an_installed_package_are_a_paper(value, package, capsys, tmp_path):
    module = package(toy=value)
    assert papers.slugs()[-1] == "toy" and "toy" not in papers.folders()
    assert resolve_claims(["toy"]) == module.CLAIMS
    assert resolve_claims(["toy.true"]) == module.CLAIMS[:1]
    assert resolve_claims([])[-len(module.CLAIMS) :] == module.CLAIMS
    assert module.FIGURES[0] in resolve_figures([])
    assert main(["list", "toy"]) == 0
    assert "toy.empty" in words(capsys)[0]
    assert main(["figures", "toy.empty", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "toy.empty.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"tap-amp": "toypkg"}, "another paper has that name"),
        ({"other": "toypkg"}, "must read other.<name>, got 'toy.true'"),
        ({"toy": "toypkg:NONE"}, "does not load: AttributeError"),
        ({"toy": "no_such_module_here"}, "does not load: ModuleNotFoundError"),
        ({"toy": "toypkg:SAMPLE_MEAN"}, "must be a sequence of Claim"),
    ],
)
def test_unusable_entry_points_are_named(values, message, package):
    package(**values)
    (name,) = values
    with pytest.raises(InputError, match=f"'{name}' = '{values[name]}'.*") as error:
        resolve_claims([name])
    assert message in str(error.value)


def test_installed_papers_take_no_data(package):
    package(toy="toypkg")
    with pytest.raises(InputError, match="paper toy takes no --data"):
        resolve_claims(["toy"], data="digits")


# --- one's own file -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", OUTSIDE, ids=lambda path: path.stem)
def test_files_are_listed_and_shown(file, capsys):
    assert main(["list", str(file)]) == 0
    listing = words(capsys)[0]
    claims, figures = resolve_claims([str(file)]), resolve_figures([str(file)])
    assert all(claim.id in listing for claim in claims) and figures[0].id in listing
    assert len({claim.kind for claim in claims}) >= 4
    assert main(["show", str(file)]) == 0
    shown = words(capsys)[0]
    assert shown.count("control: ") == sum(len(claim.checks) for claim in claims)
    assert "unknown (" not in shown  # every cost is stated
    assert resolve_claims([f"{file}::{claims[1].id}"]) == claims[1:2]


def module(name: str) -> ModuleType:
    resolve_claims([str(ROOT / "experiments" / "outside" / f"{name}.py")])
    (found,) = (m for key, m in sys.modules.items() if key.startswith("theorysim_file_") and name in str(m.__file__))
    return found


def test_semicircle_predictions():
    semicircle = module("semicircle")
    mean, variance, _ = semicircle.constants()
    assert abs(mean - -1.2065335745820) < 1e-7 and abs(variance - 1.607781034581) < 1e-6  # Bornemann (2010)
    np.testing.assert_allclose(semicircle.constants(2)[:2], [-1.7710868074, 0.8131947928], rtol=1e-6)
    n = 7.0
    exact = [1 + 1 / n, 2 + 5 / n + 5 / n**2, 5 + 22 / n + 52 / n**2 + 41 / n**3]
    np.testing.assert_allclose(semicircle.moments(n), exact, rtol=1e-14)
    np.testing.assert_allclose(semicircle.moments(np.inf), [1, 2, 5])


def test_edges_are_those_of_full_matrices():
    """The tridiagonal form against dense matrices: mean and spread of the largest eigenvalue at n = 12."""
    semicircle = module("semicircle")
    (result,) = Session().measure(semicircle.EDGES, Design((semicircle.Edges(12),), 4000))
    rng = np.random.default_rng(0)
    A = rng.standard_normal((8000, 12, 12))
    dense = np.linalg.eigvalsh((A + A.transpose(0, 2, 1)) / np.sqrt(24))[:, -1]
    assert stats.ks_2samp(result["largest"].ravel(), dense).pvalue > 1e-4


def test_bbp_predictions_and_crossings():
    bbp = module("bbp")
    np.testing.assert_allclose(bbp.outlier(np.array([0.2, 0.5, 1.0]), 0.25), [2.25, 2.25, 2.5])
    np.testing.assert_allclose(bbp.overlap(np.array([0.2, 0.5, 1.0]), 0.25), [0, 0, 0.6])
    law = bbp.marchenko_pastur(0.25)
    assert abs(law.mean() - 1) < 1e-6 and abs(law.std() ** 2 - 0.25) < 1e-6
    # the crossing against dense matrices, whose largest eigenvalue grows with l
    (result,) = Session().measure(bbp.CROSSING, Design((bbp.Transition(16, 0.25),), 4000))
    rng = np.random.default_rng(0)
    G = rng.standard_normal((4000, 16, 4))
    for spike in (0.0, 0.5, 1.5):
        X = G * np.array([np.sqrt(1 + spike), 1, 1, 1])
        beyond = np.linalg.eigvalsh(X.transpose(0, 2, 1) @ X / 16)[:, -1] > 2.25
        measured = result["spike"] < spike
        assert abs(beyond.mean() - measured.mean()) < 4 * np.sqrt(0.5 / 4000)


def test_double_descent_predictions():
    double = module("double_descent")
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20_000, 9, 3))
    trace = np.trace(np.linalg.inv(X.transpose(0, 2, 1) @ X), axis1=1, axis2=2)
    assert abs(trace.mean() / double.mean_risk(double.Regression(9, 3)) - 1) < 0.03
    turned = double.mean_risk(double.Regression(3, 9, r=0.0))
    assert abs(trace.mean() / turned - 1) < 0.03  # X X^T of the transposed matrix
    assert double.mean_risk(double.Regression(3, 9, sigma=0.0)) == pytest.approx(2 / 3)
    ratio = np.array([0.5, 4.0])
    large = [double.mean_risk(double.Regression(10**6, round(g * 10**6))) for g in ratio]
    np.testing.assert_allclose(large, double.limiting_risk(ratio), rtol=1e-4)
    law, x = double.Edelman(), np.linspace(0, 12, 100_001)
    assert law.mean() == pytest.approx(np.trapezoid(1 - law.cdf(x), x), rel=1e-6)
    assert law.std() ** 2 + law.mean() ** 2 == pytest.approx(np.trapezoid(2 * x * (1 - law.cdf(x)), x), rel=1e-6)


@pytest.mark.slow
def test_a_file_verifies_and_draws(tmp_path, capsys):
    """The cheapest claims of a file through the commands."""
    file = str(ROOT / "experiments" / "outside" / "bbp.py")
    assert main(["verify", f"{file}::bbp.secular", f"{file}::bbp.threshold"]) == 0
    assert "2 claims: 2 verified" in words(capsys)[0]
    assert main(["figures", f"{file}::bbp.transition", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "bbp.transition.pdf").stat().st_size > 1000
