"""Training sets as a library: feature values as of past moments, as columns beside the rows that ask for them.

The values are bit-identical to those that `candor.online` reads.
"""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from candor.errors import InvalidInput
from candor.features.definitions import Definitions
from candor.online import require_no_on_demand
from history.asof.events import entity_column, event_table
from history.asof.point_in_time import features_as_of

__all__ = ["event_table", "historical_features"]


def historical_features(
    definitions: Definitions, events: pa.Table | pl.DataFrame, rows: pa.Table | pl.DataFrame
) -> pl.DataFrame:
    """Return the rows with one added column per feature: its value as of the row's moment.

    `events`: a table of `event_table`, in order of arrival, duplicates included. `rows`: a column `q`, the moment
    (whole ms UTC), and a column of tokens (text) for each entity that a view is about, named as the entity; other
    columns, such as labels, are kept. A null token names no entity: its features are those of no events.

    The rows keep their order and number. Feature columns are named and ordered as `Definitions.features` (float64,
    NaN is missing). An event at or after `q` does not count.

    Raises `InvalidInput` for a column that is missing, of another type or named like a feature, `DefinitionError` for
    declarations with on-demand features, which need a checkout.
    """
    require_no_on_demand(definitions)
    table = rows if isinstance(rows, pl.DataFrame) else pl.DataFrame(rows)
    entities = sorted({view.entity.name for view in definitions.views})
    _check(definitions, table, entities)
    moments = pl.col("q").cast(pl.Int64)
    tokens = (pl.col(name).cast(pl.String).alias(entity_column(name)) for name in entities)
    values = features_as_of(definitions, events, table.select(moments, *tokens))
    return table.with_columns(
        pl.Series(name, values[:, column]) for column, name in enumerate(definitions.features)
    )


def _check(definitions: Definitions, rows: pl.DataFrame, entities: list[str]) -> None:
    """Raise `InvalidInput` unless the rows have a moment and the tokens of each entity."""
    schema = rows.schema
    for name in ["q", *entities]:
        if name not in schema:
            raise InvalidInput("missing_field", "A required column is missing.", name)
    if not schema["q"].is_integer() or rows["q"].null_count():
        raise InvalidInput("invalid_timestamp", "Expected whole milliseconds in every row.", "q")
    for name in entities:
        if schema[name] not in (pl.String, pl.Null):
            raise InvalidInput("invalid_field", "Expected a column of text.", name)
    for name in definitions.features:
        if name in schema:
            raise InvalidInput("invalid_field", "Expected no column that is named like a feature.", name)
