"""Risk of models pretrained in two stages against prompt length, for several d and r and any link, with the attention floor."""

import sys
from dataclasses import dataclass
from functools import partial
from math import isfinite
from typing import Annotated

from tyro.conf import arg

from theorysim.cli.options import number
from theorysim.cli.script import Script, main
from theorysim.errors import require
from theorysim.papers.single_index_icl.figures_learners import SIZES, TAU, check_lengths, prompt_length
from theorysim.papers.single_index_icl.own import LinkOptions, report
from theorysim.papers.single_index_icl.regression import PAPER
from theorysim.papers.single_index_icl.setting import HE2, Tasks
from theorysim.plots import Figure

QUESTION = (
    "How long must prompts be in dimensions d and r, and how far are pretrained models from the least possible risk?"
)


@dataclass(frozen=True, kw_only=True)
class Options(Script, LinkOptions):
    """Options of this script."""

    d: Annotated[tuple[int, ...], arg(metavar="INT ...")] = (8, 12)
    """Dimensions of the inputs."""

    r: Annotated[tuple[int, ...], arg(metavar="INT ...")] = (2, 3)
    """Dimensions of the subspace, up to d."""

    lengths: Annotated[tuple[int, ...], arg(metavar="INT ...")] = ()
    """Lengths N* of the test prompts. Default: 16 to 1024."""

    tau: Annotated[float, number("--tau", float)] = TAU
    """Standard deviation of the labels' noise."""

    bias: Annotated[float, number("--bias", float)] = 0.0
    """Bias of all neurons in Stage I; not 0 for odd links of degree 3 or more."""

    def figures(self) -> tuple[Figure, ...]:
        """The figure of the options."""
        link = self.chosen(HE2)
        require(isfinite(self.bias), f"--bias must be finite, got {self.bias}")
        for name in ("d", "r"):
            require(len(getattr(self, name)) > 0, f"--{name} must be at least one dimension, got none")
        for d in self.d:
            for r in self.r:
                Tasks(d, r, link, self.tau)
        report(link, self.bias)
        size = SIZES[self.preset]
        if self.lengths:
            check_lengths(self.lengths)
            size = size._replace(lengths=self.lengths)
        draw = partial(prompt_length, link=link, d=self.d, r=self.r, tau=self.tau, bias=self.bias, size=size)
        return (Figure(f"{PAPER}.prompt-length", QUESTION, draw),)


if __name__ == "__main__":
    sys.exit(main(QUESTION, form=Options))
