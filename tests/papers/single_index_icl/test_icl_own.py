"""Links of one's own, and the scripts that take them: what is read off them, and one line for what theory cannot take."""

from __future__ import annotations

import runpy
import sys

import numpy as np
import pytest
from experiment_scripts import EXPERIMENTS, script

from theorysim.errors import InputError
from theorysim.papers.single_index_icl.own import LinkOptions, describe, from_coefficients, from_function, report
from theorysim.papers.single_index_icl.regression import link_of
from theorysim.papers.single_index_icl.setting import HE2, MIX, Band

LINKS = """
import numpy as np
def cubic(z): return z**3 - 3*z
def square(z): return z * z - 1
def even(z): return z * z
def tanh(z): return np.tanh(z)
def constant(z): return 2.0
def fails(z): return 1 / 0
def text(z): return "a"
def log(z): return np.log(z)
value = 3
"""


@pytest.fixture
def file(tmp_path) -> str:
    path = tmp_path / "links.py"
    path.write_text(LINKS)
    return str(path)


# --- links ------------------------------------------------------------------------------------------------------------


def test_coefficients():
    link = LinkOptions(hermite="0,0,1,0.5,0").chosen(HE2)
    assert link == from_coefficients([0, 0, 1, 0.5])
    law = link_of(link)
    assert (law.information_exponent, law.degree) == (2, 3)
    assert law.variance == pytest.approx(1 / 2 + 0.25 / 6)


@pytest.mark.parametrize(("name", "expected"), [("cubic", [0, 0, 0, 6]), ("square", [0, 0, 2])])
def test_functions(file, name, expected):
    link = LinkOptions(link=f"{file}:{name}").chosen(HE2)
    assert link == from_coefficients(np.array(expected, float).tolist()) or np.allclose(link.values, expected)


def test_cut_off():
    """Of tanh at degree 5: c_k by Gauss-Hermite quadrature."""
    z, w = np.polynomial.hermite_e.hermegauss(100)
    found = from_function(np.tanh, 5, "tanh").values
    expected = [np.polynomial.hermite_e.hermeval(z, np.eye(6)[k]) @ (w * np.tanh(z)) / w.sum() for k in range(6)]
    assert found == pytest.approx(expected, abs=1e-8)


def test_families():
    assert LinkOptions(band="2,4").chosen(HE2) == MIX
    assert LinkOptions().chosen(HE2) == HE2


def test_reports():
    assert report(HE2, 0.0) == (
        "link: c_2 = 1.41421; information exponent Q = 2, degree P = 2, E sigma^2 = 1; ReLU of bias 0 sees it from degree 2 on"
    )
    assert "information exponent Q = 3" in report(from_coefficients([0, 0, 0, 1, 1]), 0.0)
    assert report(from_coefficients([0, 0, 0, 1, 1]), 0.0).endswith("sees it from degree 4 on")
    assert "random c of degrees 2 to 5" in report(Band(2, 5))
    assert "He" in describe(HE2)
    assert describe(from_coefficients([0, 1, 0, 2])) == "link of $c$ = (0, 1, 0, 2)"


def test_links_that_theory_does_not_take(file):
    for options, message in (
        ({"hermite": "0,0"}, "link must not be constant: theory needs an information exponent Q"),
        ({"hermite": "2"}, "link must not be constant"),
        ({"hermite": "1,0,1"}, r"E sigma\(z\) must be 0, .* subtract c_0 = 1"),
        ({"hermite": "0,nan"}, "coefficients must be finite, got nan"),
        ({"hermite": "0,inf"}, "coefficients must be finite, got inf"),
        ({"hermite": "0;1"}, "--hermite must be numbers with commas between them, got '0;1'"),
        ({"hermite": ",".join(["0"] * 31 + ["1"])}, "degree P of the link must be at most 30, got 31"),
        ({"hermite": "0,1", "band": "1,2"}, "at most one may be given, got --hermite and --band"),
        ({"band": "4,2"}, r"information exponent Q must lie in \[1, P = 2\], got 4"),
        ({"band": "0,2"}, r"information exponent Q must lie in \[1, P = 2\], got 0"),
        ({"band": "2,31"}, "degree P of --band must be at most 30, got 31"),
        ({"band": "2"}, "--band must be two degrees Q,P, got '2'"),
        ({"band": "2,x"}, "--band must be integers with commas between them"),
        ({"degree": 3}, "--degree must come with --link, got 3 alone"),
        (
            {"link": f"{file}:cubic", "degree": 2},
            "degree P must be at least the information exponent Q = 3 of .*, got 2",
        ),
        ({"link": f"{file}:cubic", "degree": 31}, r"degree P of the link must lie in \[1, 30\], got 31"),
        ({"link": f"{file}:even"}, "subtract c_0 = 1"),
        ({"link": f"{file}:tanh"}, "must be a polynomial of degree up to 30: .* give --degree"),
        ({"link": f"{file}:constant"}, "link must not be constant"),
        ({"link": f"{file}:fails"}, "fails at z = .*: ZeroDivisionError"),
        ({"link": f"{file}:text"}, "fails at z = .*: ValueError"),
        ({"link": f"{file}:log"}, "link must be finite everywhere, got nan"),
        ({"link": f"{file}:value"}, r"must define a function value\(z\), got 3"),
        ({"link": f"{file}:missing"}, r"must define a function missing\(z\), got None"),
        ({"link": "none.py:f"}, "file of --link must exist, got 'none.py'"),
        ({"link": "links"}, "--link must read FILE.py:NAME, got 'links'"),
    ):
        with pytest.raises(InputError, match=message) as raised, np.errstate(all="ignore"):
            LinkOptions(**options).chosen(HE2)
        assert "\n" not in str(raised.value)


