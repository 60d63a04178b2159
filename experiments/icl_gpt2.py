"""A GPT-2-style decoder trained on single-index prompts, with checkpoints: risk against the number of examples in the prompt."""

import hashlib
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import jax
import matplotlib.figure
import numpy as np
from jax import random
from matplotlib.ticker import NullFormatter
from tyro.conf import arg

from theorysim.cli.options import number
from theorysim.cli.script import Script, main
from theorysim.errors import require
from theorysim.kernels import decoder
from theorysim.papers.single_index_icl.figures_pretraining import MARKERS
from theorysim.papers.single_index_icl.measurements import Decoding
from theorysim.papers.single_index_icl.own import LinkOptions, describe, report
from theorysim.papers.single_index_icl.regression import PAPER, REGRESSION, Regression, link_of
from theorysim.papers.single_index_icl.setting import HE2, MIX, Tasks
from theorysim.papers.single_index_icl.theory.attention_floor import attention_floor, zero_shot_risk
from theorysim.plots import COLORS, TEXT, Figure, band, canvas, letters, points, proxy, shared_legend
from theorysim.plots import theory as line
from theorysim.sweep import canonical, sample_key
from theorysim.verify import Design
from theorysim.verify.session import Session

QUESTION = "Does a decoder learn single-index tasks in context, from how many examples, and is that the same in all dimensions?"


class Size(NamedTuple):
    """d, r: trained are all combinations. examples: N. draws: of the inputs for kernel regression."""

    d: tuple[int, ...]
    r: tuple[int, ...]
    examples: int
    width: int
    layers: int
    heads: int
    steps: int
    rate: float
    tests: int
    draws: int


SIZES = {
    "quick": Size((4,), (2,), 32, 64, 4, 4, 2000, 2e-3, 2048, 32),
    "standard": Size((4, 8), (2,), 32, 64, 4, 4, 10_000, 2e-3, 2048, 32),
    "paper": Size((16, 32, 64), (8,), 257, 256, 12, 8, 200_000, 1e-4, 8192, 32),
}
WARM_UP = 250
"""Steps in which the learning rate grows."""
SHOWN = (0, 1, 2, 4, 8, 16, 31, 64, 128, 256)


@dataclass(frozen=True, kw_only=True)
class Options(Script, LinkOptions):
    """Options of this script. Defaults are those of the preset: quick takes minutes on a CPU, paper needs an accelerator."""

    d: Annotated[tuple[int, ...], arg(metavar="INT ...")] = ()
    """Dimensions of the inputs. Default: those of the preset, as for all sizes."""

    r: Annotated[tuple[int, ...], arg(metavar="INT ...")] = ()
    """Dimensions of the subspace, up to d."""

    tau: Annotated[float, number("--tau", float)] = 0.1
    """Standard deviation of the labels' noise."""

    examples: Annotated[int | None, number("--examples", int)] = None
    """Most examples N of a prompt."""

    width: Annotated[int | None, number("--width", int)] = None
    """Width E of the decoder, a multiple of the heads."""

    layers: Annotated[int | None, number("--layers", int)] = None
    """Layers of the decoder."""

    heads: Annotated[int | None, number("--heads", int)] = None
    """Attention heads of each layer."""

    steps: Annotated[int | None, number("--steps", int)] = None
    """Steps of Adam in all, those before a resumption included."""

    batch: Annotated[int, number("--batch", int)] = 64
    """Prompts in a step, each used once."""

    rate: Annotated[float | None, number("--rate", float)] = None
    """Learning rate after the warm-up."""

    save_every: Annotated[int, number("--save-every", int)] = 500
    """Steps between checkpoints. The same command resumes from the last one."""

    def figures(self) -> tuple[Figure, ...]:
        """The figure of the options."""
        link = self.chosen(MIX if self.preset == "paper" else HE2)
        given = {name: getattr(self, name, None) for name in Size._fields}
        size = SIZES[self.preset]._replace(**{name: value for name, value in given.items() if value not in (None, ())})
        require(size.examples >= 2, f"--examples must be at least 2, got {size.examples}")
        require(self.save_every >= 1, f"--save-every must be at least 1, got {self.save_every}")
        settings = tuple(setting_of(Tasks(d, r, link, self.tau), size, self.batch) for r in size.r for d in size.d)
        require(
            size.steps * self.batch < 2**32, f"--steps times --batch must be below 2^32, got {size.steps * self.batch}"
        )
        folder = self.out / f"{PAPER}.gpt2"
        draw = partial(gpt2, settings=settings, size=size, folder=folder, save_every=self.save_every)
        return (Figure(f"{PAPER}.gpt2", QUESTION, draw),)


