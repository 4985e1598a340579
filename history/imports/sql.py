"""SQL of a mapping: one query that gives every event of the rows as JSON, in time order.

DuckDB evaluates the mapping's expressions. Types are known before a row is read, so an expression that cannot give what
its member needs is an error of the mapping, with its entry.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from candor.contracts import SCHEMA_VERSION, VOID
from candor.iso_codes import EXPONENTS
from history.imports.accept import MappedDetail
from history.imports.mapping import ANY, TEXT, EventMapping, MappedEvent, MappingError, Rows, Value

READERS: Final = {
    ".parquet": "read_parquet",
    ".csv": "read_csv",
    ".csv.gz": "read_csv",
    ".jsonl": "read_json",
    ".ndjson": "read_json",
    ".jsonl.gz": "read_json",
    ".ndjson.gz": "read_json",
}
"""DuckDB's reader by the end of a file's name."""

_INTEGERS: Final = frozenset(
    "TINYINT SMALLINT INTEGER BIGINT HUGEINT UTINYINT USMALLINT UINTEGER UBIGINT UHUGEINT".split()
)
_MOMENTS: Final = ("TIMESTAMP", "DATE")
_FORMAT: Final = "%Y-%m-%dT%H:%M:%S.%gZ"


def connected(files: Sequence[Path], spill: Path) -> duckdb.DuckDBPyConnection:
    """A connection that reads these files and nothing else, and spills to the folder `spill`."""
    engine = duckdb.connect()
    engine.execute("SET TimeZone = 'UTC'")
    engine.execute(f"SET temp_directory = {_text(str(spill))}")
    engine.execute(f"SET allowed_directories = [{_text(str(spill))}]")
    engine.execute(f"SET allowed_paths = [{', '.join(_text(str(path)) for path in files)}]")
    engine.execute("SET enable_external_access = false")
    engine.execute("SET lock_configuration = true")
    engine.execute(
        f"CREATE MACRO money(amount, currency) AS CAST(amount AS DECIMAL(28, 6)) * {_minor_units()}"
    )
    return engine


def _minor_units() -> str:
    """SQL of the number of minor units in one unit of `currency`; null for an unknown code."""
    by_exponent: defaultdict[int, list[str]] = defaultdict(list)
    for code, exponent in EXPONENTS.items():
        by_exponent[exponent].append(_text(code))
    cases = [
        f"WHEN currency IN ({', '.join(codes)}) THEN {10**exponent}"
        for exponent, codes in by_exponent.items()
    ]
    return f"CASE {' '.join(cases)} END"


class EventQuery:
    """The query of a mapping over files. Raises MappingError where an expression does not fit."""

    def __init__(
        self,
        engine: duckdb.DuckDBPyConnection,
        mapping: EventMapping,
        files: Sequence[Path],
        archived: Iterable[Sequence[str]] = (),
    ) -> None:
        self._engine = engine
        self._columns: dict[str, frozenset[str]] = {}
        self._insert_archived(archived)
        for name, rows in mapping.rows.items():
            self._create_rows(name, rows, _matching(name, rows, files))
        parts = [part for event in mapping.events for part in self._selects(event, mapping.rows[event.rows])]
        self._sql = (
            "SELECT detail, dedup_id IS NOT NULL AND dedup_id IN (SELECT id FROM archived) AS archived "  # noqa: S608 - the mapping is the user's own SQL
            f"FROM ({' UNION ALL '.join(parts)}) ORDER BY moment, dedup_id"
        )

    def batches(self, size: int) -> Iterator[list[MappedDetail]]:
        """Yield the events in time order, `size` at a time. Raises MappingError: a row cannot be read."""
        try:
            for batch in self._engine.sql(self._sql).to_arrow_reader(size):
                details = batch.column("detail").to_pylist()
                archived = batch.column("archived").to_pylist()
                yield [
                    MappedDetail(text.encode(), known) for text, known in zip(details, archived, strict=True)
                ]
        except duckdb.Error as error:
            raise MappingError(f"the rows cannot be read: {_first_line(error)}{_column_in(error)}") from error

    def _insert_archived(self, archived: Iterable[Sequence[str]]) -> None:
        self._engine.execute("CREATE TABLE archived (id VARCHAR)")
        for ids in archived:
            self._engine.register("page", pa.table({"id": pa.array(ids, pa.string())}))
            self._engine.execute("INSERT INTO archived SELECT id FROM page")
            self._engine.unregister("page")

    def _create_rows(self, name: str, rows: Rows, files: Sequence[Path]) -> None:
        paths = ", ".join(_text(str(path)) for path in files)
        options = {"union_by_name": True, **rows.read}
        readers = {_reader(path) for path in files}
        if len(readers) > 1:
            raise MappingError(f"rows.{name}: files of several formats; declare rows for each, with files=")
        reader = readers.pop()
        if reader == "read_json":
            options |= {"format": "newline_delimited"}
        arguments = ", ".join(
            [f"[{paths}]", *(f"{_name(key)} = {_literal(value)}" for key, value in options.items())]
        )
        source = f"SELECT * FROM {reader}({arguments})"  # noqa: S608 - names are quoted
        select = rows.select or "SELECT * FROM source"
        try:
            self._engine.execute(
                f"CREATE VIEW {_rows(name)} AS WITH source AS ({source}) SELECT * FROM ({select})"  # noqa: S608 - the mapping is the user's own SQL
            )
            self._engine.execute(f"CREATE TABLE {_shape(name)} AS SELECT * FROM {_rows(name)} LIMIT 0")  # noqa: S608 - names are quoted
            described = self._engine.execute(f"DESCRIBE {_shape(name)}").fetchall()
        except duckdb.Error as error:
            raise MappingError(f"rows.{name}: {_first_line(error)}") from error
        self._columns[name] = frozenset(str(column[0]) for column in described)

    def _selects(self, event: MappedEvent, rows: Rows) -> Iterator[str]:
        """The event's query; with `voided_at` a second query of its voids."""
        conditions = [self._checked(value, event) for value in event.where]
        occurred_at = self._moment(event.occurred_at, event, rows)
        members = {
            "event_id": self._value(event.id, event, rows),
            "type": _text(event.type),
            "occurred_at": _rfc3339(occurred_at),
            "schema_version": str(SCHEMA_VERSION),
            "entities": self._json(event.entities, event, rows),
            "data": self._json(event.data, event, rows),
        }
        if event.known_at is not None:
            members["known_at"] = _rfc3339(self._moment(event.known_at, event, rows))
        yield _select(members, members["event_id"], occurred_at, event, conditions)
        if event.voided_at is not None:
            voided_at = self._moment(event.voided_at, event, rows)
            members["voided_at"] = _rfc3339(voided_at)
            members.pop("known_at", None)
            conditions = [*conditions, f"({voided_at}) IS NOT NULL"]
            yield _select(members, f"{members['event_id']} || '{VOID}'", voided_at, event, conditions)

    def _json(self, members: Mapping[str, Any], event: MappedEvent, rows: Rows) -> str:
        parts = []
        for name, member in members.items():
            nested = isinstance(member, Mapping)
            sql = self._json(member, event, rows) if nested else self._value(member, event, rows)
            parts += [_text(name), sql]
        return f"json_object({', '.join(parts)})"

    def _value(self, value: Value, event: MappedEvent, rows: Rows) -> str:
        """SQL of a member in the form that its kind needs."""
        sql = self._checked(value, event)
        if value.kind == TEXT:
            return f"CAST({sql} AS VARCHAR)"
        if value.kind == ANY:
            return f"to_json({sql})"
        kind = self._type(value, event)
        if kind.startswith(_MOMENTS):
            return f"epoch_ms({_instant(sql, kind, rows.timezone)})"
        if kind in _INTEGERS:
            return sql
        if kind in ("DOUBLE", "FLOAT") or kind.startswith("DECIMAL"):
            return _whole(sql)
        if kind == "VARCHAR":
            return f"COALESCE({_whole(f'TRY_CAST({sql} AS DECIMAL(38, 6))')}, to_json({sql}))"
        raise MappingError(f"{value.entry}: a whole number is needed, and this is {kind}")

    def _moment(self, value: Value, event: MappedEvent, rows: Rows) -> str:
        """SQL of a moment as TIMESTAMP WITH TIME ZONE."""
        sql, kind = self._checked(value, event), self._type(value, event)
        if kind.startswith(_MOMENTS):
            return _instant(sql, kind, rows.timezone)
        if kind in _INTEGERS:
            return f"make_timestamptz(CAST({sql} AS BIGINT) * 1000)"
        if kind == "VARCHAR" and rows.timezone == "UTC":
            return f"TRY_CAST({sql} AS TIMESTAMP WITH TIME ZONE)"
        raise MappingError(
            f"{value.entry}: a moment is needed (a timestamp, text in ISO 8601, or ms since 1970), and this is {kind}; "
            "strptime(column, format) reads other texts"
        )

    def _checked(self, value: Value, event: MappedEvent) -> str:
        """SQL of an expression, after its columns and functions were looked up. A column's name needs no quotes."""
        self._type(value, event)
        return self._expression(value, event)

    def _expression(self, value: Value, event: MappedEvent) -> str:
        return _name(value.sql) if value.sql in self._columns[event.rows] else f"({value.sql})"

    def _type(self, value: Value, event: MappedEvent) -> str:
        if not value.sql.strip():
            raise MappingError(f"{value.entry}: the expression is empty")
        try:
            described = self._engine.execute(
                f"DESCRIBE SELECT {self._expression(value, event)} AS value FROM {_shape(event.rows)}"  # noqa: S608 - the mapping is the user's own SQL
            ).fetchall()
        except duckdb.Error as error:
            raise MappingError(f"{value.entry}: {_first_line(error)}") from error
        return str(described[0][1])


