"""LightGBM's C API by ctypes: equal bits to the Python package, without importing it, numpy or scipy.

Source: LightGBM 4.7.0, `include/LightGBM/c_api.h`. The package does not expose the single-row fast path.
"""

from __future__ import annotations

import ctypes
import os
import sys
from array import array
from collections.abc import Callable, Sequence
from ctypes import byref, c_char_p, c_double, c_int, c_int64, c_void_p
from functools import lru_cache, partial
from typing import Final, Self

from candor.errors import EngineUnavailable, ModelRefused
from candor.model.lightgbm_text import columns, splits

_FILE: Final = "lib_lightgbm.so"
_LAYER: Final = "/opt/lib"
_FLOAT64: Final = 1
_RAW_SCORE: Final = 1
_CONTRIBUTIONS: Final = 3
# One thread: the default team of threads costs up to 131 x the CPU of a single row.
_PARAMETERS: Final = b"num_threads=1 verbosity=-1"


def library_path() -> str:
    """Path of `lib_lightgbm.so`: `LGBM_LIB` (file or folder), else the Lambda layer, else the installed wheel.

    Raises EngineUnavailable. The wheel is located without importing it, which would load numpy and scipy; paths are
    strings because pathlib and importlib's finder are slower at a cold start than loading the library.
    """
    configured = os.environ.get("LGBM_LIB")
    if configured:
        candidates = [configured if configured.endswith(".so") else f"{configured}/{_FILE}"]
    else:
        candidates = [f"{_LAYER}/{_FILE}", *(f"{place}/lightgbm/lib/{_FILE}" for place in sys.path)]
    for candidate in candidates:
        if os.access(candidate, os.R_OK):
            return candidate
    raise EngineUnavailable(
        f"{_FILE} is not at {candidates[0]}, nor with a package: "
        "attach the lightgbm layer, set LGBM_LIB, or `pip install lightgbm`"
    )


def load_library(path: str) -> ctypes.CDLL:
    """Load LightGBM's library. EngineUnavailable, with the remedy, if it or libgomp is missing."""
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        if "libgomp" in str(error):
            raise EngineUnavailable(
                f"{path} needs libgomp.so.1 (OpenMP), which is not on the library path: put it beside the layer's "
                "library in /opt/lib, install the system's libgomp1, or set LD_LIBRARY_PATH to its folder"
            ) from error
        raise EngineUnavailable(f"cannot load {path}: {error}") from error
    library.LGBM_GetLastError.restype = c_char_p
    library.LGBM_BoosterFree.argtypes = [c_void_p]
    library.LGBM_FastConfigFree.argtypes = [c_void_p]
    return library


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    return load_library(library_path())


def _require_whole(text: bytes) -> None:
    """ModelRefused for a truncated or invalid text: LightGBM would end the process, not return an error.

    It parses trees in parallel, and an exception there cannot be caught. The header holds each tree's size.
    """
    header, separator, _ = text.partition(b"\n\nTree=0\n")
    sizes = next((line[11:].split() for line in header.splitlines() if line.startswith(b"tree_sizes=")), [])
    if not header.startswith(b"tree\n") or not separator or not all(size.isdigit() for size in sizes):
        raise ModelRefused("the text is not a LightGBM model with at least one tree")
    place = len(header) + 2
    for number, size in enumerate(sizes):
        if not text.startswith(b"Tree=%d\n" % number, place):
            raise ModelRefused(f"the model text is damaged at tree {number}")
        place += int(size)
    if not text.startswith(b"end of trees", place):
        raise ModelRefused(f"the model text is cut: {len(sizes)} trees are announced")


def _closed() -> int:
    raise ModelRefused("the model is closed")