def setting_of(tasks: Tasks, size: Size, batch: int) -> Decoding:
    """Of one decoder. Raises InputError for impossible sizes."""
    shape = (size.examples, size.width, size.layers, size.heads)
    return Decoding(tasks, *shape, size.steps, batch, size.rate, size.tests)


class Trained(NamedTuple):
    """curve: risk in the subspace. outside: for directions in another one, where d >= 2 r. loss: at the end."""

    setting: Decoding
    curve: decoder.Curve
    outside: decoder.Curve | None
    step: int


def train(setting: Decoding, folder: Path, save_every: int, session: Session) -> Trained:
    """Train, or go on from the checkpoint of the same options, and test. Raises InputError for a damaged checkpoint."""
    tasks, law, config = setting.tasks, setting.tasks.law(), setting.config()
    # The number of steps is left out: with more of them the same run goes on.
    same = Decoding(
        tasks, setting.examples, setting.width, setting.layers, setting.heads, 1, setting.batch, setting.rate
    )
    name = hashlib.sha256(f"{canonical(same)} {session.seed}".encode()).hexdigest()[:12]
    checkpoint = folder / f"d{tasks.d}-r{tasks.r}-{name}.npz"
    sound = not checkpoint.exists() or zipfile.is_zipfile(checkpoint)
    require(sound, f"checkpoint must be one that this script wrote, got a damaged {str(checkpoint)!r}: remove it")
    of_training, of_tests = random.split(sample_key(f"{PAPER}/gpt2", same, session.seed, 0))
    label = f"d = {tasks.d}, r = {tasks.r}"
    state = decoder.train(
        of_training,
        config,
        law,
        decoder.adam(setting.rate, warm_up=WARM_UP),
        steps=setting.steps,
        batch=setting.batch,
        per_dispatch=10 if jax.default_backend() == "cpu" else 100,
        callback=reporter(label, setting.steps, session),
        checkpoint=checkpoint,
        save_every=save_every,
    )
    measure = lambda transform: jax.jit(
        lambda key, params: decoder.risk(key, params, config, law, prompts=setting.tests, transform=transform)
    )(of_tests, state.params)
    elsewhere = lambda batch: batch._replace(X=batch.X[..., ::-1])
    outside = measure(elsewhere) if tasks.d >= 2 * tasks.r else None
    return Trained(setting, measure(lambda batch: batch), outside, int(state.step))


def reporter(label: str, steps: int, session: Session) -> Callable[[decoder.Progress], None]:
    """Shows loss, rate and time left: on the bar, and where there is none about twenty times a run."""
    known: list[tuple[float, int]] = []
    shown = -1

    def show(progress: decoder.Progress) -> None:
        nonlocal shown
        now = time.perf_counter()
        if not known:  # the first call has compiled
            known.append((now, progress.step))
            if session.progress is not None:
                session.progress.begin(label, steps - progress.step)
            return
        if session.progress is not None:
            session.progress.begin(f"{label}, loss {progress.loss:.3f}", 0)
            session.progress.advance(progress.step - known[-1][1])
        known.append((now, progress.step))
        part = 20 * progress.step // steps
        if part > shown and not sys.stderr.isatty():
            shown = part
            (start, first), (end, last) = known[0], known[-1]
            rate = (last - first) / (end - start)
            left = (steps - last) / rate
            print(
                f"{label}: step {last:,} of {steps:,}, loss {progress.loss:.4f}, {rate:.3g} steps/s, {left:.0f} s left",
                flush=True,
            )

    return show


