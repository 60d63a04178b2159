"""What the scripts in `experiments/` and `paper_figs/` share: a question, the verdicts it is about, its figures."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from theorysim.cli.figures import draw
from theorysim.cli.options import Data, Out, Run, check_folder
from theorysim.cli.process import guarded, parse
from theorysim.cli.targets import resolve_claims, resolve_figures
from theorysim.cli.verify import failed, verify

if TYPE_CHECKING:
    from theorysim.plots import Figure
    from theorysim.verify.claim import Claim


@dataclass(frozen=True, kw_only=True)
class Script(Run):
    """Options of a script."""

    out: Out = Path("figures")
    """Folder of the figures."""

    def figures(self) -> Sequence[Figure]:
        """Figures that depend on the options, for subclasses. Raises InputError for options that do not fit."""
        return ()


@dataclass(frozen=True, kw_only=True)
class DataScript(Script):
    """Options of a script about a data set."""

    data: Data = "digits"
    """Data set: digits (two of its digits: digits:3,8), or an .npz file with X and y."""

    rescale: bool = False
    """Scale the data of a file into the unit ball, instead of refusing it."""


def main(
    question: str,
    *,
    claims: Sequence[str | Claim] = (),
    figures: Sequence[str | Figure] = (),
    on_data: str | None = None,
    form: type[Script] = Script,
    argv: Sequence[str] | None = None,
) -> int:
    """Run a script: verify its claims, draw its figures; returns the exit code, as the commands do.

    question: what the script answers, shown by --help.
    claims, figures: objects, or ids that are looked up (papers for all of theirs) only once there is something to do.
    on_data: paper whose claims and figures on a data set are added; the script then takes --data and --rescale.
    form: the script's options, where it has more than those of `Script`; its figures are drawn after the others.
    argv: the command line, by default that of the process.
    """
    arguments = sys.argv[1:] if argv is None else argv

    def script() -> int:
        options = parse(form if on_data is None else DataScript, arguments, Path(sys.argv[0]).name, question)
        if options is None:
            return 0
        options.check()
        own = options.figures()
        if figures or on_data or own:
            check_folder("--out", options.out)
        chosen = [
            claim for entry in claims for claim in (resolve_claims([entry]) if isinstance(entry, str) else [entry])
        ]
        drawn = [figure for f in figures for figure in (resolve_figures([f]) if isinstance(f, str) else [f])]
        if isinstance(options, DataScript) and on_data is not None:
            chosen += resolve_claims([on_data], options.data, options.rescale)
            drawn += resolve_figures([on_data], options.data, options.rescale)
        drawn += own
        verdicts = verify(chosen, options) if chosen else []
        draw(drawn, options, options.out)
        return failed(verdicts, strict=False)

    return guarded(script)
