"""Plant the mistakes of `planted.py` one at a time in a copy of the sources, and see whether tests or claims notice.

Every catcher must pass on the unedited copy first. Then each edit is made, its catcher runs in a process of its own that imports
the copy, and the edit is taken back. A mistake is caught where tests fail or a claim is refuted (or toothless); a catcher that does
not end in time, or ends in any other way, has caught nothing. Results are kept in a file as they come, and a run goes on from
there; results of edits whose sources or tests have changed since are found anew.

Exit code: 0 if all mistakes are caught, 1 if not, 2 for bad input.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import importlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from planted import MUTATIONS, Mutation

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "mutations" / "results.jsonl"
CONTEXT = multiprocessing.get_context("forkserver")
COPIED = ("theorysim", "tests", "experiments", "pyproject.toml")
PYTEST = ("-x", "-q", "--no-header", "--tb=line", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts=")
PRELOADED = [
    "flax.nnx",
    "optax",
    "scipy.stats",
    "mpmath",
    "xarray",
    "hypothesis",
    "jaxtyping",
    "matplotlib.figure",
    "pytest",
]
"""Imported once, in a process that every catcher is forked from: half of a short test's time otherwise."""

FAILED = 70
"""Exit code of a catcher that could not run, or would have run on other sources than the copy's."""


@dataclass(frozen=True)
class Outcome:
    """How a catcher ended. code: its exit code, None where it was stopped at its time limit. said: what it printed."""

    code: int | None
    seconds: float
    said: str

    @property
    def status(self) -> str:
        """caught, survived, or why it is neither."""
        if self.code is None:
            return "timeout"
        return {0: "survived", 1: "caught"}.get(self.code, "error")

    @property
    def evidence(self) -> str:
        """The line that says what failed."""
        if self.code is None:
            return f"stopped after {self.seconds:.0f} s"
        lines = [line.strip() for line in self.said.splitlines()]
        marks = ("FAILED ", "ERROR ", "refuted", "toothless")
        found = [line for mark in marks for line in lines if mark in line]
        return " ".join((found or [line for line in lines if line][-1:] or [""])[0].split())[:240]


def _enter(tree: Path, catchers: Sequence[str], log: Path, edited: bool) -> NoReturn:
    """A catcher's process."""
    os.setsid()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    cache = os.environ.get("THEORYSIM_CACHE") or str(Path(tempfile.gettempdir()) / "theorysim-mutations")
    os.environ |= {"PYTHONPATH": str(tree), "THEORYSIM_CACHE": cache, "COLUMNS": "200"}
    if edited:  # the bytecode of an edit could be taken for the original's
        sys.dont_write_bytecode = True
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    os.chdir(tree)
    sys.path.insert(0, str(tree))
    code = FAILED
    try:
        theorysim = importlib.import_module("theorysim")
        imported = Path(theorysim.__file__ or "").resolve()
        if not imported.is_relative_to(tree.resolve()):
            print(f"imported {imported}")
        elif catchers[0].startswith("tests/"):
            code = int(importlib.import_module("pytest").main([*PYTEST, *catchers]))
        else:
            # An edit must make a claim fail: data that do not decide it are not enough.
            verify = ["verify", *catchers, "--preset", "quick", *([] if edited else ["--strict"])]
            code = importlib.import_module("theorysim.cli").main(verify)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.exit(code)


def catch(tree: Path, catchers: Sequence[str], limit: float, *, edited: bool) -> Outcome:
    """Run tests, or claims, on the sources in `tree`."""
    log = tree.parent / "said"
    clock = time.perf_counter()
    process = CONTEXT.Process(target=_enter, args=(tree, catchers, log, edited))
    process.start()
    try:
        process.join(limit)
        ended = not process.is_alive()
    finally:  # also where an interruption has reached this process alone
        if process.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid or 0, signal.SIGKILL)
            process.join()
    said = log.read_text(errors="replace") if log.exists() else ""
    return Outcome(process.exitcode if ended else None, time.perf_counter() - clock, said)


def plant(tree: Path, mutation: Mutation, limit: float) -> Outcome:
    """Run the catcher of a mistake on sources that have it."""
    path = tree / mutation.file
    original, times = path.read_text(), path.stat()
    try:
        path.write_text(original.replace(mutation.old, mutation.new))
        return catch(tree, [mutation.by], limit, edited=True)
    finally:
        path.write_text(original)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


# --- what is known --------------------------------------------------------------------------------------------------


@functools.cache
def _text(path: str) -> str:
    return (ROOT / path).read_text()


def digest(mutation: Mutation) -> str:
    """Of an edit, its file and its test's."""
    test = "" if mutation.is_claim else _text(mutation.by.split("::")[0])
    parts = (mutation.old, mutation.new, mutation.by, _text(mutation.file), test)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def load(path: Path) -> dict[str, dict[str, Any]]:
    """Results by name, the last of each; none where the file does not exist."""
    lines = path.read_text().splitlines() if path.exists() else []
    try:
        records = [json.loads(line) for line in lines]
        return {record["name"]: record for record in records}
    except (json.JSONDecodeError, KeyError, TypeError):
        fail(f"results {path} must hold one JSON object with a name on each line")


