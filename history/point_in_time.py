"""Feature values as of past moments, set-based, from the lender's declarations alone.

The declarations are compiled to ibis expressions and run on DuckDB. Nothing of the online path takes part: the
window arithmetic is restated here in SQL, and no tile exists. What is shared is the declarations and
`Aggregation.value`, the one finaliser, so that equal integer parts give equal bits.

One view is one join of questions and events on the entity, with the widest window as its range, and one
aggregation per part and window over the joined pairs. An event that had been voided by the question's moment is not
among them; a void is no event of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from hashlib import blake2b
from typing import Any, Final

import duckdb
import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa

from candor.clock import DAY
from candor.contracts import Application, Event
from candor.features.aggregations import Aggregation, LastCategory, TimeSinceLast
from candor.features.composed import LastK
from candor.features.decayed import DecayedSum, RateOfChange
from candor.features.distinct import Distinct
from candor.features.views import Definitions, EventType, FeatureView
from candor.features.windows import Window

LEAK_MS: Final = 30 * DAY
"""How far the deliberately wrong join looks into the future."""

_EXACT: Final = "decimal(38, 0)"
"""128-bit integers: 10¹⁴ squares of 10¹² fit; DuckDB raises rather than wraps beyond."""

_PRODUCT: Final = "decimal(19, 0)"
_QUESTION_SCHEMA: Final = pa.schema([("row", pa.int64()), ("q", pa.int64()), ("key", pa.string())])
_BATCH: Final = 20_000


@ibis.udf.agg.builtin  # type: ignore[untyped-decorator] # ibis ships no types
def max_by(value: int, place: int, k: int) -> list[int]:  # type: ignore[empty-body]
    """DuckDB's own: values of the `k` highest places, highest first."""


@dataclass(frozen=True)
class Question:
    """One row to answer: the application and the moment `q` (ms UTC) of which its features are asked."""

    row_id: str
    q: int
    application: Application


@dataclass(frozen=True)
class FeatureTable:
    """Answers in the order of the questions: `values[i][j]` is feature `names[j]` of row `row_ids[i]`, float64."""

    row_ids: tuple[str, ...]
    names: tuple[str, ...]
    values: np.ndarray

    def vector(self, row: int) -> tuple[float, ...]:
        """One row as Python floats."""
        return tuple(self.values[row].tolist())


def point_in_time(
    definitions: Definitions, events: Iterable[Event], questions: Sequence[Question], *, leaky: bool = False
) -> FeatureTable:
    """Every feature of every question, from the accepted events in order of arrival (duplicates included).

    No question is ever lost: an entity without events gets the values of an empty window. `leaky=True` also
    counts events up to 30 days after the moment: wrong on purpose, to show that a comparison can fail.
    """
    values = np.full((len(questions), len(definitions.features)), np.nan)
    column = 0
    with duckdb.connect() as engine:
        engine.register("events", event_table(definitions, events))
        for view in definitions.views:
            engine.register("asked", _question_table(view, questions))
            answer = engine.sql(view_sql(definitions, view, leaky=leaky)).to_arrow_table()
            _finalise(view, answer, questions, values[:, column : column + len(view.features)])
            column += len(view.features)
    _fill_on_demand(definitions, questions, values, column)
    return FeatureTable(tuple(question.row_id for question in questions), definitions.features, values)


def event_table(definitions: Definitions, events: Iterable[Event]) -> pa.Table:
    """Events as columns: arrival, id, type, moment, one column per entity and per declared field and kind.

    Only declared fields of the event's own type become columns; other data are carried, not used.
    """
    counted = frozenset(_counted_fields(definitions))
    used = {name: _plain_fields(declared) for name, declared in definitions.event_types.items()}
    schema = _event_schema(definitions)
    batches: list[pa.RecordBatch] = []
    rows: list[dict[str, Any]] = []
    for arrival, event in enumerate(events):
        row: dict[str, Any] = {
            "arrival": arrival,
            "id": event.id,
            "type": event.type,
            "at": event.occurred_at,
            "voided_at": event.voided_at,
        }
        row.update((_entity_column(name), key) for name, key in event.entities.items())
        row.update((_field_column(field, kind), event.data.get(field)) for field, kind in used[event.type])
        row.update(
            (_field_column(field, "register"), _register(event.data.get(field)))
            for field, _ in used[event.type]
            if field in counted
        )
        rows.append(row)
        if len(rows) == _BATCH:
            batches.append(pa.RecordBatch.from_pylist(rows, schema=schema))
            rows.clear()
    batches.append(pa.RecordBatch.from_pylist(rows, schema=schema))
    return pa.Table.from_batches(batches, schema=schema)


