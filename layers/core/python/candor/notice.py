"""The notice of adverse action, as text.

Regulation B, 12 CFR 1002.9(a)(2) and (b): the action, the application, the creditor, the ECOA notice, the agency, the
principal reasons. Where a consumer report was used, also the disclosures of the Fair Credit Reporting Act, section
615(a) (15 U.S.C. 1681m(a)).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from candor.decision import Decision
from candor.errors import CandorError
from candor.iso_codes import EXPONENTS
from candor.reasons import Reason
from candor.regulation import ConsumerReport, Profile
from candor.terms import Terms

ACTIONS: Final = {
    "declined": "We could not approve your application for credit.",
    "counter_offer": "We could not approve the credit that you asked for, and offered you other terms.",
}

ECOA: Final = (
    "The federal Equal Credit Opportunity Act prohibits creditors from discriminating against credit applicants on the basis"
    " of race, color, religion, national origin, sex, marital status, age (provided the applicant has the capacity to enter"
    " into a binding contract); because all or part of the applicant's income derives from any public assistance program;"
    " or because the applicant has in good faith exercised any right under the Consumer Credit Protection Act. The federal"
    " agency that administers compliance with this law concerning this creditor is {agency.name}, {agency.address}."
)

_REPORT: Final = (
    "Our decision was based in whole or in part on information in a consumer report from {report.agency}, {report.address},"
    " {report.telephone}. The agency did not make this decision and cannot give you its specific reasons. You have a right"
    " to a free copy of your report from the agency, if you ask for it within 60 days of receiving this notice. You have a"
    " right to dispute with the agency the accuracy or completeness of any information in the report."
)

_SCORE: Final = (
    "We used your credit score from {report.agency}: {score.value}{made}. Scores range from a low of {score.lowest} to a"
    " high of {score.highest}."
)

_INQUIRIES: Final = "Number of recent inquiries on credit bureau report"


class NoNotice(CandorError):
    """The decision owes no notice, or a reason has no text."""


def render(decision: Decision, catalogue: Iterable[Reason], profile: Profile) -> str:
    """Render the notice. `catalogue` is that of the decision's bundle. Raises `NoNotice`."""
    owed = decision.adverse_action
    if owed is None:
        raise NoNotice(f"decision {decision.id} owes no notice: its outcome is {decision.outcome}")
    if decision.regulation_profile != profile.name:
        raise NoNotice(
            f"decision {decision.id} was taken under {decision.regulation_profile}, not {profile.name}: "
            "give that profile"
        )
    parts = [
        f"{profile.creditor.name}, {profile.creditor.address}",
        _date(decision),
        ACTIONS[owed.kind],
        _application(decision),
        "The principal reasons:\n" + _list(reason_texts(decision, catalogue)),
        *(paragraph for report in owed.consumer_reports for paragraph in _report(report)),
        ECOA.format(agency=profile.agency),
    ]
    return "\n\n".join(parts) + "\n"


def reason_texts(decision: Decision, catalogue: Iterable[Reason]) -> list[str]:
    """Texts of the decision's reasons, in order. Raises `NoNotice` for a code that the catalogue lacks."""
    texts = {reason.code: reason.text for reason in catalogue}
    missing = [code for code in decision.reasons if code not in texts]
    if missing or not decision.reasons:
        lacking = ", ".join(missing) or "any reason"
        raise NoNotice(f"decision {decision.id}: the catalogue has no text for {lacking}")
    return [texts[code] for code in decision.reasons]


def _application(decision: Decision) -> str:
    """The purchase, the credit asked for, and the terms offered for it."""
    checkout, terms = decision.request, decision.terms if decision.outcome == "approved" else None
    requested = Terms(checkout.total, checkout.offer.installments, checkout.offer.finance_charge)
    offered = "none" if terms is None else _credit(terms, decision)
    lines = [
        f"Merchant: {decision.merchant_id}",
        f"Order: {checkout.merchant_order_id}",
        f"Date: {_date(decision)}",
        f"Credit that you asked for: {_credit(requested, decision)}",
        f"Terms that we offered: {offered}",
    ]
    return "Your application:\n" + _list(lines)


def _credit(terms: Terms, decision: Decision) -> str:
    currency, days = decision.request.currency, decision.request.offer.period_days
    payments = "1 payment" if terms.installments == 1 else f"{terms.installments} payments"
    return (
        f"{_money(terms.amount, currency)} in {payments}, {'after' if terms.installments == 1 else 'every'} {days} days, "
        f"with a finance charge of {_money(terms.finance_charge, currency)}"
    )


def _money(amount: int, currency: str) -> str:
    """An amount of minor units in the currency's own unit, without rounding."""
    exponent = EXPONENTS.get(currency)
    if exponent is None:
        return f"{amount} minor units of {currency}"
    return f"{Decimal(amount).scaleb(-exponent):,.{exponent}f} {currency}"


def _date(decision: Decision) -> str:
    return f"{datetime.fromtimestamp((decision.decided_at or decision.q) / 1_000, UTC):%Y-%m-%d}"


def _report(report: ConsumerReport) -> Iterator[str]:
    """Paragraphs of 15 U.S.C. 1681m(a): the agency and the rights, then the score if one was used."""
    yield _REPORT.format(report=report)
    if report.score is None:
        return
    score = report.score
    made = f", created on {score.made_on}" if score.made_on else ""
    text = _SCORE.format(report=report, score=score, made=made)
    factors = [*score.factors, *([_INQUIRIES] if score.inquiries else [])]
    yield f"{text} Key factors that adversely affected it:\n{_list(factors)}" if factors else text


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
