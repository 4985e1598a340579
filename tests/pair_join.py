"""Reference implementation of the engine in SQL: one join of queries and events.

The declarations are compiled to ibis expressions and run on DuckDB. The cost is the number of pairs of queries and
events, so nothing is built with it: tests compare the engine with it, and analysts can read it.

Each view is one join on the entity, bounded by the widest window, and one aggregate per part and window over the
joined pairs. An event voided by the query's moment is not joined; a void is no event of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal, localcontext
from hashlib import blake2b
from typing import Any, Final

import duckdb
import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa

from candor.features.aggregations import Aggregation, LastCategory, TimeSinceLast
from candor.features.composed import LastK
from candor.features.decayed import DecayedSum, RateOfChange
from candor.features.definitions import Definitions
from candor.features.distinct import Distinct
from candor.features.views import FeatureView
from candor.features.windows import Window
from history.asof.events import Knowledge, entity_column, event_schema, field_column, kinds

_EXACT: Final = "decimal(38, 0)"
"""128-bit integers: 10¹⁴ squares of 10¹² fit; DuckDB raises on overflow."""

_NO_VALUE: Final = -(2**62)
"""Sentinel outside the range of fields, whose integers are at most 10¹⁵ in size."""

_PRODUCT: Final = "decimal(19, 0)"
_QUERIES: Final = pa.schema([("row", pa.int64()), ("q", pa.int64()), ("key", pa.string())])


@ibis.udf.agg.builtin  # type: ignore[untyped-decorator] # ibis ships no types
def max_by(value: int, place: int, k: int) -> list[int]:  # type: ignore[empty-body] # DuckDB has the body
    """DuckDB's own function: values of the `k` highest places, highest first."""


def features_by_join(
    definitions: Definitions,
    events: pa.Table,
    queries: pa.Table,
    *,
    knowledge: Knowledge = "at_moment",
    ahead: int = 0,
) -> np.ndarray:
    """As `features_as_of`, by one SQL query per view. `ahead`: offset of right edges after q (ms)."""
    if knowledge == "ever":
        nothing = pa.nulls(events.num_rows, pa.int64())
        events = events.set_column(events.column_names.index("known_at"), "known_at", nothing)
    values = np.full((queries.num_rows, len(definitions.features)), np.nan)
    q = queries["q"].to_pylist()
    column = 0
    with duckdb.connect() as engine:
        engine.register("events", _prepared(definitions, events))
        for view in definitions.views:
            keys = queries[entity_column(view.entity.name)]
            engine.register("queries", pa.table([range(len(q)), queries["q"], keys], schema=_QUERIES))
            answer = engine.sql(view_sql(definitions, view, ahead=ahead)).to_arrow_table()
            _finalise(view, answer, q, values[:, column : column + len(view.features)])
            column += len(view.features)
    return values


def _prepared(definitions: Definitions, events: pa.Table) -> pa.Table:
    """Add columns that SQL cannot compute: the order of arrival, and the registers of texts and integers."""
    events = events.append_column("arrival", pa.array(range(events.num_rows), pa.int64()))
    for field in _counted_fields(definitions):
        named = [
            events[name]
            for name in (field_column(field, kind) for kind in ("integer", "text"))
            if name in events.column_names
        ]
        values = (
            next((value for value in row if value is not None), None)
            for row in zip(*(column.to_pylist() for column in named), strict=True)
        )
        events = events.append_column(
            field_column(field, "register"), pa.array(map(_register, values), pa.int64())
        )
    return events


def view_sql(definitions: Definitions, view: FeatureView, *, ahead: int = 0) -> str:
    """Return one view as DuckDB SQL over the tables `events` and `queries`."""
    events = ibis.table(ibis.schema(_schema(definitions)), name="events")
    queries = ibis.table(ibis.schema(_QUERIES), name="queries")
    return str(ibis.to_sql(view_parts(view, events, queries, ahead=ahead), dialect="duckdb"))