def view_sql(definitions: Definitions, view: FeatureView, *, leaky: bool = False) -> str:
    """One view as DuckDB SQL over the tables `events` and `asked`."""
    events = ibis.table(ibis.schema(_event_schema(definitions)), name="events")
    asked = ibis.table(ibis.schema(_QUESTION_SCHEMA), name="asked")
    return str(ibis.to_sql(view_parts(view, events, asked, leaky=leaky), dialect="duckdb"))


def view_parts(view: FeatureView, events: ir.Table, asked: ir.Table, *, leaky: bool = False) -> ir.Table:
    """One view as an expression: `row` and a column per distinct part and window, only for rows with events."""
    pairs = _pairs(view, _distinct_events(view, events), asked, leaky=leaky)
    parts = {
        _part_column(leaf, name, feature.window): _part(view, leaf, name, feature.window, pairs)
        for feature in view.features
        for leaf in feature.aggregation.leaves
        for name in _sql_parts(leaf)
    }
    return pairs.group_by("row").aggregate(**parts)


def _sql_parts(leaf: Aggregation) -> tuple[str, ...]:
    """What SQL computes of a leaf; a distinct count beyond the exact ones is finished from its registers."""
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


def _plain_fields(declared: EventType) -> list[tuple[str, str]]:
    """Name and kind of the fields that can be aggregated or filtered on."""
    return [(field, kind.kind) for field, kind in declared.fields.items() if kind.kind != "json"]


def _event_schema(definitions: Definitions) -> pa.Schema:
    fields = sorted(
        {pair for declared in definitions.event_types.values() for pair in _plain_fields(declared)}
    )
    return pa.schema(
        [("arrival", pa.int64()), ("id", pa.string()), ("type", pa.string())]
        + [("at", pa.int64()), ("voided_at", pa.int64())]
        + [(_entity_column(name), pa.string()) for name in definitions.entities]
        + [(_field_column(*pair), pa.int64() if pair[1] == "integer" else pa.string()) for pair in fields]
        + [(_field_column(field, "register"), pa.int64()) for field in _counted_fields(definitions)]
    )


def _question_table(view: FeatureView, questions: Sequence[Question]) -> pa.Table:
    keys = [view.entity.key_of(question.application) for question in questions]
    columns = {"row": range(len(questions)), "q": [question.q for question in questions], "key": keys}
    return pa.Table.from_pydict(columns, schema=_QUESTION_SCHEMA)


def _distinct_events(view: FeatureView, events: ir.Table) -> ir.Table:
    """The view's events, each id once per entity, and when they were voided: the copies that arrived first, as online."""
    entity = events[_entity_column(view.entity.name)]
    mine = events.filter(events.type.isin(sorted(view.event_types)), entity.notnull())
    mine = mine.mutate(entity=mine[_entity_column(view.entity.name)])
    copies = ibis.window(group_by=[mine.entity, mine.id, mine.voided_at.isnull()], order_by=mine.arrival)
    mine = mine.mutate(copy=ibis.row_number().over(copies)).filter(lambda table: table.copy == 0)
    voids = mine.filter(mine.voided_at.notnull())
    voids = voids.select(void_of=voids.id, void_entity=voids.entity, gone=voids.voided_at)
    mine = mine.filter(mine.voided_at.isnull())
    mine = mine.left_join(voids, [mine.id == voids.void_of, mine.entity == voids.void_entity])
    # Ties of first and last break by (moment, id); DuckDB compares text by its UTF-8 bytes.
    return mine.mutate(place=ibis.row_number().over(ibis.window(order_by=[mine.at, mine.id])))


