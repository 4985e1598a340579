"""Validation of a decision table when it is built: unreachable rows, unknown names, missing reasons.

Conditions are evaluated on all values that could distinguish them: the numbers and texts in the table, values between
and beyond them, and null. A cell that compares with anything but constants and the cut-off is assumed to match.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import msgspec
import zen

from candor.acceptance import disagreements
from candor.contracts import MAX_AMOUNT
from candor.errors import PolicyError
from candor.iso_codes import CURRENCIES
from candor.policy import Facts, Policy, TableRow

FACTS: Final = frozenset(Facts.__struct_fields__)
STATES: Final = ("present", "absent", "unavailable", "stale")
_WORDS: Final = frozenset({"and", "or", "not", "in", "true", "false", "null"})
_STRING: Final = re.compile(r""""[^"]*"|'[^']*'""")
_NAME: Final = re.compile(r"(?<![\w.$#])[A-Za-z_]\w*(?!\w*\s*\()")
_MEMBER: Final = re.compile(r"""\b(features|states)(?:\[\s*["']([^"']+)["']\s*\]|\.(\w+))""")
_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?")
_CUTOFFS: Final = (0.125, 0.5)

_WHOLE: Final = ("amount", "installments", "finance_charge")
"""Integer facts of every request."""

Value = float | str | bool | None


class Known(NamedTuple):
    """Names that a table may use: features, views, reason codes of hard rules; and currencies that it must lend in."""

    features: Collection[str]
    views: Collection[str]
    codes: Collection[str]
    currencies: Collection[str] = ()


def faults(table: Mapping[str, Any], known: Known) -> list[str]:
    """Faults of a table, one line each; a single line for a table that cannot be evaluated at all."""
    try:
        Policy(table)
    except PolicyError as error:
        return [str(error)]
    tables = [node["content"] for node in table["nodes"] if node["type"] == "decisionTableNode"]
    of_rows = [
        fault
        for content in tables
        for fault in (*_names(content, known), *_outputs(content, known), *_unreachable(content))
    ]
    return [*of_rows, *disagreements(table, known.currencies)]


def _names(table: Mapping[str, Any], known: Known) -> Iterator[str]:
    """Unknown facts, features and views: zen reads them as null, so their rows never fire."""
    for where, text in _texts(table):
        for kind, quoted, plain in _MEMBER.findall(text):
            name = quoted or plain
            if name not in (known.features if kind == "features" else {*known.views, "request"}):
                yield f'{where}: there is no {kind[:-1]} "{name}"'
        for name in _NAME.findall(_STRING.sub('""', text)):
            if name not in FACTS | _WORDS:
                yield f'{where}: there is no fact "{name}"; there are {", ".join(sorted(FACTS))}'


