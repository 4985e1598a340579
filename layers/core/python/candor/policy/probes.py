"""Probes: applications on which a decision table is tried when it is built, to see whether anyone can be approved.

The search begins with an application that nothing speaks against and changes a fact at a time to the value with the
fewest declining rows; it begins again with a few applications that mix the values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from candor.errors import PolicyError
from candor.policy import Facts, Policy

STARTS: Final = 4
"""Mixed applications that a search begins with, after the plain one."""

CUTOFF: Final = 0.2

Value = float | str | bool | None
Grid = Mapping[str, Sequence[Value]]
"""Values to try by coordinate: a fact's name, `features.<name>` or `states.<name>`."""

_PLAIN: Final[Mapping[str, Value]] = {
    "score": 0.01,
    "amount": 1_000,
    "currency": "USD",
    "degraded": False,
    "installments": 4,
    "finance_charge": 0,
}


class Probe(NamedTuple):
    """The application that a table comes nearest to approving: its facts, and the rows that decline it."""

    facts: Mapping[str, Value]
    declined_by: Sequence[str]


def nearest_to_approval(policy: Policy, grid: Grid, declining: Sequence[str]) -> Probe:
    """The best probe; `declined_by` is empty if somebody is not declined. `declining` names the rows that decline."""
    plain = {name: _PLAIN.get(name, 0.0 if name.startswith("features.") else "present") for name in grid}
    best: Probe | None = None
    for start in range(STARTS + 1):
        facts = _mixed(grid, start) if start else plain
        probe = _improved(policy, facts, grid, declining)
        if best is None or len(probe.declined_by) < len(best.declined_by):
            best = probe
        if not best.declined_by:
            break
    assert best is not None
    return best


def _mixed(grid: Grid, start: int) -> dict[str, Value]:
    """An application that takes another value of each coordinate with each start."""
    return {
        name: values[start * (2 * place + 1) % len(values)]
        for place, (name, values) in enumerate(grid.items())
    }


def _improved(policy: Policy, facts: Mapping[str, Value], grid: Grid, declining: Sequence[str]) -> Probe:
    """The probe after each coordinate in turn took its best value, until none helps."""
    best = Probe(facts, _declined_by(policy, facts, declining))
    improved = True
    while best.declined_by and improved:
        improved = False
        for name, values in grid.items():
            for value in values:
                changed = {**best.facts, name: value}
                declined_by = _declined_by(policy, changed, declining)
                if len(declined_by) < len(best.declined_by):
                    best, improved = Probe(changed, declined_by), True
    return best


def _declined_by(policy: Policy, facts: Mapping[str, Value], declining: Sequence[str]) -> list[str]:
    """Declining rows that fire; a table that gives no verdict leads to a review, so nothing declines."""
    try:
        rules = policy.decide(_facts(facts)).rules
    except PolicyError:
        return []
    return [rule for rule in rules if rule in declining]


def _facts(values: Mapping[str, Value]) -> Facts:
    features = {
        name.removeprefix("features."): value for name, value in values.items() if "features." in name
    }
    states = {name.removeprefix("states."): value for name, value in values.items() if "states." in name}
    facts = {name: values.get(name, plain) for name, plain in _PLAIN.items()}
    number = float("nan")
    return Facts(
        score=facts["score"],  # type: ignore[arg-type] # the grid has numbers for numbers
        cutoff=CUTOFF,
        amount=facts["amount"],  # type: ignore[arg-type] # as above
        currency=str(facts["currency"]),
        degraded=bool(facts["degraded"]),
        features={name: number if value is None else float(value) for name, value in features.items()},
        states={name: str(value) for name, value in states.items()},
        installments=facts["installments"],  # type: ignore[arg-type] # as above
        finance_charge=facts["finance_charge"],  # type: ignore[arg-type] # as above
    )