def test_files_that_do_not_import(tmp_path):
    path = tmp_path / "broken.py"
    for text, message in (("def f(z", "SyntaxError"), ("import no_such_module", "ModuleNotFoundError")):
        path.write_text(text)
        with pytest.raises(InputError, match=f"does not import: {message}"):
            LinkOptions(link=f"{path}:f").chosen(HE2)


# --- scripts ----------------------------------------------------------------------------------------------------------

ODD = ("--hermite", "0,0,0,1")
REFUSED = (
    ("alignment", ("--d", "8", "--r", "9"), "dimension r of the subspace must lie in [1, d = 8], got 9"),
    ("alignment", ("--d", "8", "--r", "8"), "must be below d = 8"),
    ("alignment", ("--tau", "-1"), "noise level tau must be at least 0, got -1"),
    ("alignment", ("--tau", "nan"), "tau must be a number"),
    ("alignment", ("--bias", "nan"), "--bias must be finite"),
    ("alignment", ("--N1", "0"), "prompt length N1 must be at least 1, got 0"),
    ("alignment", ODD, "bias must not be 0"),
    ("alignment", (*ODD, "--bias", "1", "--d", "64"), "d must be smaller, or N1 longer"),
    ("alignment", ("--out", "{file}"), "--out must be a folder that can be written"),
    ("prompt_length", ODD, "bias must not be 0"),
    ("prompt_length", ("--d", "8", "--r", "9"), "must lie in [1, d = 8], got 9"),
    ("prompt_length", ("--lengths", "4", "2"), "prompt lengths must be at least 1 and increase, got 4, 2"),
    ("prompt_length", ("--tau", "-1"), "noise level tau must be at least 0"),
    ("staircase", ("--d", "1"), "--d must be dimensions of at least 2, got 1"),
    ("staircase", ("--ridge", "0"), "--ridge must be positive and finite, got 0"),
    ("staircase", ("--hermite", "0"), "link must not be constant"),
    ("gpt2", ("--d", "4", "--r", "5"), "must lie in [1, d = 4], got 5"),
    ("gpt2", ("--heads", "3"), "width must be a multiple of heads = 3, got 64"),
    ("gpt2", ("--steps", "0"), "steps must be at least 1, got 0"),
    ("gpt2", ("--examples", "1"), "--examples must be at least 2, got 1"),
    ("gpt2", ("--save-every", "0"), "--save-every must be at least 1, got 0"),
    ("gpt2", ("--rate", "-1"), "rate must be positive, got -1"),
    ("gpt2", ("--batch", "0"), "batch must be at least 1, got 0"),
    ("gpt2", ("--batch", "10000000"), "--steps times --batch must be below 2^32"),
)


@pytest.mark.parametrize(("name", "arguments", "message"), REFUSED)
def test_scripts_refuse_in_one_line(name, arguments, message, monkeypatch, capsys, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    given = [argument.format(file=tmp_path / "file") for argument in arguments]
    path = EXPERIMENTS / f"icl_{name}.py"
    monkeypatch.setattr(sys, "argv", [str(path), *given])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_path(str(path), run_name="__main__")
    out, err = capsys.readouterr()
    assert (exit_.value.code, out, err.count("\n")) == (2, "", 1), err
    assert message in err


def test_scripts_find_their_claims(monkeypatch):
    claims = script("icl_trained", monkeypatch).CLAIMS
    assert all(claim.startswith("single-index-icl.") for claim in claims)
