"""Every bad command line ends in one line on stderr that names the option and the value, exit code 2, no output."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from theorysim.cli import main
from theorysim.cli.script import main as script_main

TOY = Path(__file__).with_name("toy_claims.py")
PAPER = "large-stepsize-gd"

FILES = {
    "nothing.py": "x = 1\n",
    "empty.py": "CLAIMS = ()\n",
    "number.py": "CLAIMS = 3\n",
    "mixed.py": "CLAIMS = [1, 2]\n",
    "text.py": "CLAIMS = 'toy'\n",
    "syntax.py": "CLAIMS = (\n",
    "name.py": "\nundefined_name\n",
    "exits.py": "import sys\nsys.exit(0)\n",
    "imports.py": "import no_such_module_here\n",
    "lines.py": "raise ValueError('first line\\nsecond line')\n",
    "unicode.py": b"\xff\xfe\x00",
    "kind.py": "from theorysim.verify.claim import Claim\nClaim('a.b', 'theorem', 's', 's', 'a', ())\n",
    "checks.py": "from theorysim.verify.claim import Claim\nClaim('a.b', 'bound', 's', 's', 'a', ())\n",
    "id.py": "from theorysim.verify.claim import Claim\nClaim('ab', 'bound', 's', 's', 'a', ())\n",
    "file": "",
    "file.json": "[]\n",
    "notes.txt": "CLAIMS = ()\n",
    "text.npz": "no archive\n",
}


SEEDS = ["-1", "1.5", "x", "''", str(2**63), str(2**200), "1e3", "nan", "inf", "0x10", "'1 2'", "--5"]
PRESETS = ["foo", "Quick", "''", "quick,paper", "1"]
MEMORY = ["0", "-1", "nan", "inf", "abc", "1e400", "99999999", "''", "4XB", "GB", "4,5", "-0"]
COMMANDS = ["verify {toy}", "figures " + PAPER]


def rows() -> list[tuple[str, tuple[str, ...]]]:
    """Command lines with the words that their complaint must hold."""
    table: list[tuple[str, tuple[str, ...]]] = []
    for command in COMMANDS:
        for seed in SEEDS[:-1]:
            table.append((f"{command} --seed {seed}", ("--seed", "0 to 2^63 - 1", shlex.split(seed)[0])))
        for preset in PRESETS:
            table.append((f"{command} --preset {preset}", ("--preset", "quick", "paper", shlex.split(preset)[0])))
        for memory in MEMORY:
            table.append((f"{command} --memory {memory}", ("memory", repr(shlex.split(memory)[0]))))
        for store in ("{tmp}/file", "{tmp}/file/sub", "/proc/no/store", "''"):
            table.append((f"{command} --store {store}", ("--store", store.strip("'"))))
        for option in ("--seed", "--preset", "--memory", "--store", "--data"):
            table.append((f"{command} {option}", (option, "missing")))
        for option in ("--sed 1", "--no-rescale", "-x", "--seed=", "--verbose", "--executor dask"):
            table.append((f"{command} {option}", (option.split()[0].rstrip("="),)))
        table.append((f"{command} --rescale", ("--rescale", "--data")))
    for json in ("{tmp}", "{tmp}/none/a.json", "{tmp}/file/a.json", "/proc/self/a.json", "''", "/"):
        table.append(("verify {toy} --json " + json, ("--json", json.strip("'"))))
    for out in ("{tmp}/file", "{tmp}/file/sub", "/proc/no/out", "''"):
        table.append((f"figures {PAPER} --out {out}", ("--out", out.strip("'"))))
    table += [
        ("", ("command", "list, show, verify, figures")),
        ("vrify", ("vrify", "verify")),
        ("VERIFY", ("VERIFY", "verify")),
        ("''", ("verify",)),
        ("--version", ("--version", "verify")),
        ("verify {toy} --json", ("--json", "missing")),
        ("verify {toy} --strict=1", ("unrecognized options: 1",)),
        ("figures --out", ("--out", "missing")),
        ("figures --json a.json", ("--json",)),
        ("figures {toy}", ("no figures", "toy_claims.py")),
        ("list --seed 1", ("--seed",)),
        ("show --preset quick", ("--preset",)),
        ("show", ("show needs a claim",)),
    ]
    for command in ("list", "show", "verify"):
        table += [
            (f"{command} {{tmp}}/missing.py", ("missing.py", "exists")),
            (f"{command} {{tmp}}/folder.py", ("folder.py", "exists")),
            (f"{command} {{tmp}}/notes.txt", ("notes.txt", "Python file")),
            (f"{command} {{tmp}}/nothing.py", ("nothing.py", "CLAIMS")),
            (f"{command} {{tmp}}/empty.py", ("empty.py", "CLAIMS", "empty", "()")),
            (f"{command} {{tmp}}/number.py", ("number.py", "CLAIMS", "sequence of Claim", "got 3")),
            (f"{command} {{tmp}}/mixed.py", ("mixed.py", "CLAIMS", "sequence of Claim", "[1, 2]")),
            (f"{command} {{tmp}}/text.py", ("text.py", "CLAIMS", "sequence of Claim", "'toy'")),
            (f"{command} {{tmp}}/syntax.py", ("syntax.py", "does not import", "SyntaxError")),
            (f"{command} {{tmp}}/name.py", ("does not import", "NameError at name.py:2", "undefined_name")),
            (f"{command} {{tmp}}/exits.py", ("exits.py", "does not import", "SystemExit")),
            (f"{command} {{tmp}}/imports.py", ("imports.py", "no_such_module_here")),
            (f"{command} {{tmp}}/lines.py", ("lines.py", "first line second line")),
            (f"{command} {{tmp}}/unicode.py", ("unicode.py", "does not import")),
            (f"{command} {{tmp}}/kind.py", ("kind.py", "kind of a.b", "'theorem'", "bound")),
            (f"{command} {{tmp}}/checks.py", ("checks.py", "checks of a.b", "empty")),
            (f"{command} {{tmp}}/id.py", ("id.py", "<paper>.<claim>", "'ab'")),
            (f"{command} large-stepsize-dg", ("unknown paper", "'large-stepsize-dg'", PAPER)),
            (f"{command} no", ("unknown paper", "'no'", PAPER)),
            (f"{command} '' ", ("unknown paper", "''", PAPER)),
            (f"{command} no.such.claim", ("unknown paper", "'no.such.claim'", PAPER)),
        ]
    for command in ("show", "verify", "figures"):
        table.append((f"{command} {PAPER}.no-such-thing-at-all", ("unknown", f"'{PAPER}.no-such-thing-at-all'")))
        table.append((f"{command} {PAPER}.", ("unknown", f"'{PAPER}.'")))
    table += [
        ("verify {toy} --data digits", ("toy_claims.py", "--data")),
        ("verify {toy} {tmp}/twin.py", ("toy.true", "two different claims")),
        ("verify {tmp}/raises.py", ("toy.raises", "ArithmeticError", "raises.py", "no such number")),
        ("verify {tmp}/refuses.py", ("toy.refuses", "step size eta must be positive, got -0.1")),
        ("verify {tmp}/huge.py", ("toy.huge", "memory")),
        ("verify {tmp}/predict.py", ("toy.predict", "ZeroDivisionError", "predict.py")),
        ("verify {tmp}/noquick.py", ("toy.noquick", "preset 'quick'", "paper")),
    ]
    return table


ROWS = rows()

BROKEN = {
    "raises.py": "def measure(key, setting):\n    raise ArithmeticError('no such number')\n",
    "refuses.py": "def measure(key, setting):\n    require(False, 'step size eta must be positive, got -0.1')\n",
    "huge.py": "def measure(key, setting):\n    return {'mean': jax.random.normal(key, (2**22, 2**22)).sum()}\n",
    "predict.py": "def measure(key, setting):\n    return {'mean': jnp.ones(())}\npredict = lambda setting, _: 1 / 0\n",
    "noquick.py": "def measure(key, setting):\n    return {'mean': jnp.ones(())}\nPRESETS = ['paper']\n",
}

USER_FILE = """
import jax
import jax.numpy as jnp

