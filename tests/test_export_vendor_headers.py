"""The vendors' headers are found where the user says, else in the hls4ml wheel, else not at all."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from export.emulation import vendor_headers
from export.emulation.vendor_headers import ac_include, ap_include

LOOKUPS = (
    (ap_include, "QAPSULE_AP_INCLUDE", "ap_fixed.h", "templates/vivado/ap_types"),
    (ac_include, "QAPSULE_AC_INCLUDE", "ac_fixed.h", "templates/catapult/ac_types/include"),
)
Lookup = Callable[[], Path | None]


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package named hls4ml that cannot be imported, and no variable set."""
    package = tmp_path / "site" / "hls4ml"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError")
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.delitem(sys.modules, "hls4ml", raising=False)
    for _, variable, _, _ in LOOKUPS:
        monkeypatch.delenv(variable, raising=False)
    return package


@pytest.mark.parametrize(("lookup", "variable", "header", "inside"), LOOKUPS)
def test_the_wheel_is_looked_into_and_not_imported(
    lookup: Lookup, variable: str, header: str, inside: str, wheel: Path
) -> None:
    assert lookup() is None
    (wheel / inside).mkdir(parents=True)
    (wheel / inside / header).touch()
    assert lookup() == wheel / inside
    assert "hls4ml" not in sys.modules


@pytest.mark.parametrize(("lookup", "variable", "header", "inside"), LOOKUPS)
def test_the_variable_goes_first(
    lookup: Lookup,
    variable: str,
    header: str,
    inside: str,
    wheel: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (wheel / inside).mkdir(parents=True)
    (wheel / inside / header).touch()
    monkeypatch.setenv(variable, str(tmp_path))
    with pytest.raises(ValueError) as refused:
        lookup()
    assert str(refused.value) == (
        f"{variable}={tmp_path} holds no {header}; point it at the folder that does, or unset it"
    )
    (tmp_path / header).touch()
    assert lookup() == tmp_path


def test_without_the_wheel_there_is_nothing(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vendor_headers, "find_spec", lambda name: None)
    assert ap_include() is None
    assert ac_include() is None
