"""What was voided counts until that moment: an entity is a different one after each of its voids.

Questions between two voids of their entity see the same events. Those are copied for them, as far as any of them looks back, and
from then on nothing knows of voids. An entity without voids is not copied.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from history.asof.ranges import Ints, members, most
from history.asof.stream import NEVER, Asked, Stream

_EVER: Final = np.iinfo(np.int64).min


def standing(stream: Stream, asked: Asked, earliest: Ints | None) -> Iterator[tuple[Stream, Asked]]:
    """Streams without voids, and the questions that each answers.

    `earliest`: the first moment that each question looks back to, None: all of them to the beginning.
    """
    if stream.gone is None:
        yield stream, asked
        return
    voided = stream.gone != NEVER
    touched = np.zeros(max(most(stream.code), most(asked.code)) + 1, np.bool_)
    touched[stream.code[voided]] = True
    plain = np.flatnonzero(~touched[stream.code])
    yield stream.only(plain, stream.code[plain]), asked.only(~touched[asked.code])
    if earliest is None:
        earliest = np.full(len(asked.q), _EVER)
    rows = touched[asked.code]
    if rows.any():
        yield from _between(stream, asked.only(rows), earliest[rows], np.flatnonzero(voided))


def _between(stream: Stream, asked: Asked, earliest: Ints, voided: Ints) -> Iterator[tuple[Stream, Asked]]:
    """Questions by what had been voided before their edges: those of one entity and one such number see the same."""
    assert stream.gone is not None
    order = voided[np.lexsort((stream.gone[voided], stream.code[voided]))]
    voids = Stream(stream.source, order, stream.code[order], stream.gone[order])
    passed = voids.positions(asked.code, asked.edge)  # rises from question to question, as their order is
    new = (passed[1:] != passed[:-1]) | (asked.code[1:] != asked.code[:-1])
    first = np.flatnonzero(np.concatenate([[True], new]))
    group = np.cumsum(np.concatenate([[0], new])).astype(np.int64)
    starts = stream.positions(asked.code[first], np.minimum.reduceat(earliest, first))
    ends = stream.positions(asked.code[first], np.maximum.reduceat(asked.edge, first))
    edge = asked.edge[first]
    some = np.flatnonzero(ends > starts)  # the others have empty windows, which is what stands there
    for part, heads, places in members(starts[some], ends[some]):
        mine = some[part]
        owner = np.repeat(np.arange(len(mine)), np.diff(np.append(heads, len(places))))
        alive = stream.gone[places] >= edge[mine][owner]
        number = np.full(len(first), -1, np.int64)
        number[mine] = np.arange(len(mine))
        questions = number[group] >= 0
        answered = asked.only(questions)
        yield (
            stream.only(places[alive], owner[alive]),
            Asked(answered.row, number[group[questions]], answered.q, answered.edge),
        )
