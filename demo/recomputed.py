"""Vectors of decided checkouts computed again from the archive, each by the definitions of the model that decided."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from candor.contracts import Event
from candor.features.definitions import Definitions
from history.asof.point_in_time import PointInTimeQuery, point_in_time

Vector = tuple[float, ...]


class Recomputed(NamedTuple):
    """Vectors by row, right and with a leak; None where the definitions that decided are no longer declared."""

    right: Sequence[Vector | None]
    leaky: Sequence[Vector | None]


def declared_by_hash(
    definitions: Definitions, trained: Mapping[str, Sequence[str]]
) -> dict[str, Definitions]:
    """Declarations by their hash: the current ones, and those of models, as far as their views are still kept.

    `trained` holds the models' feature names by the hash of their definitions.
    """
    earlier = {name: definitions.pinned(features, name) for name, features in trained.items()}
    return {name: kept for name, kept in earlier.items() if kept} | {definitions.hash: definitions}


def recompute(
    declared: Mapping[str, Definitions],
    hashes: Sequence[str],
    queries: Sequence[PointInTimeQuery],
    events: Iterable[Event],
) -> Recomputed:
    """Compute each query by the declarations that its hash names. The demo's events are known from their own moment."""
    right: list[Vector | None] = [None] * len(queries)
    with_leak: list[Vector | None] = [None] * len(queries)
    accepted = list(events)
    for name, definitions in declared.items():
        chosen = [index for index, row_hash in enumerate(hashes) if row_hash == name]
        if not chosen:
            continue
        questions = [queries[index] for index in chosen]
        for vectors, leaky in ((right, False), (with_leak, True)):
            table = point_in_time(definitions, accepted, questions, leaky=leaky)
            for row, index in enumerate(chosen):
                vectors[index] = table.vector(row)
    return Recomputed(right, with_leak)
