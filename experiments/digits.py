"""Large stepsizes on real data: the bounds that hold for any data, on handwritten digits or a file of one's own."""

import sys
from dataclasses import dataclass
from pathlib import Path

from theorysim.cli.figures import draw
from theorysim.cli.options import Data, check_folder
from theorysim.cli.process import guarded, parse
from theorysim.cli.script import Script
from theorysim.cli.targets import resolve_claims, resolve_figures
from theorysim.cli.verify import failed, verify

PAPER = "large-stepsize-gd"
QUESTION = "Do the bounds for any data hold on real data, and how fast does a large stepsize fit them?"


@dataclass(frozen=True, kw_only=True)
class Options(Script):
    """Options of a script that takes data."""

    data: Data = "digits"
    """Data set: digits (two of its digits: digits:3,8), or an .npz file with X and y."""

    rescale: bool = False
    """Scale the data of a file into the unit ball, instead of refusing it."""


def script() -> int:
    """Verify the claims on the data, draw the risks; the exit code."""
    options = parse(Options, sys.argv[1:], Path(sys.argv[0]).name, QUESTION)
    if options is None:
        return 0
    options.check()
    check_folder("--out", options.out)
    claims = resolve_claims([PAPER], options.data, options.rescale)
    figures = resolve_figures([PAPER], options.data, options.rescale)
    verdicts = verify(claims, options)
    draw(figures, options, options.out)
    return failed(verdicts, strict=False)


if __name__ == "__main__":
    sys.exit(guarded(script))
