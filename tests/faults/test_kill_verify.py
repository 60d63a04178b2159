"""`theorysim verify` killed without warning, at several moments, and started again: nothing is lost and no bit differs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

CLAIM = "large-stepsize-gd.margin-only-nearly-monotone"
PATIENCE = 120.0
"""Seconds after which a run is taken to hang."""


def start(folder: Path) -> subprocess.Popen[str]:
    """The command line in a process of its own. A stated memory fixes the chunks, whatever else the machine does."""
    options = ["--preset", "quick", "--memory", "1GB", "--store", str(folder / "store"), "--json", str(folder / "json")]
    command = [sys.executable, "-c", "import sys; from theorysim.cli import main; sys.exit(main())", "verify", CLAIM]
    return subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def markers(folder: Path) -> dict[str, int]:
    """Finished chunks, each with the time at which it was written."""
    return {path.name: path.stat().st_mtime_ns for path in (folder / "store").rglob("chunks/*.json")}


def finish(folder: Path) -> dict[str, Any]:
    """Run to the end; the verdict."""
    process = start(folder)
    try:
        _, complaint = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 0, complaint
    (verdict,) = json.loads((folder / "json").read_text())
    return verdict


def kill_at(folder: Path, chunks: int) -> None:
    """Start a run and kill it once that many chunks are there (zero: as soon as its folder is)."""
    process, deadline = start(folder), time.monotonic() + PATIENCE
    try:
        while process.poll() is None and time.monotonic() < deadline:
            if (folder / "store" / "large-stepsize-gd").exists() and len(markers(folder)) >= chunks:
                break
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == -signal.SIGKILL, "the run ended before it could be killed"


def arrays(folder: Path) -> dict[str, np.ndarray]:
    """Everything that is stored, by path."""
    found = {}
    for data in (folder / "store").rglob("data.zarr"):
        group = zarr.open_group(data, mode="r")
        found |= {f"{data.relative_to(folder)}/{name}": np.asarray(array[:]) for name, array in group.arrays()}
    return found


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_killed_runs_resume_bit_for_bit(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir(), broken.mkdir()
    expected = finish(whole)
    kept: dict[str, int] = {}
    total = len(markers(whole))
    assert total >= 4
    for chunks in (0, total // 2):
        kill_at(broken, chunks)
        now = markers(broken)
        # What an earlier run finished is neither lost nor computed again.
        assert kept.items() <= now.items()
        kept = now
    assert len(kept) >= 1
    verdict = finish(broken)
    assert kept.items() <= markers(broken).items()
    assert {k: v for k, v in verdict.items() if "seconds" not in k and k != "checks"} == {
        k: v for k, v in expected.items() if "seconds" not in k and k != "checks"
    }
    one, other = arrays(whole), arrays(broken)
    assert one.keys() == other.keys() and len(one) > 10
    for name, values in one.items():
        assert values.dtype == other[name].dtype and values.shape == other[name].shape
        if values.dtype.kind in "OTU":  # texts of the settings
            assert values.tolist() == other[name].tolist()
        else:
            assert values.tobytes() == other[name].tobytes(), name
