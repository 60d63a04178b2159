"""The command line: `theorysim list`, `show`, `verify`, `figures`, `new`, `audit` and `falsify`.

JAX and the papers are imported by the commands that need them, so that help and most complaints come at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

from tyro.conf import subcommand

from theorysim.cli.audit import Audit
from theorysim.cli.falsify import Falsify
from theorysim.cli.figures import Figures
from theorysim.cli.listing import List, Show
from theorysim.cli.new import New
from theorysim.cli.process import guarded, parse
from theorysim.cli.verify import Verify
from theorysim.errors import require

Command = (
    Annotated[List, subcommand("list")]
    | Annotated[Show, subcommand("show")]
    | Annotated[Verify, subcommand("verify")]
    | Annotated[Figures, subcommand("figures")]
    | Annotated[New, subcommand("new")]
    | Annotated[Audit, subcommand("audit")]
    | Annotated[Falsify, subcommand("falsify")]
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line, by default that of the process; returns the exit code. Errors are one line on stderr."""
    arguments = sys.argv[1:] if argv is None else argv

    def command() -> int:
        commands = "list, show, verify, figures, new, audit, falsify"
        require(len(arguments) > 0, f"command must be one of {commands}, got none; see theorysim --help")
        chosen = parse(Command, arguments, "theorysim", "Theorems as executable claims, judged against simulation.")
        return 0 if chosen is None else chosen()

    return guarded(command)
