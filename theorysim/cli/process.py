"""What every command does around its work: reads the command line, sets up the process, turns errors into one line."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tyro

from theorysim.cache import cache_folder
from theorysim.errors import InputError

TRACEBACK = "THEORYSIM_TRACEBACK"


def guarded(action: Callable[[], int]) -> int:
    """Exit code of `action`; whatever it raises becomes one line on stderr and 2, an interruption 130.

    The environment variable THEORYSIM_TRACEBACK=1 lets errors other than InputError through.
    """
    # XLA reports programs that were cached on a slightly different processor, which it then recompiles, as errors.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        return action()
    except InputError as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:  # the reader of a pipe (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        return _fail(explain(error))


def explain(error: BaseException) -> str:
    """One line for an exception: its type, message and place, or the message alone where that says it all."""
    from theorysim.sweep import SweepError

    text = " ".join(str(error).split())[:500]
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text:
        return f"out of memory; give the sweep less with --memory: {text}".rstrip(": ")
    if isinstance(error, InputError | SweepError):
        return text
    frames = traceback.extract_tb(error.__traceback__)
    # The last line outside installed packages is the one that a reader can mend.
    own = [frame for frame in frames if "site-packages" not in frame.filename and Path(frame.filename).is_file()]
    place = f" at {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""
    return f"{type(error).__name__}{place}: {text}".rstrip(": ") + f" (for the traceback set {TRACEBACK}=1)"


def _fail(message: str, code: int = 2) -> int:
    sys.stdout.flush()
    print(f"theorysim: {' '.join(message.split())}", file=sys.stderr)
    return code


class Rejected(Exception):
    """An option's value was rejected. No ValueError, because tyro would wrap it in a box of several lines."""


def parse(form: Any, argv: Sequence[str], prog: str, description: str | None = None) -> Any:
    """The command line `argv` as an instance of `form`, or None where it asked for help, which is then printed.

    Raises InputError, in one line, for anything that the form does not allow.
    """
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            flags = (tyro.conf.FlagCreatePairsOff,)
            return tyro.cli(form, args=list(argv), prog=prog, description=description, config=flags)
    except Rejected as error:
        raise InputError(str(error)) from None
    except SystemExit as exit_:
        if exit_.code in (0, None):
            return None
        raise InputError(_condense(complaint.getvalue())) from None


def _condense(box: str) -> str:
    """The text of tyro's box in one line, without its title, frame, footer and option listings."""
    box = re.sub(r"\x1b\[[0-9;]*m", "", box)
    if "│" in box:
        lines = [line[2:-2] for line in box.splitlines() if line.startswith("│")]
    else:  # where stdout is not UTF-8: a title, a rule, then lines indented by two
        lines = [line[2:] for line in box.splitlines()[2:]]
    sections: list[list[str]] = [[]]
    for line in lines:
        if line.strip() and set(line.strip()) <= {"─", "-"}:
            sections.append([])
        else:
            sections[-1].append(line)
    said = []
    for section in sections:
        # Lines are padded with blanks; one without is full, and may break a long word.
        text = "".join(line.rstrip() + " " if line.endswith(" ") else line for line in section).strip()
        if text.startswith("Perhaps you meant"):
            options = dict.fromkeys(word for line in section for word in line.split()[:1] if word.startswith("--"))
            said.append(f"perhaps you meant {' or '.join(options)}" if options else "")
        elif not text.startswith(("For full helptext", "Argument helptext")):
            said.append(text[:1].lower() + text[1:])
    return "; ".join(part.rstrip(".") for part in said if part) or "unusable command line"


def set_up() -> None:
    """Keep compiled programs between runs. Changes JAX's global configuration: for processes, not for libraries.

    Where the folder of `cache_folder` cannot be written, and where the user has set JAX's own variable, this changes nothing.
    """
    import jax

    for name in ("matplotlib", "fontTools"):  # that a font cache is built, or a font's date odd, is nobody's concern
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*persistent compilation cache.*")
    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: no home folder
        jax.config.update("jax_compilation_cache_dir", str(cache_folder("xla")))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