from theorysim.errors import require
from theorysim.sweep import Experiment, setting
from theorysim.verify.claim import Check, Claim, Control, Design
from theorysim.verify.judges.equivalence import Equivalence

PRESETS = ["quick"]
predict = lambda setting, _: 1.0

@setting
class Nothing:
    n: int = 1

{body}

CLAIMS = [
    Claim("toy.{name}", "limit", "s", "s", "a", (Check(
        name="mean",
        experiment=Experiment("toy/{name}", measure),
        design={{preset: Design((Nothing(),), seeds=8) for preset in PRESETS}},
        observable=lambda _, results: results["mean"],
        predict=predict,
        judge=Equivalence(),
        control=Control("nothing"),
    ),))
]
"""


@pytest.fixture(scope="module")
def tmp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    for name, content in FILES.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    for name, body in BROKEN.items():
        (folder / name).write_text(USER_FILE.format(body=body, name=Path(name).stem))
    (folder / "twin.py").write_text(TOY.read_text())
    (folder / "folder.py").mkdir()
    return folder


def check(code: int, out: str, err: str, words: tuple[str, ...]) -> None:
    assert code == 2, (code, out, err)
    assert err.count("\n") == 1, err
    assert err.startswith("theorysim: "), err
    assert err.endswith("\n"), err
    assert "Traceback" not in err + out
    assert out == ""
    for word in words:
        assert word in err, (word, err)


def arguments(line: str, tmp: Path) -> list[str]:
    return shlex.split(line.format(tmp=tmp, toy=TOY))


@pytest.mark.parametrize(("line", "words"), ROWS, ids=[f"{i}-{line}" for i, (line, _) in enumerate(ROWS)])
def test_one_line(line: str, words: tuple[str, ...], tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(arguments(line, tmp))
    check(code, *capsys.readouterr(), tuple(word.format(tmp=tmp) for word in words))


def test_table_is_long_enough() -> None:
    assert len({line for line, _ in ROWS}) == len(ROWS) >= 120


DATA = [
    ("digits:3", "digits:3"),
    ("digits:3,3", "3"),
    ("digits:a,b", "digits:a,b"),
    ("digits:3,8,9", "digits:3,8,9"),
    ("digits:-1,2", "digits:-1,2"),
    ("digits:3,11", "11"),
    ("''", "''"),
    ("digitz", "digitz"),
    ("iris", "iris"),
    ("data.csv", "data.csv"),
    ("{tmp}/none.npz", "none.npz"),
    ("{tmp}/text.npz", "text.npz"),
    ("{tmp}/folder.npz", "folder.npz"),
    ("{tmp}/no_y.npz", "no_y.npz"),
    ("{tmp}/shape.npz", "shape.npz"),
    ("{tmp}/nan.npz", "nan.npz"),
    ("{tmp}/one_label.npz", "one_label.npz"),
    ("{tmp}/three_labels.npz", "three_labels.npz"),
    ("{tmp}/text_labels.npz", "text_labels.npz"),
    ("{tmp}/long.npz", "long.npz"),
    ("{tmp}/empty.npz", "empty.npz"),
    ("{tmp}/pickled.npz", "pickled.npz"),
]


@pytest.mark.parametrize(("source", "word"), DATA, ids=[source for source, _ in DATA])
def test_bad_data(source: str, word: str, tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    X, y = np.eye(4), np.array([1.0, 1.0, -1.0, -1.0])
    np.savez(tmp / "no_y.npz", X=X)
    np.savez(tmp / "shape.npz", X=X, y=y[:3])
    np.savez(tmp / "nan.npz", X=X * np.nan, y=y)
    np.savez(tmp / "one_label.npz", X=X, y=np.ones(4))
    np.savez(tmp / "three_labels.npz", X=X, y=np.arange(4) % 3)
    np.savez(tmp / "text_labels.npz", X=X, y=np.array(list("abab")))
    np.savez(tmp / "long.npz", X=2 * X, y=y)
    np.savez(tmp / "empty.npz", X=X[:0], y=y[:0])
    np.savez(tmp / "pickled.npz", X=np.array([{}] * 4), y=y)
    (tmp / "folder.npz").mkdir(exist_ok=True)
    code = main(arguments(f"verify {PAPER} --data {source}", tmp))
    check(code, *capsys.readouterr(), (word,))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--seed x", ("--seed", "'x'")),
        ("--preset foo", ("--preset", "'foo'", "standard")),
        ("--memory -1", ("memory", "'-1'")),
        ("--store {tmp}/file", ("--store", "{tmp}/file")),
        ("--out {tmp}/file", ("--out", "{tmp}/file")),
        ("--json a", ("--json",)),
        ("extra", ("extra",)),
    ],
)
def test_scripts(line: str, words: tuple[str, ...], tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = script_main("A question?", figures=[PAPER], claims=[str(TOY)], argv=arguments(line, tmp))
    check(code, *capsys.readouterr(), tuple(word.format(tmp=tmp) for word in words))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("verify --preset foo", ("--preset", "'foo'")),
        ("verify {tmp}/raises.py", ("toy.raises", "ArithmeticError")),
        ("verify {tmp}/huge.py --memory 1MB", ("toy.huge", "memory")),
        ("verify nothing-like-it", ("'nothing-like-it'",)),
    ],
)
def test_in_a_process_of_its_own(line: str, words: tuple[str, ...], tmp: Path) -> None:
    """Warnings and log lines of the libraries, which pytest would swallow, count as lines too."""
    command = [
        sys.executable,
        "-c",
        "import sys; from theorysim.cli import main; sys.exit(main())",
        *arguments(line, tmp),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    check(done.returncode, done.stdout, done.stderr, words)