def _select(
    members: Mapping[str, str],
    dedup_id: str,
    moment: str,
    event: MappedEvent,
    conditions: Sequence[str],
) -> str:
    pairs = ", ".join(f"{_text(name)}, {sql}" for name, sql in members.items())
    condition = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    # A merge patch onto an empty object leaves out the members that are null (RFC 7396).
    detail = f"CAST(json_merge_patch('{{}}', json_object({pairs})) AS VARCHAR)"
    return (
        f"SELECT {detail} AS detail, {moment} AS moment, {dedup_id} AS dedup_id "  # noqa: S608 - the mapping is the user's own SQL
        f"FROM {_rows(event.rows)}{condition}"
    )


def _instant(sql: str, kind: str, timezone: str) -> str:
    if kind == "TIMESTAMP WITH TIME ZONE":
        return sql
    return f"timezone({_text(timezone)}, CAST({sql} AS TIMESTAMP))"


def _whole(sql: str) -> str:
    """SQL of a number as a JSON integer if it is whole; else as it is, so that it is refused and not rounded."""
    small = f"isfinite(CAST({sql} AS DOUBLE)) AND abs({sql}) < 9e18"
    return (
        f"CASE WHEN {sql} IS NULL THEN NULL WHEN {small} AND {sql} = trunc({sql}) "
        f"THEN to_json(CAST({sql} AS BIGINT)) ELSE to_json(CAST({sql} AS VARCHAR)) END"
    )


