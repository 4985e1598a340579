"""What counted at each question: an event from when it was known until its void was known, and not only when it happened.

Almost every event counts at all questions after it, for hardly any is asked about before it is known. Those are one stream,
as events are in the end. For a question at which some event counts otherwise, the events from the first of these on are copied
as they counted then; questions between which nothing changes share a copy. So the cost grows with how far back a question
differs, not with its windows, and what is only late by seconds costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from history.asof.ranges import Ints, Mask, least_over, members, running
from history.asof.stream import NEVER, Asked, Index, Stream


@dataclass(frozen=True)
class Changes:
    """Where events count otherwise than in the end: of `events` (positions), at the questions [first, last)."""

    events: Ints
    first: Ints
    last: Ints


def standing(stream: Stream, asked: Asked, earliest: Ints | None) -> Iterator[tuple[Stream, Asked]]:
    """Streams in which every event counts from its own moment on, and the questions that each answers.

    `earliest`: the first moment that each question looks back to, None: all of them to the beginning.
    """
    if stream.since is None and stream.gone is None:
        yield stream, asked
        return
    ends = stream.positions(asked.code, asked.edge)
    # The ends rise from question to question, so this is for each event the first question after it.
    after = running(np.bincount(ends, minlength=len(stream.at) + 1))[1:-1]
    stands, changes = _changes(stream, asked, earliest, after)
    lowest = least_over(len(asked.q), changes.first, changes.last, changes.events, len(stream.at))
    touched = lowest < len(stream.at)
    eventual = stream.only(slice(None) if stands.all() else np.flatnonzero(stands))
    yield eventual, asked.only(~touched)
    if touched.any():
        groups = _groups(changes, np.flatnonzero(touched), len(asked.q))
        yield from _copied(stream, asked, Copies(stands, after, ends, lowest, groups))


def _changes(stream: Stream, asked: Asked, earliest: Ints | None, after: Ints) -> tuple[Mask, Changes]:
    """Which events count in the end, at the last questions that look back to them, and where each counts otherwise."""
    stands = np.ones(len(stream.at), np.bool_)
    events = np.flatnonzero(_suspects(stream, asked, after))
    code, first = stream.code[events], after[events]
    by_edge = Index(asked.code, asked.edge)
    known = first if stream.since is None else by_edge.positions(code, stream.since[events] + 1)
    reach = np.searchsorted(asked.code, code, side="right")
    if earliest is not None:
        visible = Index(asked.code, earliest).positions(code, stream.at[events] + 1)
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


def _suspects(stream: Stream, asked: Asked, after: Ints) -> Mask:
    """Events that were voided, and those about whose entity a question was asked before they were known."""
    suspects = np.zeros(len(stream.at), np.bool_)
    if stream.gone is not None:
        suspects |= stream.gone != NEVER
    if stream.since is not None and len(asked.q):
        next_question = np.minimum(after, len(asked.q) - 1)
        late = asked.edge[next_question] <= stream.since
        suspects |= late & (after < len(asked.q)) & (asked.code[next_question] == stream.code)
    return suspects


@dataclass(frozen=True)
class Groups:
    """Questions that differ, in order, and where among them each run begins between which nothing changes."""

    questions: Ints
    heads: Ints


def _groups(changes: Changes, touched: Ints, questions: int) -> Groups:
    changed = np.zeros(questions + 1, np.bool_)
    changed[changes.first] = changed[changes.last] = True
    new = changed[touched]  # the first question of an entity that differs begins some event's change
    return Groups(touched, np.flatnonzero(new))


@dataclass(frozen=True)
class Copies:
    """What copies are made of: which events count in the end, each one's next question, each question's end and first change."""

    stands: Mask
    after: Ints
    ends: Ints
    lowest: Ints
    groups: Groups


def _copied(stream: Stream, asked: Asked, copies: Copies) -> Iterator[tuple[Stream, Asked]]:
    """The events of entities with questions that differ, followed by copies of what differs, some millions at a time."""
    questions, heads = copies.groups.questions, copies.groups.heads
    tails = np.append(heads[1:], len(questions))
    first, last = questions[heads], questions[tails - 1]
    concerned = np.zeros(int(asked.code[-1]) + 1, np.bool_)
    concerned[asked.code[first]] = True
    own = np.flatnonzero(copies.stands & concerned[stream.code])
    owners = stream.code[own]
    for part, starts, within in members(copies.lowest[first], copies.ends[last]):
        leads = first[part]
        every = np.repeat(np.arange(len(leads)), np.diff(np.append(starts, len(within))))
        alive = _alive(stream, asked.edge[np.maximum(leads[every], copies.after[within])], within)
        copy, places = every[alive], within[alive]
        low, high = np.searchsorted(owners, asked.code[leads[[0, -1]]] + np.array([0, 1]))
        rows, codes = own[low:high], len(concerned)
        chosen = questions[heads[part.start] : tails[part.stop - 1]]
        number = np.repeat(np.arange(len(leads)), tails[part] - heads[part])
        answered = asked.only(chosen)
        yield (
            Stream(
                stream.source,
                np.concatenate([stream.order[rows], stream.order[places]]),
                np.concatenate([stream.code[rows], codes + copy]),
                np.concatenate([stream.at[rows], stream.at[places]]),
                copy_of=np.concatenate([stream.code[rows], stream.code[places]]),
            ),
            Asked(
                *(answered.row, answered.code, answered.q, answered.edge),
                cut=np.searchsorted(rows, copies.lowest[chosen]),
                tail=codes + number,
            ),
        )


def _alive(stream: Stream, edge: Ints, places: Ints) -> Mask:
    """Which events counted at an edge."""
    alive = np.ones(len(places), np.bool_)
    if stream.since is not None:
        alive &= stream.since[places] < edge
    if stream.gone is not None:
        alive &= stream.gone[places] >= edge
    return alive
