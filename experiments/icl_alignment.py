"""Alignment of the features with the subspace against the number of tasks in Stage I, in several dimensions, for any link."""

import sys
from dataclasses import dataclass
from functools import partial
from math import isfinite
from typing import Annotated

from tyro.conf import arg

from theorysim.cli.options import number
from theorysim.cli.script import Script, main
from theorysim.errors import require
from theorysim.papers.single_index_icl.figures_pretraining import ALIGNMENTS, TAU, alignment, curves
from theorysim.papers.single_index_icl.own import LinkOptions, report
from theorysim.papers.single_index_icl.regression import PAPER
from theorysim.papers.single_index_icl.setting import HE2
from theorysim.plots import Figure

QUESTION = "How many tasks does one gradient step need to find the subspace, and do all dimensions follow one curve?"


@dataclass(frozen=True, kw_only=True)
class Options(Script, LinkOptions):
    """Options of this script."""

    d: Annotated[tuple[int, ...], arg(metavar="INT ...")] = ()
    """Dimensions of the inputs. Default: those of the preset."""

    r: Annotated[tuple[int, ...], arg(metavar="INT ...")] = ()
    """Dimensions of the subspace, below all d."""

    N1: Annotated[tuple[int, ...], arg(metavar="INT ...")] = ()
    """Lengths of the prompts of Stage I."""

    tau: Annotated[float, number("--tau", float)] = TAU
    """Standard deviation of the labels' noise."""

    bias: Annotated[float, number("--bias", float)] = 0.0
    """Bias of all neurons in Stage I; not 0 for odd links of degree 3 or more."""

    def figures(self) -> tuple[Figure, ...]:
        """The figure of the options."""
        link = self.chosen(HE2)
        require(isfinite(self.bias), f"--bias must be finite, got {self.bias}")
        given = {name: getattr(self, name) for name in ("d", "r", "N1")}
        size = ALIGNMENTS[self.preset]._replace(**{name: value for name, value in given.items() if value})
        curves(link, size, self.tau, self.bias)
        report(link, self.bias)
        draw = partial(alignment, link=link, size=size, tau=self.tau, bias=self.bias, tell=True)
        return (Figure(f"{PAPER}.alignment", QUESTION, draw),)


if __name__ == "__main__":
    sys.exit(main(QUESTION, form=Options))
