"""Bad input of experiments/qaoa_overlaps.py, which takes a user's files: one line, exit code 2, nothing drawn."""

from __future__ import annotations

import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "experiments" / "qaoa_overlaps.py"


@pytest.fixture(scope="module")
def tmp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("qaoa")
    W = np.random.default_rng(0).normal(size=(4, 4))
    broken = W.copy()
    broken[1, 2] = np.nan
    arrays = {
        "W": W,
        "nan": broken,
        "inf": np.where(W > 0, np.inf, W),
        "flat": W[0],
        "oblong": W[:3],
        "one": W[:1, :1],
        "mixed": np.zeros((3, 3, 4)),
        "complex": W * 1j,
        "text": np.array([["a", "b"], ["c", "d"]]),
        "empty": np.zeros((0, 0)),
        "scalar": np.array(3.0),
        "C": np.arange(16.0),
        "C12": np.arange(12.0),
        "C1": np.zeros(1),
        "C2": np.zeros(2),
        "C44": np.zeros((4, 4)),
        "Cnan": np.where(np.arange(8) == 3, np.nan, 1.0),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    np.save(folder / "objects.npy", np.array([{}] * 4), allow_pickle=True)
    np.savez(folder / "archive.npz", W=W)
    (folder / "cut.npy").write_bytes((folder / "W.npy").read_bytes()[:140])
    (folder / "nothing.npy").touch()
    (folder / "words.npy").write_text("no array\n")
    # Shapes alone, without the values that would fill a disk.
    for name, shape in (("huge", (40, 40)), ("Chuge", (2**33,)), ("C28", (2**28,))):
        with (folder / f"{name}.npy").open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": shape})
            file.truncate(file.tell() + 8 * int(np.prod(shape)))  # sparse
    return folder


ROWS = [
    ("--n 1", ("n must be", "got 1")),
    ("--n 0", ("n must be", "got 0")),
    ("--n -5", ("n must be", "got -5")),
    ("--n 32", ("n must be", "31", "got 32")),
    ("--n 2.5", ("--n", "integer", "'2.5'")),
    ("--n x", ("--n", "integer", "'x'")),
    ("--n", ("--n", "missing")),
    ("--q 1", ("order q", "at least 2", "got 1")),
    ("--q -1", ("order q", "at least 2", "got -1")),
    ("--q 99", ("--q", "16", "got 99")),
    ("--scale nan", ("--scale", "nan")),
    ("--scale -1", ("--scale", "-1")),
    ("--scale inf", ("--scale", "inf")),
    ("--scale a", ("--scale", "number", "'a'")),
    ("--gammas .1 .2", ("gammas and betas", "equal length", "(2,)", "(1,)")),
    ("--gammas", ("gammas", "(0,)")),
    ("--gammas --betas", ("gammas", "none")),
    ("--gammas nan", ("gammas", "finite", "nan")),
    ("--betas inf", ("betas", "finite", "inf")),
    ("--gammas a", ("--gammas", "'a'")),
    ("--precision half", ("--precision", "'half'", "single")),
    ("--n 31 --precision double --memory 1GB", ("n = 31", "GiB", "at most 25")),
    ("--n 20 --q 16", ("q = 16", "n = 20", "TB")),
    ("--couplings {tmp}/none.npy", ("couplings", "none.npy", "No such file")),
    ("--couplings {tmp}", ("couplings", "directory")),
    ("--couplings {tmp}/words.npy", ("couplings", "words.npy", "real numbers")),
    ("--couplings {tmp}/nothing.npy", ("couplings", "nothing.npy")),
    ("--couplings {tmp}/cut.npy", ("couplings", "cut.npy")),
    ("--couplings {tmp}/objects.npy", ("couplings", "objects.npy")),
    ("--couplings {tmp}/archive.npz", ("couplings", "archive.npz")),
    ("--couplings {tmp}/complex.npy", ("couplings", "real numbers", "complex.npy")),
    ("--couplings {tmp}/text.npy", ("couplings", "real numbers", "text.npy")),
    ("--couplings {tmp}/nan.npy", ("nan.npy", "finite", "1 of 16")),
    ("--couplings {tmp}/inf.npy", ("inf.npy", "finite")),
    ("--couplings {tmp}/flat.npy", ("flat.npy", "shape", "(4,)")),
    ("--couplings {tmp}/oblong.npy", ("oblong.npy", "shape", "(3, 4)")),
    ("--couplings {tmp}/one.npy", ("one.npy", "n >= 2", "(1, 1)")),
    ("--couplings {tmp}/mixed.npy", ("mixed.npy", "(3, 3, 4)")),
    ("--couplings {tmp}/empty.npy", ("empty.npy", "(0, 0)")),
    ("--couplings {tmp}/scalar.npy", ("scalar.npy", "()")),
    ("--couplings {tmp}/huge.npy", ("huge.npy", "31", "n = 40")),
    ("--couplings {tmp}/W.npy --n 5", ("--n must be 4", "W.npy", "got 5")),
    ("--couplings {tmp}/W.npy --q 3", ("--q must be 2", "W.npy", "got 3")),
    ("--couplings", ("--couplings", "missing")),
    ("--costs {tmp}/C12.npy", ("C12.npy", "2^n", "(12,)")),
    ("--costs {tmp}/C1.npy", ("C1.npy", "n >= 2", "(1,)")),
    ("--costs {tmp}/C2.npy", ("C2.npy", "n >= 2", "(2,)")),
    ("--costs {tmp}/C44.npy", ("C44.npy", "vector", "(4, 4)")),
    ("--costs {tmp}/Cnan.npy", ("Cnan.npy", "finite", "1 of 8")),
    ("--costs {tmp}/complex.npy", ("costs", "real numbers", "complex.npy")),
    ("--costs {tmp}/Chuge.npy", ("Chuge.npy", "31", "n = 33")),
    ("--costs {tmp}/C28.npy --memory 1GB", ("n = 28", "GiB", "at most 25")),
    ("--costs {tmp}/none.npy", ("costs", "none.npy", "No such file")),
    ("--costs {tmp}/C.npy --n 5", ("--n must be 4", "C.npy", "got 5")),
    ("--costs {tmp}/C.npy --q 2", ("--costs", "--q", "C.npy")),
    ("--costs {tmp}/C.npy --scale 1", ("--costs", "--scale", "C.npy")),
    ("--costs {tmp}/C.npy --couplings {tmp}/W.npy", ("--costs", "--couplings", "C.npy")),
    ("--costs {tmp}/C.npy --gammas .1 .2", ("gammas and betas", "(2,)")),
]


def complaint(code: object, out: str, err: str, words: tuple[str, ...]) -> None:
    assert (code, out) == (2, ""), (code, out, err)
    assert err.count("\n") == 1 and err.startswith("theorysim: ") and "Traceback" not in err, err
    assert all(word in err for word in words), (words, err)


@pytest.mark.parametrize(("line", "words"), ROWS, ids=[line or "none" for line, _ in ROWS])
def test_one_line(line: str, words: tuple[str, ...], tmp: Path, monkeypatch, capsys) -> None:
    out = tmp / "figures"
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *shlex.split(line.format(tmp=tmp)), "--out", str(out)])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    complaint(exit_.value.code, *capsys.readouterr(), words)
    assert not out.exists()


def test_in_a_process_of_its_own(tmp: Path) -> None:
    """Warnings and log lines of the libraries, which pytest would swallow, count as lines too."""
    command = [sys.executable, str(SCRIPT), "--couplings", str(tmp / "nan.npy"), "--out", str(tmp / "figures")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    complaint(done.returncode, done.stdout, done.stderr, ("nan.npy", "finite"))
