"""Feature reads of the benchmarks: from the store's bytes, as in the scorer."""

from __future__ import annotations

from collections.abc import Sequence

from candor.features.vector import view_values
from candor.features.views import FeatureView
from candor.store.protocol import FeatureStore


def read_values(
    view: FeatureView, entities: Sequence[str], q: int, store: FeatureStore
) -> list[Sequence[float]]:
    """Features of each entity at `q` (ms). Raises RuntimeError where the store or an item cannot answer."""
    keys = [view.item_keys(entity) for entity in entities]
    reads = store.load([key for of_entity in keys for key in of_entity])
    answers = [view_values(view, [reads[key] for key in entity_keys], q) for entity_keys in keys]
    if any(state == "unavailable" for state, _ in answers):
        raise RuntimeError(f'view "{view.name}" cannot be read at {q}')
    return [values for _, values in answers]
