"""The figures of in-context learning: lines against reference values, all panels drawn, and their measurements at tiny sizes.

Figures are drawn from invented results of the shapes that the measurements have, so that no figure needs a simulation here.
"""

from __future__ import annotations

from typing import Any

import jax
import matplotlib.figure
import numpy as np
import pytest
from experiment_scripts import script
from matplotlib.axes import Axes

from theorysim.errors import InputError
from theorysim.kernels import decoder
from theorysim.papers.single_index_icl import (
    figures_kernel,
    figures_learners,
    figures_pretraining,
    floor,
    measurements,
    pretraining,
    regression,
)
from theorysim.papers.single_index_icl.figures import FIGURES
from theorysim.papers.single_index_icl.measurements import Alone, Decoding, Network, Training
from theorysim.papers.single_index_icl.regression import PAPER, link_of, points
from theorysim.papers.single_index_icl.setting import HE2, MIX, Tasks
from theorysim.papers.single_index_icl.theory import prompt_only
from theorysim.papers.single_index_icl.theory.attention_floor import attention_floor
from theorysim.plots import Figure, styled
from theorysim.sweep import Experiment
from theorysim.verify import Design
from theorysim.verify.session import Session

BY_NAME = {figure.id.split(".", 1)[1]: figure for figure in FIGURES}


SHAPES = {
    measurements.TRAINING: lambda s: {"risk": (2, len(s.lengths), 4), "inside": (), "full": ()},
    measurements.ALONE: lambda s: dict.fromkeys(("ridge", "unknown", "known"), (len(s.lengths),)),
    measurements.NETWORK: lambda s: {"risk": ()},
    measurements.DECODING: lambda s: {"risk": (s.examples,), "error": (s.examples,)},
    pretraining.STEP: lambda s: dict.fromkeys(("rho", "along", "outside", "full", "inside", "orthogonal"), (s.m,)),
    floor.HALF_LENGTHS: lambda s: {"half": s.r.shape},
    regression.REGRESSION: lambda s: {"risk": ()},
    regression.PLANE: lambda s: {"bayes": (len(s.lengths),)},
}


class Invented(Session):
    """Results uniform on [.1, .9], in the shapes of the measurements."""

    def measure(self, experiment: Experiment, design: Design) -> list[dict[str, np.ndarray]]:
        rng = np.random.default_rng(0)
        return [
            {name: rng.uniform(0.1, 0.9, (design.seeds, *shape)) for name, shape in SHAPES[experiment](setting).items()}
            for setting in design.settings
        ]


def drawn(figure: Figure) -> matplotlib.figure.Figure:
    with styled():
        drawing = figure.draw(Invented())
        drawing.draw_without_rendering()  # lays out all labels
    assert all(panel.has_data() for panel in drawing.axes)
    return drawing


def series(axes: Axes) -> list[np.ndarray]:
    """The measured series of a panel, as (x, y) rows."""
    return [container.lines[0].get_xydata() for container in axes.containers]


def at(axes: Axes, x: float, style: str = "-") -> list[float]:
    """Heights at x of all lines of a style that have no markers, where they reach it; interpolated in logarithms."""
    found = []
    for drawn_line in axes.lines:
        X, Y = (np.asarray(values, float) for values in drawn_line.get_data())
        if (
            drawn_line.get_linestyle() == style
            and drawn_line.get_marker() == "None"
            and X.size > 5
            and X[0] <= x <= X[-1]
        ):
            found.append(float(np.exp(np.interp(np.log(x), np.log(X), np.log(Y)))))
    return found


def test_figures_are_named_and_asked():
    assert list(BY_NAME) == [f"figure-{k}" for k in range(1, 7)]
    assert all(figure.id.startswith(f"{PAPER}.") and figure.question.endswith("?") for figure in FIGURES)
    sizes = (
        figures_learners.SIZES,
        figures_learners.COMPARISONS,
        figures_learners.GRIDS,
        figures_learners.POSSIBLE,
        figures_pretraining.ALIGNMENTS,
        figures_pretraining.RATES,
        figures_kernel.SIZES,
    )
    assert all(list(presets) == ["quick", "standard", "paper"] for presets in sizes)
    for size in figures_learners.SIZES.values():
        assert all(size.networks[-1] % n == 0 for n in size.networks)


# --- lines ------------------------------------------------------------------------------------------------------------


def test_learners():
    single, before = drawn(BY_NAME["figure-1"]).axes
    assert len(series(single)) == 4
    assert len(series(before)) == 2
    # Fl_64(2) of He_2 at tau = .1
    assert at(before, 64.0) == pytest.approx([0.0320508], rel=2e-3)


def test_dimensions():
    same, shifted = drawn(BY_NAME["figure-2"]).axes
    assert at(same, 64.0) == pytest.approx([0.0320508] * 3, rel=2e-3)
    assert at(same, 64.0, "--")[::2] == pytest.approx([0.355141, 0.664244], rel=2e-3)
    assert at(shifted, 64.0)[::2] == pytest.approx([0.032051, 0.130122], rel=2e-3)


