"""A view's events in counting order, and the positions of moments among them.

Each event occurs once per entity (the first copy to arrive, as online), sorted by entity, moment and id.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
import polars as pl

from candor.features.views import FeatureView
from history.asof.events import Knowledge, entity_column
from history.asof.ranges import Ints, most

_SORTED_BY: Final = ("type", "id", "at", "voided_at")


@dataclass(frozen=True)
class ViewQueries:
    """Queries of one view that name its entity: row, entity number, q and right edge (ms), by entity and moment.

    Where events before a query differ from the stream, the stream counts up to position `cut`, and from there on the
    copy numbered `tail`; None: the stream is right for every query. `begin`: the first moment (ms) that counts,
    whatever a window's length; None: the entity's first event.
    """

    row: Ints
    code: Ints
    q: Ints
    edge: Ints
    cut: Ints | None = None
    tail: Ints | None = None
    begin: Ints | None = None

    def only(self, chosen: Any) -> ViewQueries:
        """Return a subset of queries that the stream alone answers."""
        begin = None if self.begin is None else self.begin[chosen]
        return ViewQueries(
            self.row[chosen], self.code[chosen], self.q[chosen], self.edge[chosen], begin=begin
        )


@dataclass(frozen=True)
class EventStream:
    """Ordered events: their rows in `source`, and the number of each one's entity or copy."""

    source: pl.DataFrame
    order: Ints
    code: Ints
    at: Ints
    since: Ints | None = None
    """When each became known (ms), its own moment at the earliest; None if all were known at their own moment."""

    gone: Ints | None = None
    """When each was known to be voided (ms), `NEVER` if it was not; None if none was."""

    copy_of: Ints | None = None
    """Entity number of each event where there are copies; None: `code` is that number."""

    _columns: dict[str, Any] = field(default_factory=dict, repr=False)

    def column(self, name: str) -> pl.Series:
        """Return a column of the events, in stream order."""
        if name not in self._columns:
            self._columns[name] = self.source[name].gather(self.order)
        series: pl.Series = self._columns[name]
        return series

    @property
    def entity(self) -> Ints:
        """Entity number of each event."""
        return self.code if self.copy_of is None else self.copy_of

    def only(self, chosen: Any) -> EventStream:
        """Return a subset of events, as known from their own moment and never voided."""
        return EventStream(self.source, self.order[chosen], self.code[chosen], self.at[chosen])

    def followed_by(self, chosen: Ints, copied: Ints, code: Ints) -> EventStream:
        """Return a subset of events as `only` does, followed by copies numbered beyond the entities."""
        both = np.concatenate([chosen, copied])
        numbers = np.concatenate([self.code[chosen], code])
        return EventStream(self.source, self.order[both], numbers, self.at[both], copy_of=self.code[both])

    def positions(self, code: Ints, moments: Ints) -> Ints:
        """Return, for each entity's moment, the position of the first event not before it."""
        return self._index.positions(code, moments)

    def born(self, code: Ints) -> Ints:
        """Return the position of each entity's first event."""
        return np.searchsorted(self.code, code)

    @cached_property
    def _index(self) -> Index:
        return Index(self.code, self.at)


class Index:
    """Searchable index of moments, sorted by entity and moment."""

    def __init__(self, code: Ints, moments: Ints) -> None:
        self._grid = Grid.of(moments, most(code, -1) + 1)
        self._keys = code * self._grid.span + self._grid.number(moments)

    def positions(self, code: Ints, moments: Ints) -> Ints:
        """Return, for each entity's moment, the position of the first one not before it."""
        return np.searchsorted(self._keys, code * self._grid.span + self._grid.number(moments))


NEVER: Final = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Grid:
    """Moments as small integers in the same order, so that entity and moment form one searchable integer."""

    origin: int
    span: int
    steps: Ints | None

    @classmethod
    def of(cls, at: Ints, codes: int) -> Grid:
        """Milliseconds since the first moment; ranks where the number of entities would overflow."""
        first, last = (int(np.min(at)), int(np.max(at))) if len(at) else (0, 0)
        span = last - first + 2
        if (codes + 1) * span < NEVER:
            return cls(first, span, None)
        steps = np.unique(at)
        return cls(first, len(steps) + 1, steps)

    def number(self, moments: Ints) -> Ints:
        """Grid number of a moment; between two steps that of the later one."""
        if self.steps is not None:
            return np.searchsorted(self.steps, moments)
        return np.clip(moments, self.origin, self.origin + self.span - 1) - self.origin


