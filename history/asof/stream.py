"""A view's events in the order in which they count, and where moments fall in it.

Every event once per entity (the copy that arrived first, as online), sorted by entity, moment and id.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl

from candor.features.views import FeatureView
from history.asof.events import entity_column
from history.asof.ranges import Ints, most

_SORTED_BY: Final = ("type", "id", "at", "voided_at")

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Asked:
    """Questions of one view that name its entity, by entity and moment: row, number of the entity, q and right edge (ms)."""

    row: Ints
    code: Ints
    q: Ints
    edge: Ints

    def only(self, chosen: Any) -> Asked:
        return Asked(self.row[chosen], self.code[chosen], self.q[chosen], self.edge[chosen])


@dataclass(frozen=True)
class Stream:
    """Events in order: which rows of `source` they are, and the number of each one's entity."""

    source: pl.DataFrame
    order: Ints
    code: Ints
    at: Ints
    gone: Ints | None = None
    """When each was voided (ms), `NEVER` if it was not; None if nothing was."""

    _columns: dict[str, Any] = field(default_factory=dict, repr=False)

    def column(self, name: str) -> pl.Series:
        """A column of the events, in their order."""
        if name not in self._columns:
            self._columns[name] = self.source[name].gather(self.order)
        found: pl.Series = self._columns[name]
        return found

    def only(self, chosen: Ints, code: Ints) -> Stream:
        """Some events (any of them more than once), as those of these entities; none is voided."""
        return replace(self, order=self.order[chosen], code=code, at=self.at[chosen], gone=None, _columns={})

    def positions(self, code: Ints, moments: Ints) -> Ints:
        """For each entity's moment the place of the first event that is not before it."""
        return np.searchsorted(self._keys, code * self._grid.span + self._grid.place(moments))

    @cached_property
    def _grid(self) -> Grid:
        return Grid.of(self.at, int(self.code[-1]) + 1 if len(self.code) else 0)

    @cached_property
    def _keys(self) -> Ints:
        return self.code * self._grid.span + self._grid.place(self.at)


NEVER: Final = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Grid:
    """Moments as small numbers in the same order, so that entity and moment make one integer to search for."""

    origin: int
    span: int
    steps: Ints | None

    @classmethod
    def of(cls, at: Ints, codes: int) -> Grid:
        """Milliseconds from the first moment on; their ranks where so many entities would overflow."""
        first, last = (int(np.min(at)), int(np.max(at))) if len(at) else (0, 0)
        span = last - first + 2
        if (codes + 1) * span < NEVER:
            return cls(first, span, None)
        steps = np.unique(at)
        return cls(first, len(steps) + 1, steps)

    def place(self, moments: Ints) -> Ints:
        """Of a moment between two steps: the later one's."""
        if self.steps is not None:
            return np.searchsorted(self.steps, moments)
        return np.clip(moments, self.origin, self.origin + self.span - 1) - self.origin


def streamed(
    view: FeatureView, events: pl.DataFrame, asked: pl.DataFrame, ahead: int
) -> tuple[Stream, Asked]:
    """The view's events of the entities that are asked about, and its questions. `ahead`: how far edges lie after q (ms)."""
    name = entity_column(view.entity.name)
    questions = asked.select("q", pl.col(name).alias("key")).with_row_index("row").drop_nulls("key")
    codes = questions.select(pl.col("key").unique()).with_row_index("code")
    questions = questions.join(codes, on="key", how="inner").sort("code", "q")
    q = _ints(questions["q"])
    wanted = Asked(_ints(questions["row"]), _ints(questions["code"]), q, q + ahead)
    # Columns of values stay where they are: places are sorted, and what is asked of a column is fetched from there.
    narrow = events.select(pl.int_range(pl.len()).alias("place"), pl.col(name).alias("key"), *_SORTED_BY)
    mine = narrow.filter(pl.col("type").is_in(sorted(view.event_types))).drop("type")
    mine = mine.join(codes, on="key", how="inner", maintain_order="left").drop("key")
    return _sorted(events, _first_copies(mine)), wanted


def _ints(series: pl.Series) -> Ints:
    return series.cast(pl.Int64).to_numpy()


def _first_copies(events: pl.DataFrame) -> pl.DataFrame:
    """Each id once per entity, and its void once. Ids whose hash comes once need no closer look."""
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


def _sorted(source: pl.DataFrame, events: pl.DataFrame) -> Stream:
    voided = events["voided_at"].is_not_null()
    gone = None
    if voided.any():
        voids = events.filter(voided).select("code", "id", pl.col("voided_at").alias("gone"))
        events = events.filter(~voided).join(voids, on=["code", "id"], how="left", maintain_order="left")
        gone = _ints(events["gone"].fill_null(NEVER))
    code, at = _ints(events["code"]), _ints(events["at"])
    grid = Grid.of(at, most(code, -1) + 1)
    keys = code * grid.span + grid.place(at)
    order = np.argsort(keys)
    order = _ties_by_id(events["id"], order, keys[order])
    places = _ints(events["place"])
    return Stream(source, places[order], code[order], at[order], None if gone is None else gone[order])


def _ties_by_id(ids: pl.Series, order: Ints, keys: Ints) -> Ints:
    """Events of one moment by their ids; polars compares text by its UTF-8 bytes, as online."""
    same = keys[1:] == keys[:-1]
    tied = np.zeros(len(keys), np.bool_)
    tied[1:] |= same
    tied[:-1] |= same
    if not tied.any():
        return order
    places = np.flatnonzero(tied)
    rows = pl.DataFrame({"key": keys[places], "row": order[places]}).with_columns(
        id=ids.gather(order[places])
    )
    order[places] = rows.sort("key", "id")["row"].to_numpy()
    return order
