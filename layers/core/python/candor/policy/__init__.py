"""Policy: a versioned decision table (GoRules JDM, evaluated by zen-engine) over score, features and states.

The table collects every row that fires; this module combines the rows into one verdict. A hard rule carries its own
reason, and reasons come only from the component that declined (Regulation B, comment 9(b)(2)-7 and -8).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

import msgspec
import zen

from candor.errors import PolicyError
from candor.terms import BasisPoints, Installments, Limit, TermLimits

Outcome = Literal["approved", "declined", "action_required"]
Component = Literal["policy", "model"]


class TableRow(msgspec.Struct, frozen=True):
    """A row of the table that fired, with its limits. ValueError for a hard rule without a reason.

    A hard rule is a row of the policy that declines, or approves less than requested.
    """

    rule: str
    outcome: Outcome
    component: Component = "policy"
    reason: str | None = None
    limit: Limit | None = None
    installments: Installments | None = None
    charge_bps: BasisPoints | None = None

    def __post_init__(self) -> None:
        if self.component == "policy" and not self.reason and self.is_hard:
            raise ValueError("a hard rule that declines or limits needs its reason")

    @property
    def limits(self) -> TermLimits:
        """Limits on the granted terms when this row fires."""
        return TermLimits(self.limit, self.installments, self.charge_bps)

    @property
    def is_hard(self) -> bool:
        """True if the row declines, or limits an approval."""
        return self.outcome == "declined" or (self.outcome == "approved" and self.limits != TermLimits())


class PolicyVerdict(msgspec.Struct, frozen=True):
    """The policy's decision: outcome, declining component (None if approved) and the rules that fired."""

    outcome: Outcome
    component: Component | None
    rules: list[str]
    reasons: list[str]
    """Codes of the hard rules, in table order; empty when the model declined."""

    limiting: Sequence[TableRow] = ()
    """Rows with limits; only an approval has them."""


class Facts(msgspec.Struct, frozen=True):
    """Inputs of the table.

    `score` and `cutoff` are probabilities, None without a model; `amount` and `finance_charge` are in minor units, to
    be paid in `installments`; `features` are values by name, `states` the state of each view. A missing value (NaN)
    is null in the table: comparisons with a number do not match it, `!=` and `not in` do.
    """

    score: float | None
    cutoff: float | None
    amount: int
    currency: str
    degraded: bool
    features: Mapping[str, float]
    states: Mapping[str, str]
    installments: int = 1
    finance_charge: int = 0


NOTHING_KNOWN = Facts(None, None, 0, "", degraded=True, features={}, states={})
"""Facts that every table must be able to evaluate before it serves."""


def table_hash(table: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of a table as canonical JSON: keys sorted, no spaces."""
    return hashlib.sha256(msgspec.json.encode(dict(table), order="sorted")).hexdigest()


class Policy:
    """A compiled decision table; `hash` is its `table_hash`. Raises `PolicyError` for one that cannot be evaluated."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self.hash = table_hash(table)
        try:
            self._decision = zen.ZenEngine().create_decision(json.dumps(dict(table)))
            self._decision.validate()
        except (RuntimeError, ValueError) as error:
            raise PolicyError(f"the policy table is not valid: {_first_line(error)}") from error
        tables = [node["content"] for node in table["nodes"] if node["type"] == "decisionTableNode"]
        if not any(
            {"rule", "outcome"} <= {column["field"] for column in content["outputs"]} for content in tables
        ):
            raise PolicyError("the policy table is not valid: no table has the outputs rule and outcome")
        for content in tables:
            require_expressions(content)
        self.decide(NOTHING_KNOWN)

    def decide(self, facts: Facts) -> PolicyVerdict:
        """Every row that fires, combined: a decline outweighs a review, a review an approval."""
        try:
            # As text: zen keeps every digit of it, and rounds Python's floats to about 15.
            result: Any = self._decision.evaluate(msgspec.json.encode(facts))["result"]
            rows = msgspec.convert(result if isinstance(result, list) else [result], list[TableRow])
        except (RuntimeError, ValueError, msgspec.ValidationError) as error:
            raise PolicyError(f"the policy table gave no verdict: {_first_line(error)}") from error
        return combine(rows)


def compiled(table: Mapping[str, Any]) -> Policy:
    """Compile a table. Equal tables share one policy: most bundles carry the lender's own. Raises `PolicyError`."""
    return _compiled(msgspec.json.encode(dict(table), order="sorted"))


@lru_cache(maxsize=8)
def _compiled(canonical: bytes) -> Policy:
    return Policy(msgspec.json.decode(canonical))


def combine(rows: list[TableRow]) -> PolicyVerdict:
    """Rows that fired → verdict. In the reasons, hard rules take precedence over the score.

    The component of an approval is None: whether its limits bind depends on the request.
    """
    rules = [row.rule for row in rows]
    declines = [row for row in rows if row.outcome == "declined"]
    hard = [row for row in declines if row.component == "policy"]
    if hard:
        return PolicyVerdict("declined", "policy", rules, codes(hard))
    if declines:
        return PolicyVerdict("declined", "model", rules, [])
    if any(row.outcome == "action_required" for row in rows):
        return PolicyVerdict("action_required", "policy", rules, [])
    return PolicyVerdict(
        "approved", None, rules, [], tuple(row for row in rows if row.limits != TermLimits())
    )


def codes(rows: Iterable[TableRow]) -> list[str]:
    """Reason codes of rows, each once, in table order."""
    return list(dict.fromkeys(row.reason for row in rows if row.reason))


def require_expressions(table: Mapping[str, Any]) -> None:
    """PolicyError for an expression that does not compile: in zen such a rule would silently never fire."""
    for where, compiles, text in _expressions(table):
        try:
            compiles(text)
        except RuntimeError as error:
            raise PolicyError(
                f"the policy table is not valid: {where}: the expression cannot be read ({_parser_message(error)}); write "
                'a condition as > 5, "USD" or [1..9], and a text in quotes'
            ) from error


def _parser_message(error: Exception) -> str:
    """Message of zen's parser, which comes as JSON."""
    try:
        return str(json.loads(_first_line(error))["source"])
    except (ValueError, KeyError, TypeError):
        return _first_line(error)


def _expressions(table: Mapping[str, Any]) -> Iterator[tuple[str, Callable[[str], Any], str]]:
    """Every expression of a table, with its location and its compiler. Conditions on a field are unary."""
    fields = {column["id"]: column["field"] for column in table["inputs"] if column.get("field")}
    for text in fields.values():
        yield f"input column {text}", zen.compile_expression, text
    for number, rule in enumerate(table["rules"], start=1):
        for column in [*table["inputs"], *table["outputs"]]:
            if text := rule.get(column["id"], "").strip():
                compiles = zen.compile_unary_expression if column["id"] in fields else zen.compile_expression
                yield f'row {number}, column "{column.get("name") or column["id"]}"', compiles, text


def _first_line(error: Exception) -> str:
    """First line of a message: zen appends a native stack trace."""
    return str(error).split("\n", 1)[0]
