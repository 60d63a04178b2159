"""The largest of n independent exponential variables: its exact mean, and its limiting law.

A theorem as executable claims. Replace the parts from top to bottom by those of your own theorem, then

    theorysim list FILE.py                          what is claimed and drawn
    theorysim verify FILE.py                        the verdicts, at the sizes of the preset quick
    theorysim verify FILE.py --preset standard
    theorysim verify FILE.py::my-theorem.mean       one claim alone
    theorysim figures FILE.py                       the figures, as PNG and PDF
    pytest --theorysim FILE.py                      every claim as a test
"""

import jax
import numpy as np
from scipy import stats

from theorysim.errors import require
from theorysim.plots import Figure, canvas, points
from theorysim.plots import theory as line
from theorysim.sweep import Experiment, setting
from theorysim.verify import Check, Claim, Control, Design, Equivalence, Law

# 1. The setting: the parameters of one experiment. Integers, strings and tuples fix shapes; floats and arrays are traced.


@setting
class Sample:
    """n independent exponential variables of mean 1."""

    n: int

    def validate(self):
        require(self.n >= 1, f"n must be at least 1, got {self.n}")


# 2. The measurement: one random sample as a pure JAX function of a key and a setting. It is compiled, and run for many
#    keys at a time; it must not know what the theory predicts.


def largest(key, setting):
    return {"largest": jax.random.exponential(key, (setting.n,)).max()}


LARGEST = Experiment("my-theorem/largest", largest, operations=lambda setting: 20 * setting.n)

# 3. The prediction: NumPy, SciPy or mpmath, sharing no code with the measurement.


def harmonic(setting, inputs):
    """H_n = 1 + 1/2 + ... + 1/n, the exact mean at every n."""
    return np.sum(1 / np.arange(1, setting.n + 1))


def gumbel(setting, inputs):
    """The law of the maximum less log n as n grows."""
    return stats.gumbel_r()


# 4. The claims. A check runs its experiment over a design (settings x seeds, one for each preset), reads the observable
#    off the results, and has a judge compare it with the prediction. The control breaks one thing and must be refuted:
#    a check whose control passes could not have failed, and the claim is called toothless. Tolerances are part of the
#    claim, fixed before the data. The other judges: Identity, Bound, Limit, Rate, Threshold, Ordering.

SMALL = (Sample(n=2), Sample(n=4), Sample(n=16))
LARGE = (Sample(n=200),)

CLAIMS = (
    Claim(
        id="my-theorem.mean",
        kind="identity",
        statement="The largest of n exponential variables has mean H_n = 1 + 1/2 + ... + 1/n.",
        source="Renyi (1953)",
        assumptions="independent variables of mean 1",
        checks=(
            Check(
                name="mean",
                experiment=LARGEST,
                design={
                    "quick": Design(SMALL, seeds=10_000),
                    "standard": Design(SMALL, seeds=100_000),
                    "paper": Design(SMALL, seeds=1_000_000),
                },
                observable=lambda setting, results: results["largest"],
                predict=harmonic,
                judge=Equivalence(tolerance=0.05),  # relative
                control=Control("the leading order log n", predict=lambda setting, inputs: np.log(setting.n)),
                size=lambda setting: setting.n,
            ),
        ),
    ),
    Claim(
        id="my-theorem.law",
        kind="law",
        statement="The largest of n exponential variables, less log n, tends to the Gumbel law exp(-exp(-x)).",
        source="Gnedenko (1943)",
        assumptions="independent variables of mean 1, n -> infinity",
        checks=(
            Check(
                name="law",
                experiment=LARGEST,
                design={
                    "quick": Design(LARGE, seeds=20_000),
                    "standard": Design(LARGE, seeds=100_000),
                    "paper": Design(LARGE, seeds=1_000_000),
                },
                observable=lambda setting, results: results["largest"] - np.log(setting.n),
                predict=gumbel,
                judge=Law(tolerance=0.03),  # sup distance of the distribution functions
                control=Control(
                    "a normal law of the same mean and variance",
                    predict=lambda setting, inputs: stats.norm(stats.gumbel_r.mean(), stats.gumbel_r.std()),
                ),
            ),
        ),
    ),
)

# 5. The figures. A session measures, and hands a figure and a verdict of the same preset and seed the same data.

SEEDS = {"quick": 1000, "standard": 10_000, "paper": 100_000}


def draw_mean(session):
    design = Design(tuple(Sample(n=2**k) for k in range(8)), seeds=SEEDS[session.preset])
    measured = np.stack([results["largest"] for results in session.measure(LARGEST, design)], axis=1)
    sizes = np.array([float(setting.n) for setting in design.settings])
    drawing, axes = canvas()
    panel = axes[0, 0]
    line(panel, sizes, np.array([harmonic(setting, {}) for setting in design.settings]), label="$H_n$")
    points(panel, sizes, measured, label=f"mean of {design.seeds} seeds, 95% CI")
    panel.set(xscale="log", xlabel="$n$", ylabel=r"$\mathbb{E}\,\max_{i \leq n} x_i$")
    panel.legend()
    return drawing


FIGURES = (Figure("my-theorem.mean", "How does the largest of n exponential variables grow?", draw_mean),)
