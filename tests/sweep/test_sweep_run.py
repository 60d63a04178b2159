"""Sweeps in memory: grouping, chunks, executors, precision, errors."""

from __future__ import annotations

import io
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from rich.console import Console
from sweep_toys import FATAL, SETTINGS, WALK, Walk, walk

from theorysim.errors import InputError
from theorysim.sweep import Experiment, SweepError, canonical, program, run, sample_key
from theorysim.sweep.memory import format_memory, host_memory, parse_memory
from theorysim.sweep.program import compute_chunk
from theorysim.sweep.progress import Progress

SEEDS = 11


class Inline(Executor):
    """Runs at submission, in this thread; keeps the tasks."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.batches.append(len(args[0].keys))
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.fixture(scope="module")
def results() -> xr.Dataset:
    return run(WALK, SETTINGS, SEEDS)


@pytest.fixture
def pool() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        yield executor


def test_values_are_those_of_single_samples(results: xr.Dataset) -> None:
    assert dict(results.sizes) == {"setting": 4, "seed": SEEDS, "range_0": 2}
    assert list(results["setting"].values) == [canonical(setting) for setting in SETTINGS]
    for row, setting in enumerate(SETTINGS):
        for column in (0, SEEDS - 1):
            with jax.enable_x64(True):
                alone = walk(sample_key(WALK.id, setting, 0, column), setting)
            # A batched product sums in another order: 20 steps of tanh, each with an error of some units in 1e-16.
            np.testing.assert_allclose(results["mean"][row, column], alone["mean"], rtol=1e-12, atol=1e-14)
            np.testing.assert_allclose(results["range"][row, column], alone["range"], rtol=1e-12, atol=1e-14)


def test_chunks_of_several_settings_and_seeds() -> None:
    settings, inline = [Walk(2, eta) for eta in np.linspace(1, 3, 24).tolist()], Inline()
    found = run(WALK, settings, 2, executor=inline)
    assert set(inline.batches) == {6}  # three settings, two seeds
    for row, column in ((0, 1), (1, 0), (1, 1), (2, 0), (23, 1)):
        with jax.enable_x64(True):
            alone = jax.jit(walk)(sample_key(WALK.id, settings[row], 0, column), settings[row])
        np.testing.assert_allclose(found["range"][row, column], alone["range"], rtol=1e-12, atol=1e-14)


def test_provenance(results: xr.Dataset) -> None:
    expected = {"experiment": "toys/walk", "seed": 0, "seeds": SEEDS, "x64": 1, "jax": jax.__version__}
    assert expected.items() <= results.attrs.items()
    assert {"theorysim", "jaxlib", "numpy", "python", "device", "platform", "start", "duration", "chunks"} <= set(
        results.attrs
    )


def test_chunks_differ_by_rounding_alone(results: xr.Dataset) -> None:
    inline = Inline()
    small = run(WALK, SETTINGS, SEEDS, memory=6_000, executor=inline)
    assert small.attrs["chunks"] != results.attrs["chunks"]
    for name in results:
        np.testing.assert_allclose(small[name], results[name], rtol=1e-12, atol=1e-14)


def test_same_bits_in_another_executor_and_order(results: xr.Dataset, pool: ProcessPoolExecutor) -> None:
    assert run(WALK, SETTINGS, SEEDS, executor=pool)["range"].values.tobytes() == results["range"].values.tobytes()
    inline, backward = Inline(), [2, 0, 3, 1]
    permuted = run(WALK, [SETTINGS[i] for i in backward], SEEDS, executor=inline)
    assert permuted["range"].values.tobytes() == results["range"].values[backward].tobytes()
    # One shape is compiled per group, the last chunk included.
    assert len(set(inline.batches)) == 1


def test_groups_are_static_fields() -> None:
    inline = Inline()
    settings = [Walk(4, eta, kind) for kind in ("plain", "other") for eta in (0.1, 0.2)]
    before = programs()
    run(Experiment("toys/groups", walk), settings, 1, executor=inline)
    assert programs() - before == 2 and inline.batches == [1, 1, 1, 1]
    run(Experiment("toys/groups", walk), [Walk(4, 0.7), Walk(4, 0.8)], 1, executor=inline)
    assert programs() - before == 2  # other numbers, the same program


def programs() -> int:
    return program.compiled.cache_info().misses


def test_memory_budget_is_kept_and_names_itself() -> None:
    def hungry(key: Any, setting: Walk) -> dict[str, Any]:
        matrix = jax.random.normal(key, (setting.n, setting.n))
        return {"norm": jnp.linalg.norm(matrix @ jnp.sin(matrix))}

    # A sample of n = 512 in float64 holds at least its matrix: 2.1 MB.
    experiment = Experiment("toys/hungry", hungry)
    with pytest.raises(InputError, match=r"one sample of toys/hungry at n=512.* needs .* MB.*of 1 MB.*--memory"):
        run(experiment, [Walk(512, 0.1)], 64, memory=1e6, executor=(inline := Inline()))
    assert not inline.batches
    run(experiment, [Walk(128, 0.1)], 64, memory=2e6, executor=inline)
    assert 1 <= inline.batches[0] < 8  # with memory enough it is an eighth of the 64 samples
    halved = Inline()
    run(experiment, [Walk(128, 0.1)], 64, memory=2e6, executor=halved, workers=2)
    assert halved.batches[0] < inline.batches[0]
    # In threads, a sample that fits alone but not beside another runs alone.
    alone = run(experiment, [Walk(128, 0.1)], 2, memory=1e6, workers=4)
    assert alone.sizes["seed"] == 2


def test_operations_bound_a_chunk() -> None:
    inline = Inline()
    run(Experiment("toys/operations", walk, operations=lambda setting: 6e10), [Walk(4, 0.1)], 32, executor=inline)
    assert inline.batches == [1] * 32


def test_x64_does_not_leak() -> None:
    def dtype(key: Any, setting: Walk) -> dict[str, Any]:
        return {"x": jnp.ones(()) * setting.eta}

    before = jax.config.read("jax_enable_x64")
    for x64, expected in ((True, np.float64), (False, np.float32)):
        assert run(Experiment("toys/dtype", dtype, x64=x64), [Walk(1, 0.1)], 3)["x"].dtype == expected
        assert jax.config.read("jax_enable_x64") == before
        assert jnp.ones(()).dtype == (jnp.float64 if before else jnp.float32)


def test_nan_is_kept() -> None:
    def root(key: Any, setting: Walk) -> dict[str, Any]:
        return {"x": jnp.sqrt(0.5 - setting.eta), "y": jnp.ones(())}

    values = run(Experiment("toys/nan", root), [Walk(1, 0.25), Walk(1, 1.0)], 2)
    assert np.isnan(values["x"][1]).all() and (values["x"][0] == 0.5).all() and (values["y"] == 1).all()


def test_observables_of_different_shapes_are_named() -> None:
    def ragged(key: Any, setting: Walk) -> dict[str, Any]:
        return {"x": jnp.ones(setting.n)}

    with pytest.raises(InputError, match=r"x float64\[3\] at n=3.*x float64\[4\] at n=4"):
        run(Experiment("toys/ragged", ragged), [Walk(3, 0.1), Walk(4, 0.1)], 1)


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        ([], {}, "settings of toys/walk must not be empty"),
        ([Walk(3, 1.0), Walk(3, 1.0)], {}, "settings of toys/walk must differ, got Walk"),
        ([Walk(3, 1.0)], {"seeds": 0}, "seeds must be an integer >= 1, got 0"),
        ([Walk(3, 1.0)], {"seed": -1}, "seed must be an integer >= 0, got -1"),
        ([Walk(3, 1.0)], {"memory": 0}, "memory must be a positive number of bytes, got 0"),
        ([Walk(3, 1.0)], {"workers": 0}, "workers must be an integer >= 1, got 0"),
    ],
)
def test_bad_arguments(settings: list[Walk], options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(WALK, settings, **{"seeds": 1, **options})


def test_bad_experiment_ids() -> None:
    for name in ("", "a//b", "../b", "/a"):
        with pytest.raises(InputError, match="id of an experiment"):
            Experiment(name, walk)


def test_lost_worker_keeps_what_was_done(tmp_path: Path, pool: ProcessPoolExecutor) -> None:
    settings = [Walk(1, 0.5), Walk(1, 0.75), Walk(1, 2.0)]
    with pytest.raises(
        SweepError, match=r"toys/fatal: a worker failed .*BrokenProcessPool.* run again to resume"
    ) as one:
        run(FATAL, settings, 1, store=tmp_path, executor=pool)
    assert "\n" not in str(one.value)
    assert len(list(tmp_path.rglob("chunks/*.json"))) == 2  # one worker, in order: the two before the fatal one


def test_failing_chunk_is_one_line() -> None:
    class Broken(Inline):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            assert fn is compute_chunk

            def fail(task: Any) -> None:
                raise RuntimeError("RESOURCE_EXHAUSTED:\n out of memory")

            return super().submit(fail, *args)

    with pytest.raises(
        SweepError, match=r"RESOURCE_EXHAUSTED: out of memory\); 0 of \d+ chunks were done, none is kept"
    ):
        run(WALK, SETTINGS, SEEDS, executor=Broken())


def test_several_devices_share_a_batch(tmp_path: Path) -> None:
    script = (
        "import sys, numpy as np, jax; from sweep_toys import *; assert jax.local_device_count() == 2;"
        "np.save(sys.argv[1], run(WALK, SETTINGS, 11)['range'].values)"
    )
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    file, folder = tmp_path / "range.npy", Path(__file__).parent
    subprocess.run([sys.executable, "-c", script, str(file)], cwd=folder, env=environment, check=True)
    np.testing.assert_allclose(np.load(file), run(WALK, SETTINGS, 11)["range"], rtol=1e-12, atol=1e-14)


def test_progress_is_quiet_unless_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    run(WALK, SETTINGS, SEEDS)
    assert capfd.readouterr() == ("", "")
    stream = io.StringIO()
    with Progress(console=Console(file=stream, force_terminal=True, width=120)) as progress:
        run(WALK, SETTINGS, SEEDS, progress=progress)
        run(WALK, SETTINGS[:1], SEEDS, progress=progress)
    assert "toys/walk" in stream.getvalue() and "55/55" in stream.getvalue()


def test_memory_texts(tmp_path: Path) -> None:
    assert [parse_memory(text) for text in ("4", "4GB", "0.5 gb", "512MiB")] == [4e9, 4e9, 5e8, 2.0**29]
    for text in ("", "-1", "0", "4 apples", "nan"):
        with pytest.raises(InputError, match="memory must be a positive number of GB"):
            parse_memory(text)
    assert format_memory(3.21e9) == "3.21 GB" and format_memory(12) == "12 bytes"
    whole = host_memory(tmp_path)
    (tmp_path / "memory.max").write_text("max\n")
    assert host_memory(tmp_path) == whole
    (tmp_path / "memory.max").write_text("1000000\n")
    assert host_memory(tmp_path) == 1e6


def test_programs_that_factorise_batches_do_not_wait_for_each_other():
    """Four of them on as many threads, which without precautions stand still within seconds (jaxlib 0.10)."""
    code = "from sweep_toys import SPECTRUM, Walk; from theorysim.sweep import run; "
    code += "print(float(run(SPECTRUM, [Walk(n, 0.1) for n in (20, 21, 22, 23)], 300, workers=4)['largest'].min()))"
    here = {"cwd": Path(__file__).parent, "capture_output": True, "text": True}
    found = subprocess.run([sys.executable, "-c", code], timeout=240, check=True, **here)
    assert float(found.stdout) > 0


def test_brief_programs_agree_up_to_rounding(results: xr.Dataset, tmp_path: Path) -> None:
    found = run(WALK, SETTINGS, SEEDS, brief=True)
    for name in results.data_vars:
        np.testing.assert_allclose(found[name], results[name], rtol=1e-12, atol=1e-14)
    both = [run(WALK, SETTINGS[:1], 2, brief=brief, store=tmp_path).attrs["fingerprint"] for brief in (False, True)]
    assert both[0] != both[1]  # rounding may differ, so neither resumes the other


def test_options_that_the_compiler_does_not_have_are_left_out() -> None:
    assert not program._is_known("xla_cpu_no_such_option", True)
    assert program._options(program.Program.of(WALK)) == {}


def eigenvalue(key: Any, setting: Walk) -> dict[str, Any]:
    """By LAPACK, at a size where it would use several threads."""
    matrix = jax.random.normal(key, (300, 300))
    return {"smallest": jnp.linalg.eigvalsh(matrix @ matrix.T)[0]}


def test_results_do_not_depend_on_how_many_chunks_run_beside_each_other() -> None:
    experiment = Experiment("toys/eigenvalue", eigenvalue, operations=lambda s: 1e12)  # one sample a chunk
    together = run(experiment, SETTINGS[:1], 3, workers=3)
    alone = [run(experiment, SETTINGS[:1], 1, first=index) for index in range(3)]
    assert together["smallest"].values[0].tolist() == [found["smallest"].item() for found in alone]
