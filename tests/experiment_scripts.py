"""Experiment scripts as modules, so that tests reach what is in them."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


def script(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module experiments/NAME.py, for the time of a test."""
    spec = importlib.util.spec_from_file_location(name, EXPERIMENTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)  # where dataclasses look their types up
    spec.loader.exec_module(module)
    return module