def view_parts(view: FeatureView, events: ir.Table, queries: ir.Table, *, ahead: int = 0) -> ir.Table:
    """Return one view as an expression: `row` and a column per distinct part and window, for rows with events only."""
    pairs = _pairs(view, _distinct_events(view, events), queries, ahead=ahead)
    parts = {
        _part_column(leaf, name, feature.window): _part(view, leaf, name, feature.window, pairs)
        for feature in view.features
        for leaf in feature.aggregation.leaves
        for name in _sql_parts(leaf)
    }
    return pairs.group_by("row").aggregate(**parts)


def _sql_parts(leaf: Aggregation) -> tuple[str, ...]:
    """Parts that SQL computes for a leaf; counts beyond the exact ones are derived from registers."""
    return ("n_distinct", "registers") if isinstance(leaf, Distinct) else leaf.parts


def _leaves(definitions: Definitions) -> Iterable[Aggregation]:
    for view in definitions.views:
        for aggregation in view.aggregations:
            yield from aggregation.leaves


def _counted_fields(definitions: Definitions) -> list[str]:
    """Fields whose distinct values are counted."""
    return sorted({str(leaf.field) for leaf in _leaves(definitions) if isinstance(leaf, Distinct)})


def _register(value: int | str | None) -> int | None:
    """Register (10 low bits of the digest) and rank (position of the first 1 in the 54 others) as one integer."""
    if value is None:
        return None
    named = f"int:{value}" if isinstance(value, int) else f"str:{value}"
    bits = f"{int.from_bytes(blake2b(named.encode(), digest_size=8).digest(), 'big'):064b}"
    return int(bits[-10:], 2) * 64 + (bits[:-10] + "1").index("1") + 1


def _schema(definitions: Definitions) -> pa.Schema:
    counted = [(field_column(field, "register"), pa.int64()) for field in _counted_fields(definitions)]
    return pa.schema([*event_schema(definitions), ("arrival", pa.int64()), *counted])


def _distinct_events(view: FeatureView, events: ir.Table) -> ir.Table:
    """The view's events, each id once per entity (first copy to arrive, as online), with when they were voided."""
    entity = events[entity_column(view.entity.name)]
    distinct = events.filter(events.type.isin(sorted(view.event_types)), entity.notnull())
    distinct = distinct.mutate(entity=distinct[entity_column(view.entity.name)])
    copies = ibis.window(
        group_by=[distinct.entity, distinct.id, distinct.voided_at.isnull()], order_by=distinct.arrival
    )
    distinct = distinct.mutate(copy=ibis.row_number().over(copies)).filter(lambda table: table.copy == 0)
    voids = distinct.filter(distinct.voided_at.notnull())
    gone = ibis.greatest(voids.voided_at, voids.known_at)
    voids = voids.select(void_of=voids.id, void_entity=voids.entity, gone=gone)
    distinct = distinct.filter(distinct.voided_at.isnull())
    distinct = distinct.left_join(voids, [distinct.id == voids.void_of, distinct.entity == voids.void_entity])
    # Ties of first and last break by (moment, id); DuckDB compares text by its UTF-8 bytes.
    return distinct.mutate(place=ibis.row_number().over(ibis.window(order_by=[distinct.at, distinct.id])))


def _pairs(view: FeatureView, events: ir.Table, queries: ir.Table, *, ahead: int) -> ir.Table:
    """Join queries with the events that any window of the view can hold."""
    queries = queries.filter(queries.key.notnull()).mutate(edge=queries.q + ahead)
    windows = {feature.window for feature in view.features}
    starts = {
        f"start_{window.label}": _start(queries.q, window) for window in windows if window.length is not None
    }
    queries = queries.mutate(**starts)
    bounded = len(starts) == len(windows)
    if bounded:
        queries = queries.mutate(earliest=ibis.least(*(queries[name] for name in starts)))
    conditions = [queries.key == events.entity, ibis.greatest(events.at, events.known_at) < queries.edge]
    conditions += [events.at >= queries.earliest] if bounded else []
    pairs = queries.inner_join(events, conditions)
    return pairs.filter(pairs.gone.isnull() | (pairs.gone >= pairs.edge))


def _start(q: ir.IntegerValue, window: Window) -> ir.IntegerValue:
    """⌊(q − W)/h⌋·h."""
    assert window.length is not None
    assert window.hop is not None
    return _on_grid(q - window.length, window.hop)