def test_alignments_follow_the_formula():
    raw, scaled = drawn(BY_NAME["figure-3"]).axes
    # At T1 = T1*, averaged over w: d = 8, 12, 16.
    assert at(scaled, 1.0) == pytest.approx([0.7334, 0.7189, 0.7303], abs=2e-3)
    assert at(raw, 1600.0)[0] == pytest.approx(0.827, abs=5e-3)
    multiples = sorted(round(float(points[0, 0]), 2) for points in series(scaled))
    assert multiples[-1] == pytest.approx(10, rel=0.01)
    assert len(multiples) == 14  # 10 T1* at d = 16 is too long for this preset


def test_what_is_possible():
    small, _ = drawn(BY_NAME["figure-4"]).axes
    # Fl_256(2), and kernel regression at d = 8; linear optima at r = 2 and d = 8
    lines = at(small, 256.0)
    assert lines[1] == pytest.approx(0.0016, rel=0.1)
    assert lines[3] == pytest.approx(0.008268, rel=2e-3)
    assert at(small, 256.0, "--") == pytest.approx([0.125395], rel=2e-3)
    assert at(small, 100.0, ":") == pytest.approx([1e-4], rel=1e-3)
    assert len(series(small)) == 6


@pytest.mark.slow
def test_rates():
    half, tasks = drawn(BY_NAME["figure-5"]).axes
    assert [at(half, 64.0, style)[0] for style in ("-", "--")] == pytest.approx([2241.5, 2302.7], rel=0.02)
    assert at(tasks, 16.0)[0] == pytest.approx(23082, rel=0.02)


def test_staircase():
    steps, ratios = drawn(BY_NAME["figure-6"]).axes
    levels = [float(drawn_line.get_ydata()[0]) for drawn_line in steps.lines if drawn_line.get_linestyle() == ":"]
    assert levels == pytest.approx([1, 2 / 3, 1 / 3, 0])
    assert len(series(steps)) == len(series(ratios)) == 2


def test_decoders_are_drawn(monkeypatch):
    sizes = {"examples": 5, "width": 4, "layers": 1, "heads": 1, "steps": 2, "tests": 64}
    monkeypatch.setitem(figures_learners.COMPARISONS, "quick", figures_learners.Comparison((6,), 2, MIX, sizes))
    _, before = drawn(BY_NAME["figure-1"]).axes
    assert any(drawn_line.get_linestyle() == "-." and drawn_line.get_xdata().size == 4 for drawn_line in before.lines)


def test_prompt_lengths_are_printed(capsys):
    size = figures_learners.SIZES["quick"]
    figure = Figure(
        f"{PAPER}.x", "?", lambda session: figures_learners.prompt_length(session, HE2, (6, 8), (2,), 0.1, 0.0, size)
    )
    drawn(figure)
    out = capsys.readouterr().out
    assert "information exponent Q = 2" in out
    assert out.count("floor 0.03205") == 2


# --- estimates --------------------------------------------------------------------------------------------------------


def test_ratio_of_sums():
    """Against its definition: leave one out."""
    rng = np.random.default_rng(0)
    a, b = rng.uniform(1, 2, (2, 6))
    whole = a.sum() / b.sum()
    without = np.array([np.delete(a, i).sum() / np.delete(b, i).sum() for i in range(6)])
    assert measurements.ratio(a, b) == pytest.approx(6 * whole - 5 * without)
    assert measurements.ratio(2 * b, b) == pytest.approx(2 * np.ones(6))
    assert measurements.ratio(a[:1], b[:1]) == pytest.approx(a[:1] / b[:1])


def test_ridge_is_chosen_on_the_other_half():
    risk = np.array([[[[1.0, 2.0]], [[4.0, 3.0]]]])  # one seed and length: the second ridge is worse on the first half
    assert measurements.risk_held_out({"risk": risk}) == pytest.approx(np.array([[(2.0 + 4.0) / 2]]))


def test_critical_tasks_from_statistics():
    """Statistics without noise give T1* exactly."""
    step = pretraining.Step(Tasks(8, 2, HE2, 0.3), 500.0)
    rho = np.random.default_rng(0).uniform(0.2, 0.8, (3, 5))
    alpha, B, V = 0.7, 0.1, 2.0
    results = {
        "rho": rho,
        "along": 2 * (alpha * rho**2 + B) * rho**2,
        "outside": 2 * B * (1 - rho**2),
        "orthogonal": np.full((3, 5), (8 - 2 - 1) * V / 500),
    }
    expected = 6 * V / (4 * alpha**2 * (2 / 8) ** 3)
    assert np.exp(figures_pretraining.log_critical(step, results)) == pytest.approx(np.full(3, expected))


