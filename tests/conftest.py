"""How the property tests draw: the same examples every time, and no test fails for being slow.

``pytest --hypothesis-profile=explore`` draws new ones.
"""

import os

from hypothesis import settings

settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile("fixed")

# Under `make test` a make that a test calls would take itself for a part of that one, and say so in its output.
for _name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):
    os.environ.pop(_name, None)