def _on_grid(moment: ir.IntegerValue, step: int) -> ir.IntegerValue:
    """⌊t/s⌋·s in integers: SQL's remainder takes the dividend's sign, the floor's does not."""
    return moment - ((moment % step) + step) % step


def _part_column(aggregation: Aggregation, part: str, window: Window) -> str:
    """Column name of a part; equal parts share one: mean, sum and variance of a field share their sum."""
    return f"{part}|{aggregation.field}|{aggregation.filter_spec}|{aggregation.spec()[3:]}|{window.label}"


def _part(
    view: FeatureView, aggregation: Aggregation, part: str, window: Window, pairs: ir.Table
) -> ir.Scalar:
    """Return one part as an aggregate over the pairs, filtered by window, predicate and presence of the field."""
    keep = ibis.literal(value=True)
    if window.length is not None:
        keep = pairs.at >= pairs[f"start_{window.label}"]
    if aggregation.where is not None:
        keep = keep & _predicate(view, aggregation.where.spec(), pairs)
    match aggregation:
        case TimeSinceLast():
            return pairs.at.max(where=keep)
        case RateOfChange():
            return _amount(aggregation, pairs, keep & _period(aggregation, part, pairs))
        case DecayedSum():
            return _decayed(aggregation, window, pairs, keep)
        case Distinct():
            return _distinct_part(view, aggregation, part, pairs, keep)
        case LastCategory():
            return _last_category(aggregation, pairs, keep)
    return _integer_part(aggregation, part, pairs, keep)


def _amount(aggregation: Aggregation, pairs: ir.Table, keep: ir.BooleanValue) -> ir.Scalar:
    """Number of events, or sum of their field."""
    if aggregation.field is None:
        return pairs.count(where=keep)
    return pairs[field_column(aggregation.field, "integer")].sum(where=keep).cast(_EXACT)


def _period(aggregation: RateOfChange, part: str, pairs: ir.Table) -> ir.BooleanValue:
    """Select the events of the latest period, or of the one before it."""
    middle = _on_grid(pairs.q - aggregation.period, aggregation.step)
    if part == "later":
        return pairs.at >= middle
    first = _on_grid(pairs.q - 2 * aggregation.period, aggregation.step)
    return (pairs.at >= first) & (pairs.at < middle)


def _decayed(aggregation: DecayedSum, window: Window, pairs: ir.Table, keep: ir.BooleanValue) -> ir.Scalar:
    """Values times their weights of 32 binary digits; events after the query have age 0."""
    assert window.length is not None
    assert window.hop is not None
    step = aggregation.step
    oldest = (window.length + window.hop) // step + 1
    with localcontext(prec=60):
        weights = [int((2 ** (32 - Decimal(age) / 8)).to_integral_value()) for age in range(oldest + 1)]
    steps = (_on_grid(pairs.q, step) - _on_grid(pairs.at, step)) // step
    weight = ibis.literal(weights, type="array<int64>")[ibis.greatest(steps, 0)]
    value = pairs[field_column(aggregation.field, "integer")]
    weighted = (value.cast(_PRODUCT) * weight.cast(_PRODUCT)).cast(_EXACT)
    return weighted.sum(where=keep & value.notnull()).cast(_EXACT)


def _distinct_part(
    view: FeatureView, aggregation: Distinct, part: str, pairs: ir.Table, keep: ir.BooleanValue
) -> ir.Scalar:
    columns = [pairs[field_column(aggregation.field, kind)] for kind in kinds(view, aggregation.field)]
    n = sum((column.nunique(where=keep) for column in columns[1:]), columns[0].nunique(where=keep))
    if part == "n_distinct":
        return n
    seen = pairs[field_column(aggregation.field, "register")]
    registers = seen.collect(where=keep & seen.notnull(), distinct=True)
    return (n > aggregation.exact).ifelse(registers, ibis.null(registers.type()))


def _last_category(aggregation: LastCategory, pairs: ir.Table, keep: ir.BooleanValue) -> ir.Scalar:
    text = pairs[field_column(aggregation.field, "text")]
    codes = [(text == category, code) for code, category in enumerate(aggregation.categories)]
    return ibis.cases(*codes, else_=-1).argmax(pairs.place, where=keep & text.notnull())