def append(path: Path, record: dict[str, Any]) -> None:
    """Keep one result."""
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def markdown(records: dict[str, dict[str, Any]], chosen: Sequence[Mutation]) -> str:
    """The table of results."""
    rows = ["| name | file | mistake | kind | by | result | s |", "|---|---|---|---|---|---|---|"]
    for m in chosen:
        found = records.get(m.name, {"status": "not run", "seconds": 0.0})
        catcher, what = (text.replace("|", "\\|") for text in (m.by.removeprefix("tests/"), m.what))
        file = m.file.removeprefix("theorysim/")
        rows.append(
            f"| {m.name} | {file} | {what} | {m.kind} | {catcher} | {found['status']} | {found['seconds']:.0f} |"
        )
    return "\n".join(rows)


# --- command line ---------------------------------------------------------------------------------------------------


def fail(message: str) -> NoReturn:
    """One line, and exit code 2."""
    print(f"mutations: {message}", file=sys.stderr)
    raise SystemExit(2)


class Parser(argparse.ArgumentParser):
    """Complains in one line."""

    def error(self, message: str) -> NoReturn:
        fail(message)


def select(names: Sequence[str] | None) -> tuple[Mutation, ...]:
    """The mistakes of these names, in their order in the list; all by default. Each must fit its file."""
    known = {m.name for m in MUTATIONS}
    unknown = [name for name in names or () if name not in known]
    if unknown:
        fail(f"no mistake is called {unknown[0]!r}: --list prints the names")
    chosen = tuple(m for m in MUTATIONS if not names or m.name in names)
    for m in chosen:
        if not (ROOT / m.file).is_file():
            fail(f"{m.name}: {m.file} does not exist")
        count = _text(m.file).count(m.old)
        if count != 1:
            fail(f"{m.name}: its text must occur once in {m.file}, got {count} times: {m.old}")
    return chosen


def copy(folder: Path) -> Path:
    """A copy of the sources."""
    tree = folder / "tree"
    tree.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tree / name)
        else:
            shutil.copy2(source, tree / name)
    return tree


def check_originals(tree: Path, chosen: Sequence[Mutation], path: Path, limit: float) -> bool:
    """Whether all catchers pass on the unedited sources; known ones are not run again."""
    known = load(path)
    key = lambda m: f"{m.name}, unedited"
    due = [m for m in chosen if known.get(key(m), {}).get("digest") != digest(m)]
    tests = list(dict.fromkeys(m.by for m in due if not m.is_claim))
    claims = list(dict.fromkeys(m.by for m in due if m.is_claim))
    for catchers in (tests, claims):
        if not catchers:
            continue
        print(f"{len(catchers)} {'tests' if catchers is tests else 'claims'} on unedited sources ...", flush=True)
        outcome = catch(tree, catchers, limit * len(catchers), edited=False)
        if outcome.code != 0:
            print(f"not passed on unedited sources: {outcome.evidence}\n{outcome.said[-4000:]}", file=sys.stderr)
            return False
        print(f"passed in {outcome.seconds:.0f} s", flush=True)
        for m in due:
            if m.by in catchers:
                append(path, {"name": key(m), "digest": digest(m), "status": "passed", "seconds": outcome.seconds})
    return True


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these mistakes alone, even where a result is known")
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="file of results (default: that beside this script)"
    )
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for a catcher (default: %(default)s)")
    parser.add_argument("--list", action="store_true", help="print the mistakes")
    parser.add_argument("--markdown", action="store_true", help="print the results as a table")
    arguments = parser.parse_args(argv)
    if not arguments.limit > 0:
        fail(f"--limit must be positive, got {arguments.limit:g}")
    chosen = select(arguments.only)
    if arguments.list:
        for m in chosen:
            print(f"{m.name}  {m.file}  {m.what}  [{m.by}]")
        return 0
    known = load(arguments.results)
    if arguments.markdown:
        print(markdown(known, chosen))
        return 0
    due = [m for m in chosen if arguments.only or known.get(m.name, {}).get("digest") != digest(m)]
    CONTEXT.set_forkserver_preload(PRELOADED)
    with tempfile.TemporaryDirectory(prefix="theorysim-mutations-") as folder:
        tree = copy(Path(folder))
        if not check_originals(tree, due, arguments.results, arguments.limit):
            return 1
        clock = time.perf_counter()
        for done, m in enumerate(due, 1):
            outcome = plant(tree, m, arguments.limit)
            record = {"name": m.name, "digest": digest(m), "status": outcome.status, "seconds": outcome.seconds}
            known[m.name] = record | {"evidence": outcome.evidence}
            append(arguments.results, known[m.name])
            each = (time.perf_counter() - clock) / done
            left = f"{60 / each:.1f} a minute, {each * (len(due) - done) / 60:.0f} min left"
            print(f"[{done}/{len(due)}] {m.name}: {outcome.status} in {outcome.seconds:.0f} s ({left})", flush=True)
            if outcome.status != "caught":
                print(f"    {outcome.evidence}", flush=True)
    caught = [m for m in chosen if known[m.name]["status"] == "caught"]
    print(f"{len(caught)} of {len(chosen)} planted mistakes caught")
    for m in chosen:
        if m not in caught:
            print(f"not caught: {m.name} ({known[m.name]['status']})")
    return int(len(caught) < len(chosen))


if __name__ == "__main__":
    sys.exit(main())
