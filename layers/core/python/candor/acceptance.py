"""The checkouts that a lender takes: declared currencies, products and countries."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Final

from candor.contracts import Checkout
from candor.errors import DefinitionError, InvalidInput, Report, refuse
from candor.iso_codes import COUNTRIES, CURRENCIES

_HOW_TO: Final = "docs/how-to/extend/add-a-currency.md"


class Acceptance:
    """Currencies, products and countries that a lender lends in; every other checkout is refused with 422.

    `policy` is the lender's decision table: each currency needs a row that limits its amounts. `countries` defaults to
    all of ISO 3166-1. Raises `DefinitionError`.
    """

    def __init__(
        self,
        *,
        currencies: Iterable[str],
        products: Iterable[str],
        countries: Iterable[str] = COUNTRIES,
        policy: Mapping[str, Any],
    ) -> None:
        self.currencies = _declared("currencies", currencies, CURRENCIES, "ISO 4217")
        self.products = _declared("products", products)
        self.countries = _declared("countries", countries, COUNTRIES, "ISO 3166-1 alpha-2")
        if faults := disagreements(policy, self.currencies):
            raise DefinitionError("; ".join(faults))
        self.rules: tuple[Callable[[Checkout, Report], None], ...] = (
            self._currency,
            self._product,
            self._country,
        )

    def check(self, checkout: Checkout) -> None:
        """Raise `InvalidInput` unless the lender takes this checkout."""
        if (
            checkout.currency in self.currencies
            and checkout.offer.product in self.products
            and checkout.country in self.countries
        ):
            return
        for rule in self.rules:
            rule(checkout, refuse)

    def _currency(self, checkout: Checkout, report: Report) -> None:
        # A code that is none of ISO 4217 has a fault of its own.
        if checkout.currency not in self.currencies and checkout.currency in CURRENCIES:
            report(_unsupported("currency", "currencies", self.currencies, "currency"))

    def _product(self, checkout: Checkout, report: Report) -> None:
        if checkout.offer.product not in self.products:
            report(_unsupported("product", "products", self.products, "offer.product"))

    def _country(self, checkout: Checkout, report: Report) -> None:
        if checkout.country not in self.countries:
            report(_unsupported("country", "countries", self.countries, "country"))


def disagreements(policy: Mapping[str, Any], currencies: Iterable[str]) -> list[str]:
    """Currencies that a lender takes and its decision table does not lend in, one line each.

    Such a currency has no row that limits its amounts, or a row that declines all of it.
    """
    tables = [node["content"] for node in policy["nodes"] if node["type"] == "decisionTableNode"]
    return [fault for currency in sorted(currencies) for fault in _without_limits(tables, currency)]


def _without_limits(tables: Iterable[Mapping[str, Any]], currency: str) -> Iterator[str]:
    rows = [(table, row) for table in tables for row in table["rules"] if _meets(table, row, currency)]
    if not any(_limits_amounts(table, row) for table, row in rows):
        yield (
            f'currency "{currency}" is declared, and no row of the policy table limits its amounts: '
            f"add its limits first ({_HOW_TO})"
        )
    for table, row in rows:
        if _declines_all(table, row):
            yield (
                f'currency "{currency}" is declared, and row "{row.get("_id", "")}" of the policy table declines all '
                f"of it: take it out of that row ({_HOW_TO})"
            )


def _meets(table: Mapping[str, Any], row: Mapping[str, str], currency: str) -> bool:
    """True if the row's cells on the currency, lists of texts or the negation of them, name it or are empty."""
    return all(
        (currency in _texts(cell)) != cell.startswith(("not", "!="))
        for cell in _cells(table, row, "currency")
    )


def _limits_amounts(table: Mapping[str, Any], row: Mapping[str, str]) -> bool:
    limits = [
        row.get(column["id"], "").strip() for column in table["outputs"] if column.get("field") == "limit"
    ]
    return bool(_cells(table, row, "amount")) or any(limit not in ("", "null") for limit in limits)


def _declines_all(table: Mapping[str, Any], row: Mapping[str, str]) -> bool:
    """True for a row that declines and looks at nothing but the currency."""
    outcomes = [row.get(column["id"], "") for column in table["outputs"] if column.get("field") == "outcome"]
    conditions = [column for column in table["inputs"] if row.get(column["id"], "").strip()]
    return (
        bool(conditions)
        and '"declined"' in outcomes
        and {column.get("field") for column in conditions} == {"currency"}
    )


def _cells(table: Mapping[str, Any], row: Mapping[str, str], fact: str) -> list[str]:
    """The row's conditions on a fact."""
    cells = [row.get(column["id"], "").strip() for column in table["inputs"] if column.get("field") == fact]
    return [cell for cell in cells if cell]


def _texts(cell: str) -> set[str]:
    return set(cell.replace("'", '"').split('"')[1::2])


def _declared(
    kind: str, codes: Iterable[str], known: Collection[str] | None = None, standard: str = ""
) -> frozenset[str]:
    if isinstance(codes, str):
        raise DefinitionError(f'{kind}="{codes}" would name its letters; write {kind}=["{codes}"]')
    declared = frozenset(codes)
    if not declared:
        raise DefinitionError(f"declare {kind}: without them every checkout is refused")
    if strange := sorted(declared - frozenset(known)) if known is not None else []:
        raise DefinitionError(f'{kind}: "{strange[0]}" is no code of {standard}')
    return declared


def _unsupported(name: str, plural: str, accepted: Collection[str], field: str) -> InvalidInput:
    """The refusal, which names what is accepted: the lender's own declarations, never the caller's value."""
    if accepted == COUNTRIES:
        return InvalidInput(f"unsupported_{name}", "Use an upper-case ISO 3166-1 alpha-2 code.", field)
    return InvalidInput(f"unsupported_{name}", f"Accepted {plural}: {', '.join(sorted(accepted))}.", field)