def _integer_part(aggregation: Aggregation, part: str, pairs: ir.Table, keep: ir.BooleanValue) -> ir.Scalar:
    if aggregation.field is None:
        return pairs.count(where=keep)
    value = pairs[field_column(aggregation.field, "integer")]
    if isinstance(aggregation, LastK) and aggregation.over == "events":
        # max_by leaves nulls out, and an event without the field takes its place among the latest.
        latest = max_by(value.fill_null(_NO_VALUE), pairs.place, aggregation.k, where=keep)
        return latest[aggregation.parts.index(part)].nullif(_NO_VALUE)
    keep = keep & value.notnull()
    if isinstance(aggregation, LastK):
        return max_by(value, pairs.place, aggregation.k, where=keep)[aggregation.parts.index(part)]
    if part == "sumsq":
        wide = value.cast(_PRODUCT)
        return (wide * wide).cast(_EXACT).sum(where=keep).cast(_EXACT)
    simple = {
        "n": lambda: pairs.count(where=keep),
        "sum": lambda: _amount(aggregation, pairs, keep),
        "min": lambda: value.min(where=keep),
        "max": lambda: value.max(where=keep),
        "first": lambda: value.argmin(pairs.place, where=keep),
        "last": lambda: value.argmax(pairs.place, where=keep),
    }
    return simple[part]()


def _predicate(view: FeatureView, spec: Sequence[Any], pairs: ir.Table) -> ir.BooleanValue:
    """Compile a declared filter to SQL. A missing field matches no comparison, so `not` meets no null."""
    kind = spec[0]
    if kind == "not":
        return ~_predicate(view, spec[1], pairs)
    if kind in ("and", "or"):
        left, right = (_predicate(view, operand, pairs) for operand in spec[1:])
        return left & right if kind == "and" else left | right
    if kind == "type":
        return pairs.type.isin(spec[1])
    _, field, operation, value = spec
    wanted = "text" if isinstance(value, str) else "integer"
    if wanted not in kinds(view, field):
        return ibis.literal(value=False)
    column = pairs[field_column(field, wanted)]
    compared = {
        "==": column == value,
        "!=": column != value,
        "<": column < value,
        "<=": column <= value,
        ">": column > value,
        ">=": column >= value,
    }[operation]
    return compared.fill_null(False)


def _finalise(view: FeatureView, answer: pa.Table, q: Sequence[int], out: np.ndarray) -> None:
    """Write a view's parts into its result columns; rows without events have empty parts."""
    columns = {name: _integers(answer[name]) for name in answer.column_names}
    rows = columns.pop("row")
    _finish_registers(view, columns)
    for column, feature in enumerate(view.features):
        value = feature.aggregation.value
        empty = (None,) * len(feature.aggregation.parts)
        out[:, column] = [value(empty, moment) for moment in q]
        names = [
            _part_column(leaf, part, feature.window)
            for leaf in feature.aggregation.leaves
            for part in leaf.parts
        ]
        for row, *parts in zip(rows, *(columns[name] for name in names), strict=True):
            out[row, column] = value(parts, q[row])


def _finish_registers(view: FeatureView, columns: dict[str, list[Any]]) -> None:
    """Convert registers of distinct counts into the parts that `Aggregation.value` takes."""
    for feature in view.features:
        for leaf in feature.aggregation.leaves:
            if isinstance(leaf, Distinct):
                registers = columns[_part_column(leaf, "registers", feature.window)]
                ranks = [None if row is None else _highest_ranks(row) for row in registers]
                columns[_part_column(leaf, "zeros", feature.window)] = [
                    None if row is None else 1024 - len(row) for row in ranks
                ]
                columns[_part_column(leaf, "harmonic", feature.window)] = [
                    None if row is None else sum(2 ** (55 - rank) for rank in row.values()) for row in ranks
                ]


def _highest_ranks(digests: Iterable[int]) -> dict[int, int]:
    """Return the highest rank of every register seen: the last of ascending values wins."""
    return {digest // 64: digest % 64 for digest in sorted(digests)}


def _integers(column: pa.ChunkedArray) -> list[Any]:
    return [int(cell) if isinstance(cell, Decimal) else cell for cell in column.to_pylist()]