def _pairs(view: FeatureView, events: ir.Table, asked: ir.Table, *, leaky: bool) -> ir.Table:
    """Questions joined with the events that any window of the view can hold."""
    asked = asked.filter(asked.key.notnull()).mutate(edge=asked.q + (LEAK_MS if leaky else 0))
    windows = {feature.window for feature in view.features}
    starts = {
        f"start_{window.label}": _start(asked.q, window) for window in windows if window.length is not None
    }
    asked = asked.mutate(**starts)
    bounded = len(starts) == len(windows)
    if bounded:
        asked = asked.mutate(earliest=ibis.least(*(asked[name] for name in starts)))
    conditions = [asked.key == events.entity, events.at < asked.edge]
    conditions += [events.at >= asked.earliest] if bounded else []
    pairs = asked.inner_join(events, conditions)
    return pairs.filter(pairs.gone.isnull() | (pairs.gone >= pairs.edge))


def _start(q: ir.IntegerValue, window: Window) -> ir.IntegerValue:
    """⌊(q − W)/h⌋·h."""
    assert window.length is not None
    assert window.hop is not None
    return _on_grid(q - window.length, window.hop)


def _on_grid(moment: ir.IntegerValue, step: int) -> ir.IntegerValue:
    """⌊t/s⌋·s in integers only; the remainder of SQL takes the dividend's sign, the floor's does not."""
    return moment - ((moment % step) + step) % step


def _part_column(aggregation: Aggregation, part: str, window: Window) -> str:
    """Equal parts share a column: the mean, the sum and the variance of a field are one sum."""
    where = aggregation.where.spec() if aggregation.where else None
    return f"{part}|{aggregation.field}|{where}|{aggregation.spec()[3:]}|{window.label}"


def _part(
    view: FeatureView, aggregation: Aggregation, part: str, window: Window, pairs: ir.Table
) -> ir.Scalar:
    """One part as an aggregate over the pairs, filtered by window, predicate and presence of the field."""
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
    return pairs[_field_column(aggregation.field, "integer")].sum(where=keep).cast(_EXACT)


def _period(aggregation: RateOfChange, part: str, pairs: ir.Table) -> ir.BooleanValue:
    """Which events are of the last period, or of the one before it."""
    middle = _on_grid(pairs.q - aggregation.period, aggregation.step)
    if part == "later":
        return pairs.at >= middle
    first = _on_grid(pairs.q - 2 * aggregation.period, aggregation.step)
    return (pairs.at >= first) & (pairs.at < middle)


def _decayed(aggregation: DecayedSum, window: Window, pairs: ir.Table, keep: ir.BooleanValue) -> ir.Scalar:
    """Values times their weights of 32 binary digits; whoever looks into the future finds nothing decayed there."""
    assert window.length is not None
    assert window.hop is not None
    step = aggregation.step
    oldest = (window.length + window.hop) // step + 1
    with localcontext(prec=60):
        weights = [int((2 ** (32 - Decimal(age) / 8)).to_integral_value()) for age in range(oldest + 1)]
    steps = (_on_grid(pairs.q, step) - _on_grid(pairs.at, step)) // step
    weight = ibis.literal(weights, type="array<int64>")[ibis.greatest(steps, 0)]
    value = pairs[_field_column(aggregation.field, "integer")]
    weighted = (value.cast(_PRODUCT) * weight.cast(_PRODUCT)).cast(_EXACT)
    return weighted.sum(where=keep & value.notnull()).cast(_EXACT)


def _distinct_part(
    view: FeatureView, aggregation: Distinct, part: str, pairs: ir.Table, keep: ir.BooleanValue
) -> ir.Scalar:
    columns = [pairs[_field_column(aggregation.field, kind)] for kind in _kinds(view, aggregation.field)]
    n = sum((column.nunique(where=keep) for column in columns[1:]), columns[0].nunique(where=keep))
    if part == "n_distinct":
        return n
    seen = pairs[_field_column(aggregation.field, "register")]
    registers = seen.collect(where=keep & seen.notnull(), distinct=True)
    return (n > aggregation.exact).ifelse(registers, ibis.null(registers.type()))


