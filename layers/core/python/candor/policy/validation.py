"""Validation of a decision table when it is built: names, outputs, reasons, reach of its rows, and its effect as a whole.

Conditions are evaluated on all values that could distinguish them: the numbers and texts in the table, values between
and beyond them, and null. A cell that compares with anything but constants and the cut-off is assumed to match.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple, get_type_hints

import msgspec
import zen

from candor.acceptance import disagreements
from candor.contracts import MAX_AMOUNT
from candor.errors import PolicyError
from candor.iso_codes import CURRENCIES
from candor.policy import Facts, Policy, TableRow, require_expressions
from candor.policy.probes import Value, nearest_to_approval
from candor.policy.structure import REQUIRED, column_name, row_name, structure_faults, suggestion

FACTS: Final = frozenset(Facts.__struct_fields__)
STATES: Final = ("present", "absent", "unavailable", "stale")
_WORDS: Final = frozenset({"and", "or", "not", "in", "true", "false", "null"})
_STRING: Final = re.compile(r""""[^"]*"|'[^']*'""")
_NAME: Final = re.compile(r"(?<![\w.$#])[A-Za-z_]\w*(?!\w*\s*\()")
_MEMBER: Final = re.compile(r"""\b(features|states)(?:\[\s*["']([^"']+)["']\s*\]|\.(\w+))""")
_ROOT: Final = re.compile(r"\$root\.(\w+)")
_COMPUTED: Final = re.compile(r"""\b(features|states)\[\s*(?!["'\s])""")
_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?")
_CUTOFFS: Final = (0.125, 0.5)

_WHOLE: Final = ("amount", "installments", "finance_charge")
"""Integer facts of every request."""

_VARIED: Final = frozenset({*_WHOLE, "score", "currency", "degraded"})
"""Facts that a probe varies beside features and states."""

_KINDS: Final = get_type_hints(TableRow, include_extras=True)
_REMEDIES: Final[Mapping[str, str]] = {
    "rule": 'write a name in quotes, such as "amount_limit"',
    "outcome": 'write "approved", "declined" or "action_required", with the quotes',
    "component": 'write "policy" or "model", with the quotes',
    "reason": "write the code of a hard rule's reason in quotes, or null",
    "limit": f"write a whole number of minor units from 1 to {MAX_AMOUNT}, without quotes",
    "installments": "write a whole number from 1 to 60, without quotes",
    "charge_bps": "write a whole number of basis points from 0 to 10000, without quotes",
}


class Known(NamedTuple):
    """Names that a table may use: features, views, reason codes of hard rules; and currencies that it must lend in."""

    features: Collection[str]
    views: Collection[str]
    codes: Collection[str]
    currencies: Collection[str] = ()


def faults(table: Mapping[str, Any], known: Known) -> list[str]:
    """Faults of a table, one line each, with row, column and remedy.

    A table whose structure is faulty, or that does not compile, is not looked at any further.
    """
    if broken := structure_faults(table):
        return broken
    tables = [node["content"] for node in table["nodes"] if node["type"] == "decisionTableNode"]
    try:
        for content in tables:
            require_expressions(content)
        if uncovered := [fault for content in tables for fault in _without_default(content)]:
            return uncovered
        policy = Policy(table)
    except PolicyError as error:
        return [str(error)]
    named = [fault for content in tables for fault in (*_names(content, known), *_outputs(content, known))]
    dead = [fault for content in tables for fault in (*_unreachable(content), *_repeated(content))]
    if known.currencies:
        lent = disagreements(table, known.currencies)
    else:
        lent = [fault for content in tables for fault in _unlimited_currencies(content)]
    return [*named, *dead, *lent, *(() if named else _one_sided(policy, tables))]


def _names(table: Mapping[str, Any], known: Known) -> Iterator[str]:
    """Unknown facts, features and views: zen reads them as null, so their rows never fire."""
    for where, text in _texts(table):
        for kind, quoted, plain in _MEMBER.findall(text):
            name = quoted or plain
            names = known.features if kind == "features" else {*known.views, "request"}
            if name not in names:
                yield f'{where}: there is no {kind[:-1]} "{name}"{suggestion(name, names)}'
        for kind in _COMPUTED.findall(text):
            yield f"{where}: the name of a {kind[:-1]} is computed: write it in quotes, so that it can be checked"
        for name in (*_NAME.findall(_STRING.sub('""', text)), *_ROOT.findall(text)):
            if name not in FACTS | _WORDS:
                yield f'{where}: there is no fact "{name}"{suggestion(name, FACTS)}'


