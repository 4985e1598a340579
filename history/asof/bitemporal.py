"""What counted at each query: an event from when it was known until its void was known, and not only when it happened.

Almost every event counts at all queries after it, for hardly any is asked about before it is known. Those are one stream,
as events are in the end. For a query at which some event counts otherwise, the events from the first of these on are copied
as they counted then; queries between which nothing changes share a copy. So the cost grows with how far back a query
differs, not with its windows, and what is only late by seconds costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from history.asof.ranges import Ints, Mask, least_over, members, running
from history.asof.stream import NEVER, EventStream, Index, ViewQueries


@dataclass(frozen=True)
class Changes:
    """Where events count otherwise than in the end: of `events` (positions), at the queries [first, last)."""

    events: Ints
    first: Ints
    last: Ints


def counted_streams(
    stream: EventStream, queries: ViewQueries, earliest: Ints | None
) -> Iterator[tuple[EventStream, ViewQueries]]:
    """Streams in which every event counts from its own moment on, and the queries that each answers.

    `earliest`: the first moment that each query looks back to, None: all of them to the beginning.
    """
    if stream.since is None and stream.gone is None:
        yield stream, queries
        return
    ends = stream.positions(queries.code, queries.edge)
    # The ends rise from query to query, so this is for each event the first query after it.
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
    """Which events count in the end, at the last queries that look back to them, and where each counts otherwise."""
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
    """Events that were voided, and those about whose entity a query was asked before they were known."""
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
    """Queries that differ, in order; each run of them between which nothing changes is a group that shares a copy."""

    queries: Ints
    heads: Ints
    """Where among the queries each group begins."""

    @property
    def ends(self) -> Ints:
        """Where among the queries each group ends."""
        return np.append(self.heads[1:], len(self.queries))

    @classmethod
    def of(cls, changes: Changes, touched: Ints, queries: int) -> QueryGroups:
        """The groups of the queries that some change touches."""
        changed = np.zeros(queries + 1, np.bool_)
        changed[changes.first] = changed[changes.last] = True
        # The first query of an entity that differs begins some event's change: no group has two entities.
        return cls(touched, np.flatnonzero(changed[touched]))


@dataclass(frozen=True)
class Copies:
    """What copies are made of: which events count in the end, each one's next query, each query's end and first change."""

    stands: Mask
    after: Ints
    ends: Ints
    lowest: Ints


def _copied(
    stream: EventStream, queries: ViewQueries, copies: Copies, groups: QueryGroups
) -> Iterator[tuple[EventStream, ViewQueries]]:
    """The events of entities with queries that differ, followed by copies of what differs, some millions at a time."""
    heads, ends = groups.heads, groups.ends
    first, last = groups.queries[heads], groups.queries[ends - 1]
    concerned = np.zeros(int(queries.code[-1]) + 1, np.bool_)
    concerned[queries.code[first]] = True
    own = np.flatnonzero(copies.stands & concerned[stream.code])
    for part, starts, within in members(copies.lowest[first], copies.ends[last]):
        leads = first[part]
        number = np.repeat(np.arange(len(leads)), np.diff(np.append(starts, len(within))))
        # At the first query of the group that an event precedes, it counts as at all others of the group.
        alive = _alive(stream, queries.edge[np.maximum(leads[number], copies.after[within])], within)
        low, high = np.searchsorted(stream.code[own], queries.code[leads[[0, -1]]] + np.array([0, 1]))
        rows, chosen = own[low:high], groups.queries[heads[part.start] : ends[part.stop - 1]]
        cut = np.searchsorted(rows, copies.lowest[chosen])
        tail = len(concerned) + np.repeat(np.arange(len(leads)), ends[part] - heads[part])
        yield (
            stream.followed_by(rows, within[alive], len(concerned) + number[alive]),
            replace(queries.only(chosen), cut=cut, tail=tail),
        )


def _alive(stream: EventStream, edge: Ints, places: Ints) -> Mask:
    """Which events counted at an edge."""
    alive = np.ones(len(places), np.bool_)
    if stream.since is not None:
        alive &= stream.since[places] < edge
    if stream.gone is not None:
        alive &= stream.gone[places] >= edge
    return alive