def _rfc3339(moment: str) -> str:
    return f"strftime(timezone('UTC', {moment}), '{_FORMAT}')"


def _matching(name: str, rows: Rows, files: Sequence[Path]) -> list[Path]:
    matching = [path for path in files if path.match(rows.files)]
    if not matching:
        given = ", ".join(sorted(path.name for path in files)[:5]) or "none"
        raise MappingError(f'rows.{name}: no file matches "{rows.files}"; files: {given}')
    return matching


def _reader(path: Path) -> str:
    for suffix, reader in READERS.items():
        if path.name.lower().endswith(suffix):
            return reader
    raise MappingError(f"{path.name}: the format is unknown; files end in {', '.join(READERS)}")


def _rows(name: str) -> str:
    return _name(f"rows of {name}")


def _shape(name: str) -> str:
    """An empty table with the rows' columns: types are looked up in it without reading a file again."""
    return _name(f"columns of {name}")


def _name(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _literal(value: Any) -> str:
    """SQL of a value of TOML: a text, a number, a boolean, a list or a table."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_text(key)}: {_literal(member)}' for key, member in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    return str(value).lower() if isinstance(value, bool | int | float) else _text(str(value))


def _first_line(error: duckdb.Error) -> str:
    return str(error).partition("\n")[0]


def _column_in(error: duckdb.Error) -> str:
    """The column that an error names, without the value that it repeats."""
    named = re.search(r'column "([^"]*)"', str(error))
    return f', column "{named[1]}"' if named else ""
