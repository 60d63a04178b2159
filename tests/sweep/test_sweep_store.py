"""The store: interruption, corruption, full disks and other processes cost at most the chunk in flight."""

from __future__ import annotations

import errno
import fcntl
import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sweep_toys
import xarray as xr
from sweep_toys import SETTINGS, SLOW, SLOW_SEEDS, SLOW_SETTINGS, WALK, Walk

from theorysim.errors import InputError
from theorysim.sweep import Experiment, SweepError, run
from theorysim.sweep import store as store_module

SEEDS = 11


def markers(root: Path) -> list[Path]:
    return sorted(root.rglob("chunks/*.json"))


def same(a: xr.Dataset, b: xr.Dataset) -> bool:
    return set(a) == set(b) and all(a[name].values.tobytes() == b[name].values.tobytes() for name in a)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Samples computed so far."""
    module, counts = sys.modules["theorysim.sweep.run"], []
    original = module.compute_chunk

    def counting(task: Any) -> Any:
        counts.append(len(task.keys))
        return original(task)

    monkeypatch.setattr(module, "compute_chunk", counting)
    return counts


def test_stored_run_is_read_not_computed(tmp_path: Path, computed: list[int]) -> None:
    plain = run(WALK, SETTINGS, SEEDS)
    first = run(WALK, SETTINGS, SEEDS, store=tmp_path)
    computed.clear()
    second = run(WALK, SETTINGS, SEEDS, store=tmp_path, memory=20_000)  # the stored chunks stay as they are
    assert same(plain, first) and same(first, second) and not computed
    (folder,) = tmp_path.glob("toys/walk/*")
    assert len(markers(tmp_path)) == len(list((folder / "chunks").iterdir()))
    with xr.open_zarr(folder / "data.zarr", consolidated=False, chunks=None) as stored:
        xr.testing.assert_equal(stored.load(), first)
        assert stored.attrs["experiment"] == "toys/walk" and stored.attrs["duration"] >= 0


def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    moments = random.Random(0)
    for kills in (1, 4, 9):
        child = subprocess.Popen([sys.executable, sweep_toys.__file__, str(tmp_path)])
        while len(markers(tmp_path)) < kills and child.poll() is None:
            time.sleep(0.005)
        time.sleep(moments.uniform(0, 0.1))
        child.send_signal(signal.SIGKILL)
        child.wait()
    kept = {path: path.stat().st_mtime_ns for path in markers(tmp_path)}
    resumed = run(SLOW, SLOW_SETTINGS, SLOW_SEEDS, store=tmp_path)
    assert 9 <= len(kept) < len(markers(tmp_path)), "the run must have been killed in between"
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    whole = run(SLOW, SLOW_SETTINGS, SLOW_SEEDS, store=tmp_path / "whole")
    assert same(resumed, whole) and same(whole, run(SLOW, SLOW_SETTINGS, SLOW_SEEDS))
    (here,), (there,) = (
        tmp_path.glob("toys/slow/*/data.zarr/end/c"),
        (tmp_path / "whole").glob("toys/slow/*/data.zarr/end/c"),
    )
    files = [path.relative_to(here) for path in sorted(here.rglob("*")) if path.is_file()]
    assert files and all((here / path).read_bytes() == (there / path).read_bytes() for path in files)


@pytest.mark.parametrize("damage", ["garbage", "bits", "gone", "marker"])
def test_corrupt_chunk_is_named_and_mended(tmp_path: Path, computed: list[int], damage: str) -> None:
    whole = run(WALK, SETTINGS, SEEDS, store=tmp_path)
    (folder,) = tmp_path.glob("toys/walk/*")
    file = sorted(path for path in (folder / "data.zarr" / "mean" / "c").rglob("*") if path.is_file())[-1]
    marker = markers(tmp_path)[0]
    if damage == "garbage":
        file.write_bytes(b"not zstd")
    elif damage == "bits":
        array = store_module.zarr.open_group(folder / "data.zarr", mode="r+")["mean"]
        array[-1, -1] = np.nextafter(array[-1, -1], 1)  # type: ignore[index]
    elif damage == "gone":
        file.unlink()
    else:
        marker.write_text("{")
    computed.clear()
    with pytest.raises(
        InputError, match=r"stored chunk \S*\.json is corrupt .*delete this file and run again"
    ) as error:
        run(WALK, SETTINGS, SEEDS, store=tmp_path)
    assert "\n" not in str(error.value) and not computed
    named = Path(str(error.value).split()[2])
    assert damage != "marker" or named == marker
    named.unlink()
    assert same(run(WALK, SETTINGS, SEEDS, store=tmp_path), whole)
    assert len(computed) == 1


def test_full_disk_keeps_completed_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, room = store_module.write_atomically, iter(range(5))  # the probe, the manifest, three markers

    def limited(path: Path, text: str) -> None:
        if next(room, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, text)

    monkeypatch.setattr(store_module, "write_atomically", limited)
    with pytest.raises(
        SweepError, match=r"\(No space left on device\); 3 of \d+ chunks are kept in \S+, run again"
    ) as error:
        run(WALK, SETTINGS, SEEDS, store=tmp_path)
    assert "\n" not in str(error.value) and len(markers(tmp_path)) == 3
    monkeypatch.undo()
    assert same(run(WALK, SETTINGS, SEEDS, store=tmp_path), run(WALK, SETTINGS, SEEDS))


def test_unwritable_store_is_refused_before_computing(tmp_path: Path, computed: list[int]) -> None:
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", Path("/proc/none")):  # root may write everywhere else
        with pytest.raises(InputError, match="store must be a folder that can be written, got"):
            run(WALK, SETTINGS, SEEDS, store=root)
    assert not computed


def test_store_in_use_is_refused(tmp_path: Path) -> None:
    run(WALK, SETTINGS[:1], 1, store=tmp_path)
    (lock,) = tmp_path.rglob("lock")
    with lock.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="in use by another run"):
            run(WALK, SETTINGS[:1], 1, store=tmp_path)
    run(WALK, SETTINGS[:1], 1, store=tmp_path)


def test_edited_measure_other_seed_or_setting_starts_afresh(tmp_path: Path) -> None:
    def made(factor: float) -> Experiment:
        table = np.linspace(0, factor, 1000)

        def measure(key: Any, setting: Walk) -> dict[str, Any]:
            return {"x": jnp.asarray(table)[-1] * jax.random.normal(key) * setting.eta}

        return Experiment("toys/edited", measure)

    settings = [Walk(1, 0.1), Walk(1, 0.2)]
    first = run(made(1.0), settings, 2, store=tmp_path)
    assert not same(run(made(2.0), settings, 2, store=tmp_path), first)
    run(made(1.0), settings, 2, store=tmp_path, seed=1)
    run(made(1.0), settings, 3, store=tmp_path)
    run(made(1.0), settings[:1], 2, store=tmp_path)
    assert len(list(tmp_path.glob("toys/edited/*"))) == 5
    assert same(run(made(1.0), settings, 2, store=tmp_path), first)  # made anew, the same program
    assert len(list(tmp_path.glob("toys/edited/*"))) == 5


def test_stored_chunks_beyond_the_budget_are_refused(tmp_path: Path) -> None:
    settings = [Walk(n, 0.5) for n in (64, 65)]
    run(WALK, settings, 32, store=tmp_path)
    markers(tmp_path)[0].unlink()
    with pytest.raises(InputError, match=r"a stored chunk of toys/walk at n=64.*--memory, or use another store"):
        run(WALK, settings, 32, store=tmp_path, memory=70_000)


def test_nan_chunks_survive(tmp_path: Path, computed: list[int]) -> None:
    def zero(key: Any, setting: Walk) -> dict[str, Any]:
        return {"nan": 0.0 * jnp.log(-setting.eta) + jnp.zeros(3), "zero": jnp.zeros((), int), "flag": setting.eta > 1}

    experiment = Experiment("toys/zero", zero)
    first = run(experiment, [Walk(1, 0.5), Walk(1, 2.0)], 5, store=tmp_path)
    computed.clear()
    assert same(run(experiment, [Walk(1, 0.5), Walk(1, 2.0)], 5, store=tmp_path), first) and not computed
    assert np.isnan(first["nan"]).all() and first["flag"].values.all(axis=1).tolist() == [False, True]
    assert json.loads(markers(tmp_path)[0].read_text())["device"] == "cpu"