class Booster:
    """A LightGBM model that scores one row at a time; the `ScoringEngine` of bundles with `engine` "lightgbm".

    Not thread-safe: all calls share the row, the result and LightGBM's single-row state, which makes calls
    cheap. A Lambda sandbox serves one request at a time; elsewhere use one Booster per thread.
    """

    def __init__(self, model_text: str) -> None:
        """Load LightGBM's model text (`Booster.model_to_string`). Raises ModelRefused, EngineUnavailable."""
        text = model_text.encode()
        _require_whole(text)
        self._lib = _library()
        self._handle = c_void_p()
        self._configs: dict[int, c_void_p] = {}
        self._values: memoryview[float] = memoryview(b"").cast("d")
        iterations = c_int()
        self._check(self._lib.LGBM_BoosterLoadModelFromString(text, byref(iterations), byref(self._handle)))
        if self._integer(self._lib.LGBM_BoosterGetNumClasses) != 1:
            self.close()
            raise ModelRefused("the model has more than one class: Candor scores the risk of one outcome")
        self._width = self._integer(self._lib.LGBM_BoosterGetNumFeature)
        self._row = (c_double * self._width)()
        self._values = memoryview(self._row).cast("B").cast("d")
        self._result = (c_double * (self._width + 1))()
        self._length = c_int64()
        self._raw = self._call(_RAW_SCORE)

    @staticmethod
    def columns(model: str) -> tuple[str, ...]:
        """Names of the model's columns, in order; empty if the text names none."""
        return columns(model)

    @staticmethod
    def uses_a_feature(model: str) -> bool:
        """Whether any tree splits on a feature; without one, a decline would have no reason."""
        return splits(model)

    def raw(self, values: Sequence[float]) -> float:
        """Raw score (log odds) of one row in the order of the model's columns; NaN means missing.

        Contiguous float64 (`array("d")`, a numpy row) is copied as it is; any other sequence is converted first.
        """
        try:
            self._values[:] = values  # type: ignore[call-overload] # other sequences are converted
        except (TypeError, ValueError):
            self._convert(values)
        if self._raw():
            self._fail()
        return self._result[0]

    def contributions(self, values: Sequence[float]) -> list[float]:
        """Exact path-dependent TreeSHAP: a log-odds contribution per feature, then the bias; the sum is the raw score.

        Costs about a hundred times as much as `raw`: for declines only.
        """
        explain = self._call(_CONTRIBUTIONS)
        self._convert(values)
        if explain():
            self._fail()
        return list(self._result)

    def close(self) -> None:
        """Free the model's memory. Safe to call twice; the Booster cannot score afterwards."""
        for config in self._configs.values():
            self._lib.LGBM_FastConfigFree(config)
        self._configs.clear()
        self._values = self._values[:0]
        self._raw = _closed
        if self._handle:
            self._lib.LGBM_BoosterFree(self._handle)
            self._handle = c_void_p()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self.close()

    def _convert(self, values: Sequence[float]) -> None:
        if not self._handle:
            raise ModelRefused("the model is closed")
        if len(values) != self._width:
            raise ModelRefused(f"the row has {len(values)} values, the model {self._width}")
        self._values[:] = array("d", values)

    def _call(self, predict_type: int) -> Callable[[], int]:
        """The fast call on the shared row; LightGBM's state is prepared once per kind of prediction."""
        config = self._configs.get(predict_type)
        if config is None:
            if not self._handle:
                raise ModelRefused("the model is closed")
            config = c_void_p()
            self._check(
                self._lib.LGBM_BoosterPredictForMatSingleRowFastInit(
                    self._handle,
                    predict_type,
                    0,
                    -1,
                    _FLOAT64,
                    c_int(self._width),
                    _PARAMETERS,
                    byref(config),
                )
            )
            self._configs[predict_type] = config
        # Converted once here: ctypes would convert the arguments again at every call.
        return partial(
            self._lib.LGBM_BoosterPredictForMatSingleRowFast,
            c_void_p.from_param(config.value),
            byref(self._row),
            byref(self._length),
            byref(self._result),
        )

    def _integer(self, call: object) -> int:
        out = c_int()
        self._check(call(self._handle, byref(out)))  # type: ignore[operator]
        return out.value

    def _check(self, status: int) -> None:
        if status:
            self._fail()

    def _fail(self) -> None:
        raise ModelRefused(f"LightGBM: {self._lib.LGBM_GetLastError().decode(errors='replace')}")
