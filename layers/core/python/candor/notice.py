"""The notice of adverse action, as text.

Regulation B, 12 CFR 1002.9(a)(2) and (b): the action, the creditor, the ECOA notice, the agency, the principal
reasons; where a consumer report was used, also the disclosures of the Fair Credit Reporting Act, section 615(a).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from candor.decision import Decision
from candor.errors import CandorError
from candor.reasons import MAX_REASONS, Reason
from candor.regulation import Party, Profile

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
    "Our decision was based in part on a consumer report from {report.agency.name}, {report.agency.address},"
    " {report.telephone}. The agency played no part in our decision and cannot tell you its reasons. You may ask it for a free"
    " copy of your report within 60 days, and may dispute with it what is inaccurate or incomplete.\n"
    "Your credit score: {report.score}, on {report.made_on}. Scores range from {report.lowest} to {report.highest}. Key factors"
    " that lowered it:"
)

_INQUIRIES: Final = "Number of recent inquiries on credit bureau report"


class NoNotice(CandorError):
    """The decision owes no notice, or a reason has no text."""


class ConsumerReport(msgspec.Struct, frozen=True):
    """A consumer report that was used: its agency, score and range, date, and key factors.

    `inquiries`: inquiries were a key factor too, disclosed as a fifth.
    """

    agency: Party
    telephone: str
    score: int
    lowest: int
    highest: int
    made_on: str
    factors: Sequence[str]
    inquiries: bool = False

    def __post_init__(self) -> None:
        if not self.lowest <= self.score <= self.highest or not 1 <= len(self.factors) <= MAX_REASONS:
            raise ValueError("a consumer report has a score within its range and one to four key factors")


def render(
    decision: Decision, catalogue: Iterable[Reason], profile: Profile, report: ConsumerReport | None = None
) -> str:
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
        f"{datetime.fromtimestamp((decision.decided_at or decision.q) / 1_000, UTC):%Y-%m-%d}",
        ACTIONS[owed.kind],
        "The principal reasons:\n" + _list(reason_texts(decision, catalogue)),
        *([] if report is None else [_report(report)]),
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


def _report(report: ConsumerReport) -> str:
    factors = [*report.factors, *([_INQUIRIES] if report.inquiries else [])]
    return _REPORT.format(report=report) + "\n" + _list(factors)


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
