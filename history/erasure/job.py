"""Erasure of one person: survey, tombstones, items, training data and the archive, in this order.

Every step determines what is left to do, so the job may be interrupted and restarted anywhere. The archive is last,
because the other steps need it to find the person's data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from pynamodb.exceptions import PynamoDBException

from candor.clock import DAY, SECOND, Clock
from candor.errors import CandorError, StoreUnavailable
from candor.features.definitions import Definitions
from candor.store import layout
from candor.store.dynamodb import DecisionItem, bound
from candor.store.erasures import Erasure, Erasures
from candor.updates import Retention
from history.archive.commits import COMMITS_PREFIX
from history.archive.decisions import DECISIONS_PREFIX
from history.archive.events import EVENTS_PREFIX
from history.archive.stores import BucketStore
from history.archive.tables import TABLES, compact, days_of, forget
from history.archive.versioned import Change, Findings, VersionedBucket
from history.erasure.items import Items
from history.erasure.lines import CommitLines, DecisionLines, EventLines, Person, Rule, UndeliveredLines
from history.erasure.objects import changed_lines
from history.erasure.report import ErasureReport, KeptDecisions, report_rows
from history.erasure.rows import DATASET, RUNS_PREFIX, SERIES, clean_run, without_rows
from history.index.bucket import ArchiveBucket
from history.index.kinds import KINDS
from history.index.periods import weeks_of
from history.index.refresh import renew

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


UNDELIVERED_PREFIX: Final = "undelivered/"
"""Archive prefix of undeliverable stream records."""

OnProgress = Callable[[str, int, int], None]
"""Progress callback: the step, units done, and units in all."""


class NobodyNamed(CandorError):
    """No event and no item belongs to this entity: the token is probably misspelled."""


@dataclass(frozen=True)
class StageLocations:
    """Tables and buckets of a stage."""

    features: str
    synchronous: str
    decisions: str
    registry: str
    archive: str
    training: str


@dataclass(frozen=True)
class Survey:
    """Data left to erase: `anew`, or under the `known` erasure. `named`: some data belongs to this very entity."""

    known: Erasure | None
    anew: bool
    places: Sequence[dict[str, Any]]
    findings: Mapping[str, Findings]
    items: Sequence[str]
    surplus: Sequence[tuple[int, str]]
    checkouts: frozenset[str]
    named: bool

    @property
    def nothing_left(self) -> bool:
        return not (self.items or self.surplus or any(findings.keys for findings in self.findings.values()))


class ErasureJob:
    """One person's erasure.

    Raises StoreUnavailable, ArchiveDamaged, NobodyNamed, Vanished; botocore's errors pass through.
    """

    def __init__(
        self,
        person: Person,
        definitions: Definitions,
        places: StageLocations,
        retention: Retention,
        clock: Clock,
        s3: S3Client,
    ) -> None:
        self._person, self._definitions, self._places = person, definitions, places
        self._retention, self._clock = retention, clock
        self._archive = VersionedBucket(s3, places.archive)
        self._tables = BucketStore(s3, places.archive)
        self._index = ArchiveBucket(s3, places.archive)
        self._training = VersionedBucket(s3, places.training)
        self._erasures = Erasures(places.registry)
        self._items = Items(person, definitions, (places.features, places.synchronous), retention)

    def survey(self, on_progress: OnProgress, *, again: bool = False, scan: bool = False) -> Survey:
        """Read everything, change nothing.

        An erased entity may have returned: only data from before that erasure counts, unless `again`. `scan` also
        reads both feature tables whole, for items that the commit log does not name.
        """
        known = self._erasures.find(self._person.kind, self._person.token)
        anew = known is None or (again and known.finished)
        before = known.erased_at if known and not anew else self._clock.now_ms()
        standing = self._items.standing(before)
        events, commits = self._event_lines("", before), self._commit_lines(standing.living)
        findings = {
            EVENTS_PREFIX: self._look(EVENTS_PREFIX, events, on_progress),
            UNDELIVERED_PREFIX: self._look(UNDELIVERED_PREFIX, self._undelivered_lines(), on_progress),
            COMMITS_PREFIX: self._look(COMMITS_PREFIX, commits, on_progress),
        }
        rows = without_rows(events.checkouts)
        findings[RUNS_PREFIX] = self._training.survey(
            RUNS_PREFIX, lambda _: rows, partial(on_progress, "training data"), (DATASET, SERIES)
        )
        surplus = commits.keys | commits.markers | set(self._items.scanned(standing.living) if scan else ())
        present = self._items.present(surplus)
        places = report_rows(
            items=len(standing.held),
            surplus=len(present),
            events=findings[EVENTS_PREFIX],
            lines=events,
            undelivered=findings[UNDELIVERED_PREFIX],
            commits=findings[COMMITS_PREFIX],
            rows=findings[RUNS_PREFIX],
            decisions=self._decisions(on_progress),
        )
        named = bool(events.event_ids or standing.held or present or commits.keys or known)
        return Survey(
            known, anew, places, findings, standing.held, present, frozenset(events.checkouts), named
        )

    def erase(self, survey: Survey, reason: str, on_progress: OnProgress) -> ErasureReport:
        """Erase what the survey counted. An interrupted erasure continues as it began."""
        known = survey.known
        if not survey.named:
            raise NobodyNamed(
                f"no event and no item names this {self._person.kind}: check the token; nothing was changed"
            )
        at = self._clock.now_ms() if survey.anew or known is None else known.erased_at
        if survey.nothing_left and known is not None:
            # Only the tables and the final write may be missing.
            return self._report(self._finish(known, on_progress), survey.places, found_now=not known.finished)
        erasure = self._erasures.begin(self._person.kind, self._person.token, at, reason)
        if "found" not in erasure.steps:
            erasure = self._erasures.did(erasure, "found", survey.places)
        buried = self._bury(erasure, survey)
        erasure = self._erasures.did(erasure, "items", buried)
        self._clean_training(survey, on_progress)
        erasure = self._erasures.did(erasure, "training", len(survey.findings[RUNS_PREFIX].keys))
        erasure = self._clean_archive(erasure, survey, on_progress)
        erasure = self._finish(self._erasures.did(erasure, "archive", "done"), on_progress)
        return self._report(erasure, erasure.steps["found"], found_now=True)

    def _finish(self, erasure: Erasure, on_progress: OnProgress) -> Erasure:
        if erasure.finished:
            return erasure
        self._compact(erasure, on_progress)
        self._renew_index(erasure, on_progress)
        return self._erasures.finish(erasure)

    def _bury(self, erasure: Erasure, survey: Survey) -> int:
        buried = self._items.bury(erasure.erased_at, self._clock.now_ms())
        self._items.delete(survey.surplus)
        return buried

    def _clean_training(self, survey: Survey, on_progress: OnProgress) -> None:
        change = without_rows(survey.checkouts)
        keys = survey.findings[RUNS_PREFIX].keys
        for number, key in enumerate(keys, 1):
            clean_run(self._training, key, change)
            on_progress("training data rewritten", number, len(keys))

    def _clean_archive(self, erasure: Erasure, survey: Survey, on_progress: OnProgress) -> Erasure:
        assert erasure.stand_in is not None
        living = self._items.standing(erasure.erased_at).living
        rules: Mapping[str, Rule] = {
            EVENTS_PREFIX: self._event_lines(erasure.stand_in, erasure.erased_at),
            UNDELIVERED_PREFIX: self._undelivered_lines(),
            COMMITS_PREFIX: self._commit_lines(living),
        }
        erasure = self._forget_tables(self._note_weeks(erasure, survey), survey)
        for prefix, rule in rules.items():
            keys = survey.findings[prefix].keys
            for number, key in enumerate(keys, 1):
                self._archive.clean(key, changed_lines(rule, key))
                on_progress(f"{prefix} rewritten", number, len(keys))
        return erasure

    def _forget_tables(self, erasure: Erasure, survey: Survey) -> Erasure:
        """Record the tables' days, then remove them.

        A resumed run may no longer find the lines they derive from.
        """
        noted = erasure.steps.get("tables", {})
        days = {
            table.name: sorted(
                days_of(table, survey.findings[table.prefix].keys) | set(noted.get(table.name, ()))
            )
            for table in TABLES
            if table.prefix in survey.findings
        }
        erasure = self._erasures.did(erasure, "tables", days)
        for table in TABLES:
            forget(self._tables, table, days.get(table.name, ()))
        return erasure

    def _compact(self, erasure: Erasure, on_progress: OnProgress) -> None:
        """Write the removed days again from the cleaned objects."""
        noted = erasure.steps.get("tables", {})
        for table in TABLES:
            if days := frozenset(noted.get(table.name, ())):
                compact(self._tables, table, partial(on_progress, f"table {table.name}"), days)

    def _note_weeks(self, erasure: Erasure, survey: Survey) -> Erasure:
        """Record the index weeks with the person's lines before these are removed from the archive."""
        noted = erasure.steps.get("index", {})
        weeks = {
            kind.name: sorted(
                weeks_of(kind, survey.findings[kind.prefix].keys) | set(noted.get(kind.name, ()))
            )
            for kind in KINDS
        }
        return self._erasures.did(erasure, "index", weeks)

    def _renew_index(self, erasure: Erasure, on_progress: OnProgress) -> None:
        """Rebuild the index of those weeks from the cleaned objects."""
        noted = erasure.steps.get("index", {})
        for number, kind in enumerate(KINDS, 1):
            renew(self._index, kind, noted.get(kind.name, ()))
            on_progress("index", number, len(KINDS))

    def _report(
        self, erasure: Erasure, places: Sequence[dict[str, Any]], *, found_now: bool
    ) -> ErasureReport:
        again_after = erasure.erased_at + self._retention.event_ids
        return ErasureReport(erasure.name, erasure.erased_at, again_after, found_now, places)

    def _event_lines(self, stand_in: str, before: int) -> EventLines:
        return EventLines(self._person, self._definitions, stand_in, before)

    def _commit_lines(self, living: Mapping[str, int]) -> CommitLines:
        return CommitLines(self._person, self._definitions, living)

    def _undelivered_lines(self) -> UndeliveredLines:
        return UndeliveredLines(self._person, self._definitions)

    def _look(self, prefix: str, rule: Rule, on_progress: OnProgress) -> Findings:
        def change(key: str) -> Change:
            return changed_lines(rule, key)

        return self._archive.survey(prefix, change, partial(on_progress, prefix))

    def _decisions(self, on_progress: OnProgress) -> KeptDecisions:
        """Count the decisions that the law requires to be kept; they stay unchanged."""
        lines = DecisionLines(self._person, self._definitions)
        self._look(DECISIONS_PREFIX, lines, on_progress)
        table = bound(DecisionItem, self._places.decisions)
        try:
            stored = (
                table.batch_get(sorted(lines.ids), attributes_to_get=[layout.KEY, layout.EXPIRES_AT])
                if lines.ids
                else ()
            )
            expiries = [int(item.expires_at) * SECOND for item in stored]
        except PynamoDBException as error:
            raise StoreUnavailable(f"decisions could not be read: {error.cause_response_code}") from error
        days = self._archive.expiry_days(DECISIONS_PREFIX)
        until = None if days is None or not lines.q else max(lines.q) + days * DAY
        return KeptDecisions(len(lines.ids), until, len(expiries), max(expiries, default=None))