def _last_category(aggregation: LastCategory, pairs: ir.Table, keep: ir.BooleanValue) -> ir.Scalar:
    text = pairs[_field_column(aggregation.field, "text")]
    codes = [(text == category, code) for code, category in enumerate(aggregation.categories)]
    return ibis.cases(*codes, else_=-1).argmax(pairs.place, where=keep & text.notnull())


def _integer_part(aggregation: Aggregation, part: str, pairs: ir.Table, keep: ir.BooleanValue) -> ir.Scalar:
    if aggregation.field is None:
        return pairs.count(where=keep)
    value = pairs[_field_column(aggregation.field, "integer")]
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
    """A declared filter as SQL; a missing field never matches."""
    kind = spec[0]
    if kind == "and":
        return _predicate(view, spec[1], pairs) & _predicate(view, spec[2], pairs)
    if kind == "type":
        return pairs.type.isin(spec[1])
    _, field, operation, value = spec
    wanted = "text" if isinstance(value, str) else "integer"
    if wanted not in _kinds(view, field):
        return ibis.literal(value=False)
    column = pairs[_field_column(field, wanted)]
    compared = {
        "==": column == value,
        "!=": column != value,
        "<": column < value,
        "<=": column <= value,
        ">": column > value,
        ">=": column >= value,
    }[operation]
    return compared.fill_null(False)


def _kinds(view: FeatureView, field: str | None) -> list[str]:
    """The kinds, integer or text, in which the view's events declare a field."""
    declared = (event.fields.get(str(field)) for event in view.events)
    return sorted({kind.kind for kind in declared if kind is not None and kind.kind != "json"})


def _finalise(view: FeatureView, answer: pa.Table, questions: Sequence[Question], out: np.ndarray) -> None:
    """A view's parts into its columns of the result; rows without events have empty parts."""
    columns = {name: _integers(answer[name]) for name in answer.column_names}
    rows = columns.pop("row")
    _finish_registers(view, columns)
    for place, feature in enumerate(view.features):
        value = feature.aggregation.value
        empty = (None,) * len(feature.aggregation.parts)
        out[:, place] = [value(empty, question.q) for question in questions]
        names = [
            _part_column(leaf, part, feature.window)
            for leaf in feature.aggregation.leaves
            for part in leaf.parts
        ]
        for row, *parts in zip(rows, *(columns[name] for name in names), strict=True):
            out[row, place] = value(parts, questions[row].q)


def _finish_registers(view: FeatureView, columns: dict[str, list[Any]]) -> None:
    """Registers of distinct counts into the parts that the finaliser takes."""
    for feature in view.features:
        for leaf in feature.aggregation.leaves:
            if isinstance(leaf, Distinct):
                found = columns[_part_column(leaf, "registers", feature.window)]
                ranks = [None if one is None else _highest_ranks(one) for one in found]
                columns[_part_column(leaf, "zeros", feature.window)] = [
                    None if one is None else 1024 - len(one) for one in ranks
                ]
                columns[_part_column(leaf, "harmonic", feature.window)] = [
                    None if one is None else sum(2 ** (55 - rank) for rank in one.values()) for one in ranks
                ]


def _highest_ranks(found: Iterable[int]) -> dict[int, int]:
    """Highest rank of every register seen; the last of ascending ones stays."""
    return {one // 64: one % 64 for one in sorted(found)}


def _integers(column: pa.ChunkedArray) -> list[Any]:
    return [int(cell) if isinstance(cell, Decimal) else cell for cell in column.to_pylist()]


def _fill_on_demand(
    definitions: Definitions, questions: Sequence[Question], values: np.ndarray, width: int
) -> None:
    """The very functions of the online path, on the parsed checkout and the windowed values."""
    if not definitions.on_demand:
        return
    names = definitions.features[:width]
    for row, question in enumerate(questions):
        features: Mapping[str, float] = dict(zip(names, values[row, :width].tolist(), strict=True))
        for place, feature in enumerate(definitions.on_demand, width):
            values[row, place] = feature.value(question.application.checkout, features)


def _entity_column(name: str) -> str:
    return f"entity_{name}"


def _field_column(field: str | None, kind: str) -> str:
    return f"{kind}_{field}"
