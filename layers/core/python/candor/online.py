"""Online features as a library: apply events to a store, and read features of entities from it.

`MemoryFeatureStore` keeps everything in this process; the DynamoDB store of the deployed functions has the same
contract. `history.offline` builds training sets of the same features.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from candor.errors import DefinitionError, InvalidInput
from candor.features.definitions import Definitions
from candor.features.vector import State, decode_items, item_keys_of, windowed
from candor.ingest import IngestOutcome, ingest
from candor.store.memory import MemoryFeatureStore
from candor.store.protocol import FeatureStore
from candor.updates import Retention

__all__ = [
    "FeatureStore",
    "IngestOutcome",
    "MemoryFeatureStore",
    "OnlineFeatures",
    "Retention",
    "State",
    "ingest",
    "online_features",
]


class OnlineFeatures(msgspec.Struct, frozen=True):
    """Features of entities at one moment.

    `values`: by feature name, in the order of `Definitions.features`; NaN is missing. `states`: by view name, how its values
    came to be: `present`, `absent` (no event, voided or not, is within reach; the values are those of no events), `stale` (an event
    may be wrong until the item is healed) or `unavailable` (could not be read, all NaN).
    """

    values: dict[str, float]
    states: dict[str, State]


def online_features(
    definitions: Definitions, store: FeatureStore, entities: Mapping[str, str], q: int
) -> OnlineFeatures:
    """Features of every view at moment `q` (ms UTC), with one read of the store.

    `entities`: tokens by entity name, such as `{"card": "c-17", "terminal": "t-4"}`. Views of an unnamed entity are
    absent. Events at or after `q` do not count. Items that cannot be read show in `states`; the store does not raise
    here.

    Raises `InvalidInput` for an entity that is not declared or a token that is no text, `DefinitionError` for
    declarations with features on demand, which are computed from a checkout.
    """
    require_no_on_demand(definitions)
    _check(definitions, entities)
    keys = item_keys_of(definitions, entities)
    reads = store.load([key for of_view in keys.values() for key in of_view])
    return OnlineFeatures(*windowed(definitions, decode_items(definitions, reads, keys), keys, q))


def require_no_on_demand(definitions: Definitions) -> None:
    """Raise `DefinitionError` if a feature is computed from a checkout."""
    if definitions.on_demand:
        raise DefinitionError(
            f'feature "{definitions.on_demand[0].feature}" is computed from a checkout, and there is none here: '
            "leave on_demand= out of these definitions"
        )


def _check(definitions: Definitions, entities: Mapping[str, str]) -> None:
    for name, token in entities.items():
        if name not in definitions.entities:
            declared = ", ".join(definitions.entities)
            raise InvalidInput("invalid_field", f"Expected declared entities: {declared}.", "entities")
        if type(token) is not str:
            raise InvalidInput("invalid_field", "Expected text.", f"entities.{name}")
