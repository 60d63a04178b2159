"""Theory as a line, simulation as points with error bars, several sizes as steps of one colour scale."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import matplotlib.figure
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from scipy import stats

from theorysim.errors import require
from theorysim.plots.style import COLORS, COLUMN, THEORY


def canvas(
    rows: int = 1,
    columns: int = 1,
    *,
    width: float = COLUMN,
    height: float | None = None,
    sharex: bool = False,
    sharey: bool = False,
) -> tuple[matplotlib.figure.Figure, np.ndarray]:
    """A figure and its axes, an object array of shape (rows, columns). No window, no pyplot state.

    width, height: in inches; by default each panel is 3 wide to 2.2 high.
    """
    height = width / columns * 2.2 / 3 * rows if height is None else height
    drawing = matplotlib.figure.Figure(figsize=(width, height), layout="constrained")
    return drawing, drawing.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=sharey)


def theory(
    axes: Axes,
    x: Float[np.ndarray, " points"],
    y: Float[np.ndarray, " points"],
    *,
    label: str | None = "theory",
    color: str = THEORY,
    bound: bool = False,
) -> None:
    """A prediction as a line; solid for a value, dashed for a bound."""
    axes.plot(x, y, color=color, linestyle="--" if bound else "-", label=label, zorder=2)


def spread(
    samples: Float[np.ndarray, "seeds points"], level: float = 0.95, *, median: bool = False
) -> tuple[Float[np.ndarray, " points"], Float[np.ndarray, "2 points"]]:
    """Centre of independent samples, and the distances from it down and up to its confidence interval.

    The mean with Student's t interval, or the median with the interval between order statistics, which is exact for
    every continuous law. NaN where the seeds are too few for it; a mean over a non-finite sample is not finite.
    """
    samples = np.asarray(samples, float)
    require(samples.ndim == 2 and samples.size > 0, f"samples must have shape (seeds, points), got {samples.shape}")
    seeds = len(samples)
    nothing = np.full(samples.shape[1], np.nan)
    with np.errstate(invalid="ignore"):  # diverged samples
        if median:
            ordered, centre = np.sort(samples, axis=0), np.median(samples, axis=0)
            # P(the median lies between order statistics k + 1 and seeds - k) = 1 - 2 P(Binomial(seeds, 1/2) <= k).
            k = int(stats.binom.ppf((1 - level) / 2, seeds, 0.5)) - 1
            low, high = (ordered[k], ordered[-1 - k]) if k >= 0 else (nothing, nothing)
            return centre, np.stack([centre - low, high - centre])
        centre = samples.mean(axis=0)
        if seeds < 2:
            return centre, np.stack([nothing, nothing])
        half = stats.t.ppf((1 + level) / 2, seeds - 1) * samples.std(axis=0, ddof=1) / np.sqrt(seeds)
        return centre, np.stack([half, half])


def points(
    axes: Axes,
    x: Float[np.ndarray, " points"],
    samples: Float[np.ndarray, "seeds points"],
    *,
    label: str | None = "simulation",
    color: str = COLORS[0],
    marker: str = "o",
    level: float = 0.95,
    median: bool = False,
) -> None:
    """A measurement as points with error bars, the confidence interval of `spread`."""
    centre, distances = spread(samples, level, median=median)
    axes.errorbar(
        x,
        centre,
        yerr=np.nan_to_num(distances),
        color=color,
        marker=marker,
        linestyle="none",
        elinewidth=0.8,
        label=label,
    )


def band(
    axes: Axes,
    x: Float[np.ndarray, " points"],
    low: Float[np.ndarray, " points"],
    high: Float[np.ndarray, " points"],
    *,
    label: str | None = None,
    color: str = THEORY,
) -> None:
    """A region (what a bound allows, a confidence band, a quantile range) as a light shade."""
    axes.fill_between(x, low, high, color=color, alpha=0.15, linewidth=0, label=label, zorder=1)


def size_colors(count: int) -> list[str]:
    """`count` colours from light to dark for growing sizes, of a scale that is monotone in lightness (viridis)."""
    require(count >= 1, f"count of sizes must be at least 1, got {count}")
    scale = mpl.colormaps["viridis"]
    return [to_hex(scale(value)) for value in np.linspace(0.85, 0.0, count)]


def size_label(symbol: str, sizes: float | Sequence[float]) -> str:
    """A size for the legend: "$n = 1{,}000$"; several as a range: "$n = 100\\ldots 1{,}000$"."""
    values = sorted(np.atleast_1d(np.asarray(sizes, float)))
    texts = [f"{value:,.6g}".replace(",", "{,}") for value in dict.fromkeys((values[0], values[-1]))]
    return f"${symbol} = " + r" \ldots ".join(texts) + "$"
