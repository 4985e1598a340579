"""Imports msgspec without `typing_extensions`, which it prefers to `typing` but needs only before Python 3.11.

That package, with `inspect` and `ast`, takes a sixth of a scorer's cold start. Later imports of it are unaffected.
"""

import sys

_NAME = "typing_extensions"

if _NAME not in sys.modules:
    sys.modules[_NAME] = None  # type: ignore[assignment] # Python's marker for a module that does not exist
    try:
        import msgspec  # noqa: F401 - imported for its entry in sys.modules
    finally:
        del sys.modules[_NAME]
