"""Verdicts as JSON, for programs: headline numbers of each claim, and the full record of each of its checks."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from theorysim.verify.family import holm_statuses
from theorysim.verify.verdict import CheckVerdict, Status, Verdict


def record(verdict: Verdict, holm: Status | None = None) -> dict[str, Any]:
    """A verdict as an object of JSON. The headline numbers are those of the check that decided.

    holm: what Holm's procedure over the whole report says of it.
    """
    check = verdict.headline
    judgement = check.judgement
    return plain(
        {
            "claim": verdict.claim,
            "paper": verdict.paper,
            "kind": verdict.kind,
            "verdict": verdict.status,
            "holm": holm,
            "announced": verdict.announced,
            "control": check.teeth,
            "predicted": judgement.predicted,
            "estimate": judgement.estimate,
            "interval": judgement.interval,
            "sizes": check.sizes,
            "samples": judgement.samples,
            "preset": verdict.preset,
            "seed": verdict.seed,
            "seconds": verdict.seconds,
            "note": verdict.note,
            "checks": [_check(check) for check in verdict.checks],
        }
    )


def _check(check: CheckVerdict) -> dict[str, Any]:
    fields = {field.name: getattr(check, field.name) for field in dataclasses.fields(check)}
    return {**fields, "teeth": check.teeth}


def plain(value: Any) -> Any:
    """`value` in JSON's own types: NaN and infinities become the strings "nan", "inf" and "-inf"."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return str(value)


def write(verdicts: Sequence[Verdict], path: Path) -> None:
    """Write the verdicts to `path` at once: whoever reads it finds the old list or the new one, never half of one."""
    records = [record(verdict, holm) for verdict, holm in zip(verdicts, holm_statuses(verdicts), strict=True)]
    text = json.dumps(records, indent=2, allow_nan=False)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text + "\n")
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)  # mkstemp's files are private
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