def gpt2(
    session: Session, settings: tuple[Decoding, ...], size: Size, folder: Path, save_every: int
) -> matplotlib.figure.Figure:
    """Risk over the number of examples, inside and outside of the subspace, and against kernel regression; prints them."""
    link, tau = settings[0].tasks.link, settings[0].tasks.tau
    print(report(link))
    trained = [train(setting, folder, save_every, session) for setting in settings]
    drawing, axes = canvas(1, 2, width=TEXT, height=3.3, sharey=True)
    learned, compared = axes[0]
    N = np.arange(1, size.examples, dtype=float)
    lengths = tuple(n for n in (4, 8, 16, 32, 64, 128, 256) if n < size.examples)
    handles = []
    for one, color, marker in zip(trained, COLORS * len(trained), MARKERS * len(trained), strict=False):
        tasks = one.setting.tasks
        for panel, found, style in ((learned, one.curve, "-"), (compared, one.curve, "-"), (learned, one.outside, ":")):
            if found is not None:
                risk, error = np.asarray(found.risk)[1:], 1.96 * np.asarray(found.error)[1:]
                band(panel, N, np.maximum(risk - error, 1e-6), risk + error, color=color)
                panel.plot(N, risk, color=color, linestyle=style)
        runs = tuple(Regression(Tasks(tasks.d, tasks.d, link, tau), n) for n in lengths)
        ridge = np.stack([r["risk"] for r in session.measure(REGRESSION, Design(runs, size.draws))], axis=1)
        points(compared, np.array(lengths, float), ridge, label=None, color=color, marker=marker)
        handles.append(proxy(f"$d = {tasks.d}$, $r = {tasks.r}$, {one.step:,} steps", color, marker, "-"))
        tell(one)
    for r in size.r:
        line(compared, N, attention_floor(N, link_of(link), r, tau), label=None, bound=True)
        learned.axhline(zero_shot_risk(link_of(link), r), color="#888888", linestyle="--", linewidth=0.8)
    for panel in axes[0]:
        panel.set(xscale="log", yscale="log", xlabel="examples in the prompt, $N^*$")
        ticks = [n for n in (1, 2, 4, 8, 16, 32, 64, 128, 256) if n < size.examples]
        panel.set_xticks(ticks, [str(n) for n in ticks])
        panel.minorticks_off()
        panel.yaxis.set_minor_formatter(NullFormatter())
    learned.set_ylabel(r"$E\,(\hat f - f)^2$")
    letters(axes[0], ("in the subspace, and outside", "against other learners"))
    handles += [
        proxy("(a) directions outside the subspace", linestyle=":"),
        proxy("(a) prior mean, the best without examples", "#888888", linestyle="--"),
        proxy("(b) kernel ridge regression on the prompt", marker="o"),
        proxy(r"(b) least of linear attention, $\mathrm{Fl}_N(r)$", linestyle="--"),
    ]
    title = rf"{describe(link)}, $\tau = {tau:g}$; decoder of {size.layers} layers, width {size.width}, {size.heads} heads; "
    title += f"{size.tests} test prompts, 95% CI"
    shared_legend(drawing, handles, title, 2)
    return drawing


def tell(one: Trained) -> None:
    """Print risks after some numbers of examples."""
    tasks = one.setting.tasks
    print(f"d = {tasks.d}, r = {tasks.r}, after {one.step} steps:")
    for n in (n for n in SHOWN if n < one.setting.examples):
        text = f"  {n:4d} examples: risk {float(one.curve.risk[n]):.4g} +- {1.96 * float(one.curve.error[n]):.2g}"
        if one.outside is not None:
            text += f", outside the subspace {float(one.outside.risk[n]):.4g}"
        print(text)


if __name__ == "__main__":
    sys.exit(main(QUESTION, form=Options))