def _texts(table: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for column in table["inputs"]:
        yield column_name(column), column.get("field") or ""
    for place, rule in enumerate(table["rules"]):
        for column in table["inputs"]:
            yield f"{row_name(table, place)}, {column_name(column)}", rule.get(column["id"], "")


def _outputs(table: Mapping[str, Any], known: Known) -> Iterator[str]:
    """Faults of outputs: no valid verdict, no reason in the catalogue for a hard rule, or a repeated row name."""
    names: set[str] = set()
    for place, rule in enumerate(table["rules"]):
        where = row_name(table, place)
        values, wrong = _constants(table, place)
        yield from wrong
        if wrong:
            continue
        try:
            row = msgspec.convert(values, TableRow)
        except (msgspec.ValidationError, ValueError) as error:
            yield f"{where}: {error}: name a reason's code in quotes"
            continue
        if row.rule in names:
            yield f'{where}: another row is named "{row.rule}": rename one, decisions record the name'
        names.add(row.rule)
        if row.reason and row.reason not in known.codes:
            reasons = suggestion(row.reason, known.codes)
            yield f'{where}, {_output(table, "reason")}: the catalogue has no reason "{row.reason}" for hard rules{reasons}'
        if row.component == "model" and not _looks_at_score(table, rule):
            yield (
                f"{where}, {_output(table, 'component')}: its component is the model, but no condition reads the score: "
                'write "policy" and a reason, or add a condition on the score'
            )


def _constants(table: Mapping[str, Any], place: int) -> tuple[dict[str, Any], list[str]]:
    """Values of a row's outputs by field, and the faults of its cells."""
    rule, where = table["rules"][place], row_name(table, place)
    values: dict[str, Any] = {}
    wrong = []
    for column in table["outputs"]:
        field, text = column["field"], rule.get(column["id"], "").strip()
        remedy = _REMEDIES[field]
        if not text:
            if field in REQUIRED:
                wrong.append(f"{where}, {column_name(column)}: the cell is empty: {remedy}")
            continue
        if _NAME.search(_STRING.sub('""', re.sub(r"\b(null|true|false)\b", "", text))):
            wrong.append(
                f"{where}, {column_name(column)}: an output must be a constant, so that it can be checked before it is "
                f"used: {remedy}"
            )
            continue
        value = _whole(zen.compile_expression(text).evaluate({}))
        try:
            msgspec.convert(value, _KINDS[field])
        except msgspec.ValidationError as error:
            wrong.append(f"{where}, {column_name(column)}: {error}: {remedy}")
        values[field] = value
    return values, wrong


def _output(table: Mapping[str, Any], field: str) -> str:
    """The output column of a field, for a message."""
    return next((column_name(column) for column in table["outputs"] if column["field"] == field), field)


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _looks_at_score(table: Mapping[str, Any], rule: Mapping[str, str]) -> bool:
    cells = [(column.get("field") or "", rule.get(column["id"], "")) for column in table["inputs"]]
    return any(text and "score" in _NAME.findall(f"{field} {text}") for field, text in cells)


class _Conditions:
    """Conditions of a table: for each row and field, the distinguishing values that meet it.

    `whole` marks rows with a condition on no field, which may fire for some of these values only.
    """

    def __init__(self, table: Mapping[str, Any]) -> None:
        groups: dict[str, list[str]] = {}
        for column in table["inputs"]:
            if column.get("field"):
                groups.setdefault(column["field"].strip(), []).append(column["id"])
        self.fields = list(groups)
        self.met = [
            [_met(field, ids, rule, table) for field, ids in groups.items()] for rule in table["rules"]
        ]
        cells = {
            field: [rule.get(column, "").strip() for rule in table["rules"] for column in ids]
            for field, ids in groups.items()
        }
        self.values = {field: _values(field, texts) for field, texts in cells.items()}
        self.every = [frozenset(range(len(values))) for values in self.values.values()]
        outside = [column["id"] for column in table["inputs"] if not column.get("field")]
        self.whole = [any(rule.get(column, "").strip() for column in outside) for rule in table["rules"]]

    def taken_by_rows(self) -> list[list[frozenset[int]]]:
        """Values that rows are sure to fire for."""
        return [sets for sets, whole in zip(self.met, self.whole, strict=True) if not whole]


def _without_default(table: Mapping[str, Any]) -> Iterator[str]:
    """Fault of hit policy `first`: facts that no row fires for leave the application without a verdict."""
    conditions = _Conditions(table)
    if table["hitPolicy"] == "first" and _free(conditions.every, conditions.taken_by_rows()):
        yield (
            f"after {row_name(table, len(table['rules']) - 1)} there is no default: some applications meet no row and get "
            'no verdict; add a last row without conditions, with the outcome "approved" or "declined"'
        )


def _unreachable(table: Mapping[str, Any]) -> Iterator[str]:
    """Rows that never fire: no facts meet them or, with hit policy `first`, earlier rows take all that do."""
    conditions = _Conditions(table)
    taken: list[list[frozenset[int]]] = []
    for place, sets in enumerate(conditions.met):
        dead = [field for field, values in zip(conditions.fields, sets, strict=True) if not values]
        if dead:
            yield (
                f"{row_name(table, place)} never fires: no value of {dead[0]} meets its condition; "
                "compare its units and spelling, or remove the row"
            )
        elif table["hitPolicy"] == "first" and not _free(sets, taken):
            yield (
                f"{row_name(table, place)} never fires: rows before it take all that meet it; move it up or remove it"
            )
        if not conditions.whole[place]:
            taken.append(sets)


def _repeated(table: Mapping[str, Any]) -> Iterator[str]:
    """Rows with the conditions and outputs of an earlier row, but for their names."""
    seen: dict[tuple[str, ...], int] = {}
    columns = [
        column["id"] for column in (*table["inputs"], *table["outputs"]) if column.get("field") != "rule"
    ]
    for place, rule in enumerate(table["rules"]):
        cells = tuple("".join(rule.get(column, "").split()) for column in columns)
        first = seen.setdefault(cells, place)
        if first != place:
            yield f"{row_name(table, place)} repeats {row_name(table, first)}: remove one of them"


def _outcomes(table: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [_constants(table, place)[0] for place in range(len(table["rules"]))]


def _unlimited_currencies(table: Mapping[str, Any]) -> Iterator[str]:
    """Currencies that are served without a rule of their own, where others have limits."""
    conditions = _Conditions(table)
    if "currency" not in conditions.fields:
        return
    place_of = conditions.fields.index("currency")
    limited, refused = set[Value](), set[Value]()
    for outcome, sets in zip(_outcomes(table), conditions.met, strict=True):
        if sets[place_of] == conditions.every[place_of]:
            continue
        meets = {conditions.values["currency"][index][0] for index in sets[place_of]}
        alone = all(
            values == every
            for index, (values, every) in enumerate(zip(sets, conditions.every, strict=True))
            if index != place_of
        )
        if outcome.get("outcome") == "declined" and alone:
            refused |= meets
        elif outcome.get("outcome") == "declined" or outcome.get("limit") is not None:
            limited |= meets
    served = {value for value, _ in conditions.values["currency"]} - refused
    column = next(each for each in table["inputs"] if (each.get("field") or "").strip() == "currency")
    for currency in sorted(map(str, served - limited)) if limited else ():
        yield (
            f'{column_name(column)}: "{currency}" is lent in without a limit, where {", ".join(sorted(map(str, limited)))} '
            "have one: add a row that limits its amount, or one that declines the currency"
        )


def _one_sided(policy: Policy, tables: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Tables that decide the same of everyone: no row declines or reviews, or every probe is declined."""
    outcomes = [outcome for table in tables for outcome in _outcomes(table)]
    if all(outcome.get("outcome") == "approved" for outcome in outcomes):
        yield 'no row declines anyone or asks for a review, so the table approves everyone: give a row the outcome "declined"'
        return
    declining = [str(outcome["rule"]) for outcome in outcomes if outcome.get("outcome") == "declined"]
    probe = nearest_to_approval(policy, _grid(tables), declining)
    if probe.declined_by:
        rows = [
            f"{row_name(table, place)} with the conditions on {_conditioned(table, place)}"
            for table in tables
            for place, outcome in enumerate(_outcomes(table))
            if outcome.get("rule") in probe.declined_by
        ]
        yield (
            f"the table declines everyone: no application that was tried passes {'; '.join(rows)}: compare units, "
            "comparison signs, currencies and columns of it"
        )


def _conditioned(table: Mapping[str, Any], place: int) -> str:
    rule = table["rules"][place]
    columns = [column_name(column) for column in table["inputs"] if rule.get(column["id"], "").strip()]
    return ", ".join(columns) or "nothing"


def _grid(tables: Sequence[Mapping[str, Any]]) -> dict[str, list[Value]]:
    """Values that distinguish the tables' conditions, by the fact, feature or state that they read."""
    grid: dict[str, dict[Value, None]] = {}
    for table in tables:
        for field, values in _Conditions(table).values.items():
            for name in _coordinates(field):
                grid.setdefault(name, {}).update(
                    dict.fromkeys(value for value, _ in values if _suits(name, value))
                )
    return {name: list(values) for name, values in grid.items() if values}


def _coordinates(field: str) -> list[str]:
    members = [f"{kind}.{quoted or plain}" for kind, quoted, plain in _MEMBER.findall(field)]
    return [*members, *(name for name in _NAME.findall(_STRING.sub('""', field)) if name in _VARIED)]


def _suits(name: str, value: Value) -> bool:
    """True if a fact can have this value."""
    if name == "currency" or name.startswith("states."):
        return isinstance(value, str)
    if name == "degraded":
        return isinstance(value, bool)
    if isinstance(value, (str, bool)):
        return False
    return value is not None or name == "score" or name.startswith("features.")


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
