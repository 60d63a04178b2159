"""Learning curve of kernel ridge regression on the sphere, one degree after another, for any link and any d."""

import sys
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from tyro.conf import arg

from theorysim.cli.options import number
from theorysim.cli.script import Script, main
from theorysim.errors import require
from theorysim.papers.single_index_icl.figures_kernel import QUESTION, RIDGE, SIZES, TAU, staircase
from theorysim.papers.single_index_icl.own import LinkOptions
from theorysim.papers.single_index_icl.regression import MIXTURE, PAPER
from theorysim.papers.single_index_icl.setting import Tasks
from theorysim.plots import Figure


@dataclass(frozen=True, kw_only=True)
class Options(Script, LinkOptions):
    """Options of this script."""

    d: Annotated[tuple[int, ...], arg(metavar="INT ...")] = ()
    """Dimensions that are simulated. Default: those of the preset."""

    tau: Annotated[float, number("--tau", float)] = TAU
    """Standard deviation of the labels' noise."""

    ridge: Annotated[float, number("--ridge", float)] = RIDGE
    """delta, on the kernel matrix without normalisation."""

    def figures(self) -> tuple[Figure, ...]:
        """The figure of the options."""
        link = self.chosen(MIXTURE)
        size = SIZES[self.preset]
        if self.d:
            size = size._replace(d=tuple(sorted(set(self.d))))
        for d in size.d:
            require(d >= 2, f"--d must be dimensions of at least 2, got {d}")
            Tasks(d, d, link, self.tau)
        require(0 < self.ridge < float("inf"), f"--ridge must be positive and finite, got {self.ridge}")
        draw = partial(staircase, link=link, size=size, tau=self.tau, ridge=self.ridge, tell=True)
        return (Figure(f"{PAPER}.staircase", QUESTION, draw),)


if __name__ == "__main__":
    sys.exit(main(QUESTION, form=Options))
