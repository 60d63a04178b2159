"""`theorysim figures`: draw the figures of papers and files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from theorysim.cli.options import Data, Out, Run, check_folder
from theorysim.cli.targets import resolve_figures

if TYPE_CHECKING:
    from theorysim.plots import Figure


@dataclass(frozen=True, kw_only=True)
class Figures(Run):
    """Draw figures, as PNG and PDF, and print the paths."""

    targets: Positional[tuple[str, ...]] = ()
    """Papers, figures, or files FILE.py that define FIGURES. Default: all papers."""

    out: Out = Path("figures")
    """Folder of the files."""

    data: Data = None
    """Draw the figures of a data set: digits (two of its digits: digits:3,8), or an .npz file with X and y."""

    rescale: bool = False
    """Scale the --data to satisfy the assumptions of the claims, instead of refusing it."""

    def __call__(self) -> int:
        self.check()
        check_folder("--out", self.out)
        draw(resolve_figures(self.targets, self.data, self.rescale), self, self.out)
        return 0


def draw(figures: Sequence[Figure], options: Run, out: Path) -> None:
    """Draw the figures and print the paths of their files, each as soon as it is there."""
    from theorysim.sweep.progress import Progress

    session = options.session()
    for figure in figures:
        with Progress() as session.progress:
            paths = figure.render(session, out)
        for path in paths:
            print(path, flush=True)
