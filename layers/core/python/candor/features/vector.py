"""The feature vector: values in declared order, and a state per view."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from candor.contracts import Application, Checkout
from candor.errors import CorruptItem
from candor.features.definitions import Definitions
from candor.features.on_demand import REQUEST
from candor.features.segment import values
from candor.features.state import ViewState
from candor.features.views import FeatureView

if TYPE_CHECKING:
    Values = array[float]
else:
    Values = array  # Python 3.11 knows no array[float], and msgspec reads annotations as they are then

State = Literal["present", "absent", "stale", "unavailable"]
"""State of a view's values.

present: read. absent: the entity has no event before q, or none within the view's `expires_after`; the values are
those of no events, whether or not an item exists. stale: read, but an event may be miscounted until the item is
healed. unavailable: could not be read, or a view of exact windows has more than `max_events` events; all NaN.
"""


class Version(msgspec.Struct, frozen=True, order=True):
    """Version of a stored item: its birth (ns) and number of commits. Unique per item."""

    birth: int
    n: int


class Read(msgspec.Struct, frozen=True):
    """Read of an item: its bytes and version, or the state that says why there are none."""

    state: State
    blob: bytes | None = None
    version: Version | None = None


ABSENT = Read("absent")
UNAVAILABLE = Read("unavailable")


class DecodedItem(NamedTuple):
    """A read, decoded once for the vector, the moment and the commit of a decision.

    `state` is None if the item could not be read or decoded; `version` is None if there is no item, or it could not be
    read.
    """

    state: ViewState | None
    version: Version | None


UNREADABLE = DecodedItem(None, None)


class FeatureVector(msgspec.Struct, frozen=True):
    """Values (`array("d")`, NaN is missing) in the order of `Definitions.features`, with states and item versions.

    States are by view name; `request: unavailable` is added if an on-demand function failed. Versions are by item key,
    for every item read: None if it does not exist.
    """

    values: Values
    states: dict[str, State]
    versions: dict[str, Version | None]

    @property
    def degraded(self) -> bool:
        """True if a view could not be read, or an on-demand feature not computed."""
        return "unavailable" in self.states.values()


def item_keys(definitions: Definitions, application: Application) -> dict[str, tuple[str, ...]]:
    """Item keys by view name, for the entities that the application names."""
    tokens = {name: entity.key_of(application) for name, entity in definitions.entities.items()}
    return item_keys_of(definitions, tokens)


def item_keys_of(definitions: Definitions, tokens: Mapping[str, str | None]) -> dict[str, tuple[str, ...]]:
    """Item keys by view name, for the entities that have a token; `tokens` are by entity name."""
    return {
        view.name: view.item_keys(token)
        for view in definitions.views
        if (token := tokens.get(view.entity.name)) is not None
    }


def decode(view: FeatureView, read: Read) -> DecodedItem:
    """Decode a read: an absent item has the state of no events, a corrupt item none."""
    if read.state == "unavailable":
        return UNREADABLE
    if read.blob is None:
        return DecodedItem(ViewState.new(view), read.version)
    try:
        return DecodedItem(ViewState.decode(view, read.blob), read.version)
    except CorruptItem:
        return DecodedItem(None, read.version)


def decode_items(
    definitions: Definitions, reads: Mapping[str, Read], keys: Mapping[str, Sequence[str]]
) -> dict[str, DecodedItem]:
    """Decode the reads of all views, by item key and in the order of the reads; `keys` are by view name."""
    views = {key: view for view in definitions.views for key in keys.get(view.name, ())}
    return {key: decode(views[key], read) for key, read in reads.items()}


def build(
    definitions: Definitions,
    items: Mapping[str, DecodedItem],
    keys: Mapping[str, Sequence[str]],
    checkout: Checkout,
    q: int,
) -> FeatureVector:
    """Vector at moment `q` (ms), from items by key and keys by view name. Views without keys are absent."""
    named, states = windowed(definitions, items, keys, q)
    answers = [feature.answer(checkout, named) for feature in definitions.on_demand]
    if None in answers:
        states[REQUEST] = "unavailable"
    ordered = [*named.values(), *(math.nan if answer is None else answer for answer in answers)]
    versions = {key: item.version for key, item in items.items() if item is not UNREADABLE}
    return FeatureVector(array("d", ordered), states, versions)


def windowed(
    definitions: Definitions, items: Mapping[str, DecodedItem], keys: Mapping[str, Sequence[str]], q: int
) -> tuple[dict[str, float], dict[str, State]]:
    """Values of the views by feature name, in declared order, and states by view name, at moment `q` (ms)."""
    named: dict[str, float] = {}
    states: dict[str, State] = {}
    for view in definitions.views:
        view_items = [items[key] for key in keys.get(view.name, ())]
        states[view.name], numbers = values_of(view, view_items, q)
        named.update(zip((feature.name for feature in view.features), numbers, strict=True))
    return named, states


def view_values(view: FeatureView, reads: Sequence[Read], q: int) -> tuple[State, Sequence[float]]:
    """State and values of one view at `q`, from the reads of all its items."""
    return values_of(view, [decode(view, read) for read in reads], q)


def values_of(view: FeatureView, items: Sequence[DecodedItem], q: int) -> tuple[State, Sequence[float]]:
    """State and values of one view at `q` (ms), from all its items.

    An item without a state, or one that cannot answer `q` exactly, is unavailable.
    """
    known = [item.state for item in items if item.state is not None]
    if len(known) < len(items) or not all(shard.answers(q) for shard in known):
        return "unavailable", _missing(view)
    if not any(shard.present(q) for shard in known):
        return "stale" if _is_stale(known) else "absent", ViewState.new(view).values(q)
    if view.max_events is not None and any(shard.overflows(q) for shard in known):
        return "unavailable", _missing(view)
    numbers = values([part for shard in known for part in shard.segments], q)
    return "stale" if _is_stale(known) else "present", numbers


def _is_stale(shards: Iterable[ViewState]) -> bool:
    return any(shard.stale for shard in shards)


def _missing(view: FeatureView) -> list[float]:
    return [math.nan] * len(view.features)
