"""The list of planted mistakes fits the sources; `mutations/run.py` plants them."""

from __future__ import annotations

import importlib
import re
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "mutations")
    return importlib.import_module("planted")


def test_every_mistake_can_be_planted(planted: ModuleType) -> None:
    assert len(planted.MUTATIONS) >= 40
    assert max(Counter(m.name for m in planted.MUTATIONS).values()) == 1
    for m in planted.MUTATIONS:
        assert (ROOT / m.file).read_text().count(m.old) == 1, m.name
        assert m.old != m.new and m.old not in m.new, m.name


def test_every_test_that_catches_exists(planted: ModuleType) -> None:
    for m in planted.MUTATIONS:
        if m.is_claim:
            continue
        file, *names = m.by.split("::")
        text = (ROOT / file).read_text()
        assert all(re.search(rf"(def|class) {name}\b", text) for name in names), f"{m.name}: {m.by}"


def test_bad_input_is_one_line(
    planted: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    script = importlib.import_module("run")

    def complaint(*argv: str) -> str:
        with pytest.raises(SystemExit, match="2"):
            script.main(argv)
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        return said

    assert "no mistake is called 'nobody'" in complaint("--only", "nobody")
    assert "--limit must be positive, got 0" in complaint("--limit", "0")
    broken = tmp_path / "results"
    broken.write_text("[1]\n")
    assert "must hold one JSON object" in complaint("--results", str(broken))
    for old in ("surely not there", "jnp"):
        edit = planted.Mutation("edit", planted.GD, old, "", "", "sign", planted.TEST_GD)
        monkeypatch.setattr(script, "MUTATIONS", (edit,))
        assert f"edit: its text must occur once in {planted.GD}, got" in complaint("--list")