def view_stream(
    view: FeatureView, events: pl.DataFrame, queries: pl.DataFrame, knowledge: Knowledge, ahead: int
) -> tuple[EventStream, ViewQueries]:
    """Return the view's events of the queried entities, and its queries.

    `ahead`: offset of right edges after q (ms).
    """
    name = entity_column(view.entity.name)
    rows = queries.select("q", pl.col(name).alias("key")).with_row_index("row").drop_nulls("key")
    codes = rows.select(pl.col("key").unique()).with_row_index("code")
    rows = rows.join(codes, on="key", how="inner").sort("code", "q")
    q = _ints(rows["q"])
    wanted = ViewQueries(_ints(rows["row"]), _ints(rows["code"]), q, q + ahead)
    # Only row numbers are sorted; value columns are gathered on demand.
    narrow = events.select(
        pl.int_range(pl.len()).alias("source_row"),
        pl.col(name).alias("key"),
        *_SORTED_BY,
        _known_at(events, knowledge),
    )
    view_events = narrow.filter(pl.col("type").is_in(sorted(view.event_types))).drop("type")
    view_events = view_events.join(codes, on="key", how="inner", maintain_order="left").drop("key")
    return _sorted(events, _first_copies(view_events)), wanted


def _known_at(events: pl.DataFrame, knowledge: Knowledge) -> pl.Expr:
    """When events became known; null where it is not recorded, irrelevant, or an older table lacks it."""
    recorded = knowledge == "at_moment" and "known_at" in events.columns
    return pl.col("known_at").cast(pl.Int64) if recorded else pl.lit(None, pl.Int64).alias("known_at")


def _ints(series: pl.Series) -> Ints:
    return series.cast(pl.Int64).to_numpy()


def _first_copies(events: pl.DataFrame) -> pl.DataFrame:
    """Keep each id once per entity, and its void once. Only ids with colliding hashes are compared."""
    hashed = events.select(
        pl.struct("code", "id", pl.col("voided_at").is_null()).hash().alias("hash")
    ).to_series()
    again = hashed.is_duplicated()
    if not again.any():
        return events
    rows = events.with_row_index("arrival")
    firsts = rows.filter(again).unique(
        ["code", "id", pl.col("voided_at").is_null()], keep="first", maintain_order=True
    )
    keep = ~again.to_numpy()
    keep[firsts["arrival"].to_numpy()] = True
    return events.filter(pl.Series(keep))


def _sorted(source: pl.DataFrame, events: pl.DataFrame) -> EventStream:
    voided = events["voided_at"].is_not_null()
    since = gone = None
    if voided.any():
        gone_at = pl.max_horizontal("voided_at", "known_at").alias("gone")
        voids = events.filter(voided).select("code", "id", gone_at)
        events = events.filter(~voided).join(voids, on=["code", "id"], how="left", maintain_order="left")
        gone = _ints(events["gone"].fill_null(NEVER))
    if events["known_at"].null_count() < len(events):
        since = _ints(events.select(pl.max_horizontal("at", "known_at")).to_series())
    code, at = _ints(events["code"]), _ints(events["at"])
    grid = Grid.of(at, most(code, -1) + 1)
    keys = code * grid.span + grid.number(at)
    order = np.argsort(keys)
    order = _ties_by_id(events["id"], order, keys[order])
    rows = _ints(events["source_row"])
    since, gone = (None if moments is None else moments[order] for moments in (since, gone))
    return EventStream(source, rows[order], code[order], at[order], since, gone)


def _ties_by_id(ids: pl.Series, order: Ints, keys: Ints) -> Ints:
    """Order events of one moment by id; polars compares text by its UTF-8 bytes, as online."""
    same = keys[1:] == keys[:-1]
    tied = np.zeros(len(keys), np.bool_)
    tied[1:] |= same
    tied[:-1] |= same
    if not tied.any():
        return order
    positions = np.flatnonzero(tied)
    rows = pl.DataFrame({"key": keys[positions], "row": order[positions]}).with_columns(
        id=ids.gather(order[positions])
    )
    order[positions] = rows.sort("key", "id")["row"].to_numpy()
    return order
