"""Events known at each query: an event counts from the time it became known until its void became known.

Nearly every event counts at all later queries, since few are queried before they are known. These form one stream, in
their final state. For a query at which some event counts differently, the events from the first such one on are
copied in their state at that query; queries between which nothing changes share a copy. The cost grows with how far
back a query differs, not with its windows, and events late by seconds cost almost nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from history.asof.ranges import Ints, Mask, least_over, members, running
from history.asof.stream import NEVER, EventStream, Index, ViewQueries


@dataclass(frozen=True)
class Changes:
    """Deviations from the final state: of `events` (positions), at the queries [first, last)."""

    events: Ints
    first: Ints
    last: Ints


def counted_streams(
    stream: EventStream, queries: ViewQueries, earliest: Ints | None
) -> Iterator[tuple[EventStream, ViewQueries]]:
    """Yield streams whose events all count from their own moment on, and the queries that each answers.

    `earliest`: the first moment that each query looks back to; None: the beginning.
    """
    if stream.since is None and stream.gone is None:
        yield stream, queries
        return
    ends = stream.positions(queries.code, queries.edge)
    # Ends ascend, so this is the first query after each event.
    after = running(np.bincount(ends, minlength=len(stream.at) + 1))[1:-1]
    stands, changes = _changes(stream, queries, earliest, after)
    lowest = least_over(len(queries.q), changes.first, changes.last, changes.events, len(stream.at))
    touched = lowest < len(stream.at)
    eventual = stream.only(slice(None) if stands.all() else np.flatnonzero(stands))
    yield eventual, queries.only(~touched)
    if touched.any():
        groups = QueryGroups.of(changes, np.flatnonzero(touched), len(queries.q))
        yield from _copied(stream, queries, Copies(stands, after, ends, lowest), groups)


def _changes(
    stream: EventStream, queries: ViewQueries, earliest: Ints | None, after: Ints
) -> tuple[Mask, Changes]:
    """Return which events count in the final state, and where each counts otherwise.

    The final state is that of the last queries that look back to an event.
    """
    stands = np.ones(len(stream.at), np.bool_)
    events = np.flatnonzero(_suspects(stream, queries, after))
    code, first = stream.code[events], after[events]
    by_edge = Index(queries.code, queries.edge)
    known = first if stream.since is None else by_edge.positions(code, stream.since[events] + 1)
    reach = np.searchsorted(queries.code, code, side="right")
    if earliest is not None:
        visible = Index(queries.code, earliest).positions(code, stream.at[events] + 1)
        reach = np.maximum(np.minimum(reach, visible), first)
    void = reach
    if stream.gone is not None:
        gone = stream.gone[events]
        void = np.where(gone == NEVER, reach, by_edge.positions(code, np.minimum(gone, NEVER - 1) + 1))
    known, void = np.clip(known, first, reach), np.clip(void, first, reach)
    never, late = void <= known, void == reach
    stands[events[(never & (first < reach)) | ~late]] = False
    begin, end = np.where(late, first, known), np.where(late, known, void)
    some = ~never & (begin < end)
    return stands, Changes(events[some], begin[some], end[some])


def _suspects(stream: EventStream, queries: ViewQueries, after: Ints) -> Mask:
    """Mask of voided events, and of events whose entity was queried before they were known."""
    suspects = np.zeros(len(stream.at), np.bool_)
    if stream.gone is not None:
        suspects |= stream.gone != NEVER
    if stream.since is not None and len(queries.q):
        next_query = np.minimum(after, len(queries.q) - 1)
        late = queries.edge[next_query] <= stream.since
        suspects |= late & (after < len(queries.q)) & (queries.code[next_query] == stream.code)
    return suspects


@dataclass(frozen=True)
class QueryGroups:
    """Queries that deviate from the final state, in order; consecutive ones without a change share a copy."""

    queries: Ints
    heads: Ints
    """Index of each group's first query."""

    @property
    def ends(self) -> Ints:
        """Index after each group's last query."""
        return np.append(self.heads[1:], len(self.queries))

    @classmethod
    def of(cls, changes: Changes, touched: Ints, queries: int) -> QueryGroups:
        """Group the queries that some change touches."""
        changed = np.zeros(queries + 1, np.bool_)
        changed[changes.first] = changed[changes.last] = True
        # An entity's first deviating query starts some change, so no group spans two entities.
        return cls(touched, np.flatnonzero(changed[touched]))


@dataclass(frozen=True)
class Copies:
    """Inputs of copies: final-state mask, next query of each event, end and first change of each query."""

    stands: Mask
    after: Ints
    ends: Ints
    lowest: Ints


def _copied(
    stream: EventStream, queries: ViewQueries, copies: Copies, groups: QueryGroups
) -> Iterator[tuple[EventStream, ViewQueries]]:
    """Yield the events of entities with deviating queries, followed by copies, some millions at a time."""
    heads, ends = groups.heads, groups.ends
    first, last = groups.queries[heads], groups.queries[ends - 1]
    concerned = np.zeros(int(queries.code[-1]) + 1, np.bool_)
    concerned[queries.code[first]] = True
    own = np.flatnonzero(copies.stands & concerned[stream.code])
    for part, starts, within in members(copies.lowest[first], copies.ends[last]):
        leads = first[part]
        number = np.repeat(np.arange(len(leads)), np.diff(np.append(starts, len(within))))
        # An event counts alike at all queries of the group that follow it.
        alive = _alive(stream, queries.edge[np.maximum(leads[number], copies.after[within])], within)
        low, high = np.searchsorted(stream.code[own], queries.code[leads[[0, -1]]] + np.array([0, 1]))
        rows, chosen = own[low:high], groups.queries[heads[part.start] : ends[part.stop - 1]]
        cut = np.searchsorted(rows, copies.lowest[chosen])
        tail = len(concerned) + np.repeat(np.arange(len(leads)), ends[part] - heads[part])
        yield (
            stream.followed_by(rows, within[alive], len(concerned) + number[alive]),
            replace(queries.only(chosen), cut=cut, tail=tail),
        )


def _alive(stream: EventStream, edge: Ints, positions: Ints) -> Mask:
    """Mask of the events that counted at an edge."""
    alive = np.ones(len(positions), np.bool_)
    if stream.since is not None:
        alive &= stream.since[positions] < edge
    if stream.gone is not None:
        alive &= stream.gone[positions] >= edge
    return alive
