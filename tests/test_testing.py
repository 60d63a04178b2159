"""Strategies of admissible settings: every class of every paper's data model has one, and draws what its class admits."""

from __future__ import annotations

import importlib
import inspect

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from theorysim import papers, testing
from theorysim.errors import InputError
from theorysim.sweep import canonical, setting

# Run-time type checks look at a random element of a list.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")


def classes(slug: str) -> set[type]:
    """Setting classes that the paper's setting.py defines."""
    module = importlib.import_module(f"theorysim.papers.{slug.replace('-', '_')}.setting")
    found = {kind for _, kind in inspect.getmembers(module, inspect.isclass) if getattr(kind, "__setting__", False)}
    return {kind for kind in found if kind.__module__ == module.__name__}


@pytest.mark.parametrize("slug", papers.folders())
def test_every_setting_of_every_paper_has_a_strategy_of_its_class(slug):
    known = getattr(testing, slug.replace("-", "_")).SETTINGS
    assert set(known) == classes(slug)
    drawn: dict[type, set[str]] = {kind: set() for kind in known}

    @hypothesis_settings(max_examples=20, suppress_health_check=list(HealthCheck))
    @given(st.fixed_dictionaries(known))
    def check(settings):
        for kind, value in settings.items():
            assert type(value) is kind  # construction has checked it
            drawn[kind].add(canonical(value))

    check()
    constant = {"Xor", "LinearPredictor", "FivePoint"}
    assert all(len(texts) >= 3 for kind, texts in drawn.items() if kind.__name__ not in constant)


def test_settings_are_chosen_by_paper_and_class():
    from theorysim.papers.tap_amp.setting import LinearModel, SpikeAndSlab

    @hypothesis_settings(max_examples=10)
    @given(testing.settings("tap-amp"), testing.settings("tap-amp", LinearModel))
    def check(anything, model):
        assert isinstance(model, LinearModel)
        assert type(anything) in testing.tap_amp.SETTINGS

    check()
    assert testing.settings("tap-amp", SpikeAndSlab) is testing.tap_amp.SETTINGS[SpikeAndSlab]


def test_what_there_is_not():
    @setting
    class Stranger:
        n: int

    with pytest.raises(InputError, match="unknown paper 'no-such'"):
        testing.settings("no-such")
    with pytest.raises(InputError, match=r"kind must be a setting of tap-amp: Atoms, .*got Stranger"):
        testing.settings("tap-amp", Stranger)
    for name in ("no_such", "tap-amp", "__path__"):
        with pytest.raises(AttributeError, match=name):
            getattr(testing, name)
    assert {"settings", "tap_amp", "qaoa_spiked_tensor"} <= set(dir(testing))