def _texts(table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for column in table["inputs"]:
        yield f"input {column['name']}", column.get("field") or ""
    for place, rule in enumerate(table["rules"]):
        for column in table["inputs"]:
            yield f"{_row(table, place)}, {column['name']}", rule.get(column["id"], "")


def _outputs(table: Mapping[str, Any], known: Known) -> Iterator[str]:
    """Faults of outputs: no valid verdict, no reason in the catalogue for a hard rule, or a repeated row name."""
    names: set[str] = set()
    for place, rule in enumerate(table["rules"]):
        where = _row(table, place)
        cells = {column["field"]: rule.get(column["id"], "").strip() for column in table["outputs"]}
        if any(
            _NAME.search(_STRING.sub('""', re.sub(r"\b(null|true|false)\b", "", text)))
            for text in cells.values()
        ):
            yield f"{where}: an output must be a constant, so that it can be checked before it is used"
            continue
        values = {name: zen.compile_expression(text).evaluate({}) for name, text in cells.items() if text}
        try:
            row = msgspec.convert({name: _whole(value) for name, value in values.items()}, TableRow)
        except (msgspec.ValidationError, ValueError) as error:
            yield f"{where}: {error}"
            continue
        if row.rule in names:
            yield f'{where}: another row is named "{row.rule}"'
        names.add(row.rule)
        if row.reason and row.reason not in known.codes:
            yield f'{where}: the catalogue has no reason "{row.reason}" for hard rules'
        if row.component == "model" and not _looks_at_score(table, rule):
            yield f"{where}: its component is the model, but no condition reads the score"


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _looks_at_score(table: Mapping[str, Any], rule: Mapping[str, str]) -> bool:
    cells = [(column.get("field") or "", rule.get(column["id"], "")) for column in table["inputs"]]
    return any(text and "score" in _NAME.findall(f"{field} {text}") for field, text in cells)


def _unreachable(table: Mapping[str, Any]) -> Iterator[str]:
    """Rows that never fire: no facts meet them or, with hit policy `first`, earlier rows take all that do."""
    groups: dict[str, list[str]] = {}
    for column in table["inputs"]:
        if column.get("field"):
            groups.setdefault(column["field"].strip(), []).append(column["id"])
    met = [[_met(field, ids, rule, table) for field, ids in groups.items()] for rule in table["rules"]]
    whole = [column["id"] for column in table["inputs"] if not column.get("field")]
    taken: list[list[frozenset[int]]] = []
    for place, (rule, sets) in enumerate(zip(table["rules"], met, strict=True)):
        dead = [field for field, values in zip(groups, sets, strict=True) if not values]
        if dead:
            yield f"{_row(table, place)} never fires: no value of {dead[0]} meets its condition"
        elif table["hitPolicy"] == "first" and not _free(sets, taken):
            yield f"{_row(table, place)} never fires: rows before it take all that meet it"
        if not any(rule.get(column, "").strip() for column in whole):
            taken.append(sets)


def _free(allowed: Sequence[frozenset[int]], taken: Sequence[Sequence[frozenset[int]]]) -> bool:
    """True if some allowed combination of values is not taken by an earlier row."""
    if not taken:
        return True
    first, *rest = taken
    for place, sets in enumerate(first):
        left = allowed[place] - sets
        if left and _free([*allowed[:place], left, *allowed[place + 1 :]], rest):
            return True
    return False


def _met(field: str, ids: Sequence[str], rule: Mapping[str, str], table: Mapping[str, Any]) -> frozenset[int]:
    """Indices of the field's distinguishing values that meet one row's conditions."""
    cells = [rule.get(column, "").strip() for column in ids]
    every = [other.get(column, "").strip() for other in table["rules"] for column in ids]
    meets = [_Condition(cell) for cell in cells if cell]
    return frozenset(
        place
        for place, (value, cutoff) in enumerate(_values(field, every))
        if all(condition(value, cutoff) for condition in meets)
    )


class _Condition:
    """A cell's condition on a value. Values that zen cannot compare do not match, as in the table."""

    def __init__(self, cell: str) -> None:
        self._expression = zen.compile_unary_expression(cell)
        names = set(_NAME.findall(_STRING.sub('""', cell))) - _WORDS
        self._open = not names <= {"cutoff"}

    def __call__(self, value: Value, cutoff: float) -> bool:
        if self._open:
            return True
        try:
            return bool(self._expression.evaluate({"$": value, "cutoff": cutoff}))
        except RuntimeError:
            return False


def _values(field: str, cells: Sequence[str]) -> list[tuple[Value, float]]:
    """Values that could distinguish the field's cells, each with every cut-off tried."""
    return [(value, cutoff) for cutoff in _CUTOFFS for value in _values_at(field, cells, cutoff)]


def _values_at(field: str, cells: Sequence[str], cutoff: float) -> list[Value]:
    texts = {text[1:-1] for cell in cells for text in _STRING.findall(cell)}
    if field == "degraded":
        return [True, False]
    if field == "currency":
        return [*sorted(CURRENCIES & texts), *sorted(CURRENCIES - texts)[:1]]
    if field.startswith("states"):
        return [*STATES]
    numbers = {float(number) for cell in cells for number in _NUMBER.findall(_STRING.sub("", cell))}
    numbers |= {-number for number in numbers} | {0.0}
    numbers |= {
        cutoff,
        *(cutoff * number for number in numbers),
        *(cutoff / number for number in numbers if number),
    }
    low, high = _domain(field)
    ordered = sorted({low, high, *(number for number in numbers if low <= number <= high)})
    between = [(number + following) / 2 for number, following in pairwise(ordered)]
    if field in _WHOLE:
        beside = {float(round(number + step)) for number in [*ordered, *between] for step in (-1, 0, 1)}
        return [number for number in sorted(beside) if low <= number <= high]
    return [*ordered, *between, *sorted(texts), None]


def _domain(field: str) -> tuple[float, float]:
    """Smallest and largest number of a field."""
    known = {
        "score": (0.0, 1.0),
        "amount": (1, MAX_AMOUNT),
        "installments": (1, 60),
        "finance_charge": (0, MAX_AMOUNT),
    }
    return known.get(field, (-1e15, 1e15))


def _row(table: Mapping[str, Any], place: int) -> str:
    name = table["rules"][place].get("_id")
    return f"row {place + 1}" + (f" ({name})" if name else "")
