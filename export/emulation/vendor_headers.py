"""Where the vendors' own number types are, for those who want their networks checked against them.

The headers are Apache-2.0 but no part of this project; they come with the ``hls4ml`` wheel, which is looked into but
never imported, or from a folder of the user's (an installed HLS tool has them too).
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

AP_VARIABLE = "QAPSULE_AP_INCLUDE"
AC_VARIABLE = "QAPSULE_AC_INCLUDE"


def ap_include() -> Path | None:
    """The folder of Xilinx's ``ap_fixed.h``: ``$QAPSULE_AP_INCLUDE``, else inside the hls4ml wheel, else ``None``.

    Raises ``ValueError`` if the variable names a folder that does not hold the header.
    """
    return _folder(AP_VARIABLE, "ap_fixed.h", Path("templates", "vivado", "ap_types"))


def ac_include() -> Path | None:
    """The folder of Siemens' ``ac_fixed.h``: ``$QAPSULE_AC_INCLUDE``, else inside the hls4ml wheel, else ``None``.

    Raises ``ValueError`` if the variable names a folder that does not hold the header.
    """
    return _folder(AC_VARIABLE, "ac_fixed.h", Path("templates", "catapult", "ac_types", "include"))


def _folder(variable: str, header: str, inside_wheel: Path) -> Path | None:
    named = os.environ.get(variable)
    if named:
        if not (Path(named) / header).is_file():
            raise ValueError(f"{variable}={named} holds no {header}; point it at the folder that does, or unset it")
        return Path(named)
    spec = find_spec("hls4ml")
    for package in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(package) / inside_wheel
        if (folder / header).is_file():
            return folder
    return None