# --- measurements -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_training_recovers_the_subspace():
    """d = 3, r = 2: the share of the gradient in the subspace, and risks below that of predicting nothing."""
    setting = Training(Tasks(3, 2, HE2, 0.1), 300.0, (4, 64), N1=32, m=16, T2=800, N2=64, tests=128, queries=8)
    with jax.enable_x64(True):
        found = jax.jit(measurements.training)(jax.random.key(0), setting)
    results = {name: np.asarray(value)[None] for name, value in found.items()}
    assert {name: array.shape[1:] for name, array in results.items()} == SHAPES[measurements.TRAINING](setting)
    assert (measurements.alignment_of(results) > 0.7).all()
    ((short, long),) = measurements.risk_held_out(results)
    assert attention_floor(64, link_of(HE2), 2, 0.1) < long < 0.7
    assert long < short


def test_prompt_only_risks():
    """Linear optima are those of the theory at the same points."""
    key, setting = jax.random.key(0), Alone(Tasks(3, 2, HE2, 0.3), (6,), queries=8)
    with jax.enable_x64(True):
        results = {name: float(value[0]) for name, value in jax.jit(measurements.alone)(key, setting).items()}
        inputs = np.asarray(jax.jit(lambda: points(key, setting.tasks, 14))())
    for name, r in (("unknown", 3), ("known", 2)):
        found = prompt_only.linear_optimum(inputs[:6, :r], inputs[6:, :r], link_of(HE2), 0.3)
        assert results[name] == pytest.approx(found.risk.mean(), rel=1e-9)
    assert results["ridge"] > results["unknown"]


def test_shapes_are_those_of_the_measurements():
    setting = Network(Tasks(2, 2, HE2, 0.1), 1.0, 2, steps=2, width=4, queries=2)
    with jax.enable_x64(True):
        found = jax.eval_shape(measurements.network, jax.random.key(0), setting)
    assert {name: leaf.shape for name, leaf in found.items()} == SHAPES[measurements.NETWORK](setting)


def test_settings_refuse():
    tasks = Tasks(4, 2, HE2, 0.1)
    for make, message in (
        (lambda: Training(tasks, 0.0, (4,)), "number of tasks T1 must be at least 1"),
        (lambda: Training(tasks, 1.0, ()), "lengths must be at least 1"),
        (lambda: Training(tasks, 1.0, (4,), tests=3), "tests must be even"),
        (lambda: Training(tasks, 1.0, (4,), m=0), "m must be at least 1"),
        (lambda: Alone(Tasks(4, 2, HE2, 0.0), (4,)), "tau must be positive"),
        (lambda: Alone(tasks, (0,)), "lengths must be at least 1"),
        (lambda: Alone(tasks, (4,), ridge=0.0), "ridge must be positive"),
        (lambda: Network(tasks, 3.0, 8), "n must divide 8, got 3"),
        (lambda: Decoding(tasks, 8, steps=0), "steps must be at least 1"),
        (lambda: Decoding(tasks, 8, width=6, heads=4), "width must be a multiple of heads"),
    ):
        with pytest.raises(InputError, match=message):
            make()


# --- the decoder's script ---------------------------------------------------------------------------------------------


def test_decoder_reports_and_figure(monkeypatch, capsys, tmp_path):
    """Training is replaced by a result of two steps; the figure, the table and the progress lines are those of the script."""
    module = script("icl_gpt2", monkeypatch)

    def trained(key: Any, config: decoder.Config, law: Any, optimizer: Any, **options: Any) -> decoder.State:
        for step in (10, 20, 30):
            options["callback"](decoder.Progress(step, 0.5))
        assert options["checkpoint"].parent == tmp_path / f"{PAPER}.gpt2"
        return decoder.State(None, None, jax.numpy.int32(30))

    monkeypatch.setattr(module.decoder, "train", trained)
    curve = decoder.Curve(np.linspace(1, 0.2, 8), np.full(8, 0.01))
    monkeypatch.setattr(module.jax, "jit", lambda function: lambda key, params: curve)
    (figure,) = module.Options(d=(4, 6), examples=8, steps=30, out=tmp_path).figures()
    drawn(figure)
    out = capsys.readouterr().out
    assert "d = 6, r = 2: step 30 of 30, loss 0.5000" in out
    assert "4 examples: risk" in out


def test_damaged_checkpoints_are_named(monkeypatch, tmp_path):
    module = script("icl_gpt2", monkeypatch)
    setting = module.setting_of(Tasks(4, 2, HE2, 0.1), module.SIZES["quick"], 64)
    monkeypatch.setattr(module.hashlib, "sha256", lambda text: type("", (), {"hexdigest": lambda self: "0" * 12})())
    (tmp_path / "d4-r2-000000000000.npz").write_text("junk")
    with pytest.raises(InputError, match=r"damaged .*d4-r2-0+\.npz': remove it"):
        module.train(setting, tmp_path, 10, Session())
