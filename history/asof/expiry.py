"""Limits on the history that counts at a query: a view's expiry, and the event limit of exact windows.

Both apply to all known events, voided ones included, so they are computed before voids are applied.
"""

from __future__ import annotations

import numpy as np

from candor.features.views import FeatureView
from history.asof.ranges import Ints, Mask
from history.asof.stream import EventStream, Index, ViewQueries


def history_starts(view: FeatureView, stream: EventStream, queries: ViewQueries) -> Ints | None:
    """Return the first moment (ms) that counts at each query; its right edge where the whole history has expired.

    None: nothing is cut off, because the view does not expire or no window looks back that far.
    """
    expiry = view.expiry_ms
    if expiry is None or all(feature.window.length is not None for feature in view.features):
        return None
    ends, born = stream.positions(queries.code, queries.edge), stream.born(queries.code)
    begins = queries.edge.copy()
    some = np.flatnonzero(ends > born)
    if not len(some):
        return begins
    positions = np.arange(len(stream.at))
    cut = np.ones(len(stream.at), np.bool_)
    cut[1:] = (stream.code[1:] != stream.code[:-1]) | (stream.at[1:] - stream.at[:-1] > expiry)
    first = np.maximum.accumulate(np.where(cut, positions, 0))
    last = ends[some] - 1
    lives = some[queries.edge[some] - stream.at[last] <= expiry]
    begins[lives] = stream.at[first[ends[lives] - 1]]
    for row in np.flatnonzero(_unknown(stream, queries, ends) > 0).tolist():
        begins[row] = _begin(stream, born[row], ends[row], int(queries.edge[row]), expiry)
    return begins


def _unknown(stream: EventStream, queries: ViewQueries, ends: Ints) -> Ints:
    """Number of events before each query's edge that were not known then."""
    if stream.since is None:
        return np.zeros(len(queries.q), np.int64)
    order = np.lexsort((stream.since, stream.code))
    by_knowledge = Index(stream.code[order], stream.since[order])
    return ends - by_knowledge.positions(queries.code, queries.edge)


def _begin(stream: EventStream, start: int, end: int, edge: int, expiry: int) -> int:
    """Return the first moment that counts at one query, given the events known then."""
    moments = _known(stream, start, end, edge)
    if not len(moments) or edge - moments[-1] > expiry:
        return edge
    gaps = np.flatnonzero(np.diff(moments) > expiry)
    return int(moments[gaps[-1] + 1] if len(gaps) else moments[0])


def _known(stream: EventStream, start: int, end: int, edge: int) -> Ints:
    """Moments of the events at these positions that were known before the edge."""
    moments = stream.at[start:end]
    return moments if stream.since is None else moments[stream.since[start:end] < edge]


def overflows(view: FeatureView, stream: EventStream, queries: ViewQueries) -> Mask | None:
    """Mask of queries whose longest exact window exceeds the view's `max_events`; None: no query can."""
    if view.max_events is None:
        return None
    longest = max(feature.window.length or 0 for feature in view.features)
    ends = stream.positions(queries.code, queries.edge)
    starts = np.minimum(stream.positions(queries.code, queries.q - longest), ends)
    held = ends - starts
    for row in np.flatnonzero((_unknown(stream, queries, ends) > 0) & (held > view.max_events)).tolist():
        held[row] = len(_known(stream, starts[row], ends[row], int(queries.edge[row])))
    return held > view.max_events
