"""msgspec without `typing_extensions`, which it prefers to `typing` and needs on Pythons before 3.11 alone.

That package, with `inspect` and `ast` below it, takes a sixth of a scorer's cold start. Who imports it later gets it whole.
"""

import sys

_NAME = "typing_extensions"

if _NAME not in sys.modules:
    sys.modules[_NAME] = None  # type: ignore[assignment] # Python's own way to say that there is none
    try:
        import msgspec  # noqa: F401 - whoever asks for it later finds it imported
    finally:
        del sys.modules[_NAME]
