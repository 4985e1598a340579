"""Past events as a library: training sets, and stale items made exact again.

A training set is the features of any past moments, as columns beside the rows that ask for them. The features, and
their bits, are those that `candor.online` reads.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial

import polars as pl
import pyarrow as pa

from candor.clock import Clock
from candor.contracts import Event
from candor.errors import InvalidInput, StoreUnavailable
from candor.features.definitions import Definitions
from candor.features.vector import Read
from candor.features.views import FeatureView
from candor.online import FeatureStore, require_no_on_demand
from candor.store.protocol import Commit, Committed
from history.asof.events import Knowledge, entity_column, event_table
from history.asof.point_in_time import features_as_of
from history.rebuild.backfill import ATTEMPTS
from history.rebuild.recompute import healed_commit, healing_commit, state_of

__all__ = ["Knowledge", "begin_healing", "event_table", "heal", "historical_features"]


def historical_features(
    definitions: Definitions,
    events: pa.Table | pl.DataFrame,
    rows: pa.Table | pl.DataFrame,
    *,
    knowledge: Knowledge = "at_moment",
) -> pl.DataFrame:
    """Return the rows with one added column per feature: its value as of the row's moment.

    `events`: what `event_table` makes of them, in order of arrival, duplicates included. `rows`: a column `q`, the moment
    (whole ms UTC), and a column of tokens (text) for each entity that a view is about, by its name; other columns, such
    as labels, are kept as they are. A null token names no entity: its features are those of no events. `knowledge`:
    `at_moment` counts what was known at the row's moment, `ever` also what became known later, by the events' `known_at`.

    Returns the rows in their order, none lost, with columns named and ordered as `Definitions.features` (float64, NaN
    is missing). An event at or after `q` does not count.

    Raises `InvalidInput` for a column that is missing, of another type or named like a feature, `DefinitionError` for
    declarations with on-demand features, which need a checkout.
    """
    require_no_on_demand(definitions)
    table = rows if isinstance(rows, pl.DataFrame) else pl.DataFrame(rows)
    entities = sorted({view.entity.name for view in definitions.views})
    _check(definitions, table, entities)
    moments = pl.col("q").cast(pl.Int64)
    tokens = (pl.col(name).cast(pl.String).alias(entity_column(name)) for name in entities)
    values = features_as_of(definitions, events, table.select(moments, *tokens), knowledge=knowledge)
    return table.with_columns(
        pl.Series(name, values[:, column]) for column, name in enumerate(definitions.features)
    )


def _check(definitions: Definitions, rows: pl.DataFrame, entities: list[str]) -> None:
    """Raise `InvalidInput` unless the rows have a moment and the tokens of each entity."""
    schema = rows.schema
    for name in ["q", *entities]:
        if name not in schema:
            raise InvalidInput("missing_field", "A required column is missing.", name)
    if not schema["q"].is_integer() or rows["q"].null_count():
        raise InvalidInput("invalid_timestamp", "Expected whole milliseconds in every row.", "q")
    for name in entities:
        if schema[name] not in (pl.String, pl.Null):
            raise InvalidInput("invalid_field", "Expected a column of text.", name)
    for name in definitions.features:
        if name in schema:
            raise InvalidInput("invalid_field", "Expected no column that is named like a feature.", name)


def begin_healing(
    keys: Iterable[str], definitions: Definitions, store: FeatureStore, clock: Clock
) -> frozenset[str]:
    """Mark stale items, so that what comes from now on is kept apart until `heal`; returns the keys being healed.

    `keys`: those that `Outcome.stale` names. For who learns of an item's events later than they are applied, as from
    an archive; `heal` alone does both steps. A key of an exact item, of none, or of another version of its view is left
    alone.

    Raises `StoreUnavailable` for an item that cannot be read or written now, `CorruptItem` for one that cannot be
    decoded.
    """
    items = _items(keys, definitions)
    for key, view in items.items():
        _write(store, key, partial(_marked, view, key, clock))
    reads = store.load(list(items))
    return frozenset(key for key, view in items.items() if _is_healing(view, reads[key]))


def heal(
    keys: Iterable[str], events: Iterable[Event], definitions: Definitions, store: FeatureStore, clock: Clock
) -> frozenset[str]:
    """Compute stale items anew from all events that were applied to them; returns the keys that are stale still.

    `keys`: those that `Outcome.stale` names. `events`: what `ingest` accepted, in order of arrival, up to this call or,
    where that was called before, up to `begin_healing`; those of other items are passed over. An item is stale still
    where what came meanwhile made it so: it is healed by the next call. A key of an exact item, of none, or of another
    version of its view is left alone.

    Raises `StoreUnavailable` for an item that cannot be read or written now, `CorruptItem` for one that cannot be
    decoded.
    """
    healing = begin_healing(keys, definitions, store, clock)
    items = _items(healing, definitions)
    held = _first_copies(events, definitions, healing)
    for key, view in items.items():
        _write(store, key, partial(_healed, view, key, held[key], clock))
    reads = store.load(list(items))
    return frozenset(key for key, view in items.items() if state_of(view, reads[key]).stale)


def _items(keys: Iterable[str], definitions: Definitions) -> dict[str, FeatureView]:
    """Views by the keys of their items, as far as they are kept."""
    views = {f"{view.name}@{view.version}": view for view in definitions.kept}
    return {key: view for key in keys if (view := views.get(key.partition("#")[0]))}


def _first_copies(
    events: Iterable[Event], definitions: Definitions, keys: Collection[str]
) -> Mapping[str, Sequence[Event]]:
    """Events by item, in order of arrival, each once."""
    held: defaultdict[str, dict[str, Event]] = defaultdict(dict)
    for event in events:
        for view in definitions.views_by_event[event.type]:
            token = event.entities.get(view.entity.name)
            if token is not None and (key := view.item_key(token, event.id)) in keys:
                held[key].setdefault(event.dedup_id, event)
    return defaultdict(tuple, {key: tuple(copies.values()) for key, copies in held.items()})


def _is_healing(view: FeatureView, read: Read) -> bool:
    return state_of(view, read).healing_from is not None


def _marked(view: FeatureView, key: str, clock: Clock, read: Read) -> Commit | None:
    return healing_commit(view, key, read, clock.now_ms())


def _healed(view: FeatureView, key: str, events: Sequence[Event], clock: Clock, read: Read) -> Commit | None:
    """The commit that replaces an item; None if somebody else healed it."""
    return healed_commit(view, key, read, events, clock.now_ms()) if _is_healing(view, read) else None


def _write(store: FeatureStore, key: str, prepare: Callable[[Read], Commit | None]) -> None:
    """Write what `prepare` makes of what stands, if anything, until it is written."""
    for _ in range(ATTEMPTS):
        commit = prepare(store.load([key])[key])
        if commit is None or isinstance(store.commit(commit), Committed):
            return
    raise StoreUnavailable(f"{ATTEMPTS} conflicting writers on one item")
