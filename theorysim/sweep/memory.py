"""How much memory a sweep may use: totals of the machine and its accelerator, never what happens to be free.

Totals make the size of a chunk, and with it every rounding error, reproducible on one machine.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import psutil

from theorysim.errors import InputError, require

HOST_SHARE = 0.5
DEVICE_SHARE = 0.8
UNITS = {"KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12, "KIB": 2.0**10, "MIB": 2.0**20, "GIB": 2.0**30, "TIB": 2.0**40}


def parse_memory(text: str) -> float:
    """Bytes of "4GB", "512MiB" or "1.5" (in GB). Raises `InputError` for anything else, and unless positive."""
    match = re.fullmatch(r"\s*(\d+\.?\d*|\.\d+)\s*([KMGT]I?B)?\s*", text.upper())
    amount = float(match[1]) * UNITS[match[2] or "GB"] if match else 0.0
    require(amount > 0, f"memory must be a positive number of GB such as 4, 4GB or 512MiB, got {text!r}")
    return amount


def format_memory(amount: float) -> str:
    """Bytes for people: "3.2 GB"."""
    for unit in ("TB", "GB", "MB", "kB"):
        if amount >= UNITS[unit.upper()]:
            return f"{amount / UNITS[unit.upper()]:.3g} {unit}"
    return f"{amount:.0f} bytes"


def host_memory(cgroup: Path = Path("/sys/fs/cgroup")) -> float:
    """Total bytes of main memory that this process may use: of the machine, or of its container where that is less."""
    total = float(psutil.virtual_memory().total)
    for limit in (cgroup / "memory.max", cgroup / "memory" / "memory.limit_in_bytes"):
        try:
            total = min(total, float(limit.read_text()))
        except (OSError, ValueError):  # no such file, or "max"
            continue
    return total


def default_budget(device: Any) -> float:
    """Bytes that the chunks in flight on `device` may occupy together, where the user names no budget."""
    if device.platform == "cpu":
        return HOST_SHARE * host_memory()
    statistics = device.memory_stats() or {}
    if "bytes_limit" not in statistics:
        raise InputError(f"memory of the device {device.device_kind} is unknown: give the budget with --memory")
    return DEVICE_SHARE * statistics["bytes_limit"]
