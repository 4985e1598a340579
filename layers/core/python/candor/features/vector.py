"""The feature vector: values in declared order, and for every view how its values came to be."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from candor.contracts import Checkout
from candor.errors import CorruptItem
from candor.features.state import ViewState
from candor.features.views import REQUEST, Definitions, FeatureView

State = Literal["present", "absent", "unavailable"]
"""present: read; absent: the entity had no event before q; unavailable: could not be read, all values NaN."""


class Version(msgspec.Struct, frozen=True, order=True):
    """Version of a stored item: its birth (ns) and the number of its commits. Never repeats."""

    birth: int
    n: int


class Read(msgspec.Struct, frozen=True):
    """What the store answered for one view: the item's bytes and version, or nothing and why."""

    state: State
    blob: bytes | None = None
    version: Version | None = None


ABSENT = Read("absent")
UNAVAILABLE = Read("unavailable")


class FeatureVector(msgspec.Struct, frozen=True):
    """Values (float64, NaN is missing) by position of `Definitions.features`; states and versions by view name.

    A state `request: unavailable` is added where an on-demand function failed.
    """

    values: list[float]
    states: dict[str, State]
    versions: dict[str, Version]

    @property
    def degraded(self) -> bool:
        """True if any view could not be read or any on-demand feature not be computed."""
        return "unavailable" in self.states.values()


def build(definitions: Definitions, reads: Mapping[str, Read], checkout: Checkout, q: int) -> FeatureVector:
    """Reads by view name → the vector at moment `q` (ms)."""
    values: dict[str, float] = {}
    states: dict[str, State] = {}
    for view in definitions.views:
        states[view.name], found = view_values(view, reads[view.name], q)
        values.update(zip((feature.name for feature in view.features), found, strict=True))
    answers = [one.answer(checkout, values) for one in definitions.on_demand]
    if None in answers:
        states[REQUEST] = "unavailable"
    ordered = [*values.values(), *(math.nan if answer is None else answer for answer in answers)]
    versions = {name: read.version for name, read in reads.items() if read.version is not None}
    return FeatureVector(ordered, states, versions)


def view_values(view: FeatureView, read: Read, q: int) -> tuple[State, Sequence[float]]:
    """State and values of one view at `q`. A corrupt item, or one that cannot answer `q` exactly, is unavailable."""
    if read.state == "unavailable":
        return "unavailable", _missing(view)
    try:
        state = ViewState.new(view) if read.blob is None else ViewState.decode(view, read.blob)
    except CorruptItem:
        return "unavailable", _missing(view)
    if not state.answers(q):
        return "unavailable", _missing(view)
    return "present" if state.seen_before(q) else "absent", state.values(q)


def _missing(view: FeatureView) -> list[float]:
    return [math.nan] * len(view.features)
