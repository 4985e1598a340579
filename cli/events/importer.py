"""The steps of an import on a stage, with what the registry knows of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import boto3
import click

from candor.clock import SystemClock, format_rfc3339
from candor.edge.stale import StaleItem, StaleQueue
from candor.registry.imports import ARCHIVED, DONE, READING, ImportRun, Imports
from candor.store.erasures import Erasures
from cli.events.private_folder import private_folder
from cli.events.sources import digest_of, local_files
from cli.progress import Progress
from cli.stage import Stage
from history.imports.accept import RowsRead
from history.imports.fill import Filled
from history.imports.job import ImportJob, ImportTarget
from history.imports.mapping import EventMapping, read_mapping
from lender import DEFINITIONS


@dataclass(frozen=True)
class ImportSummary:
    """Result of a command: what was read, how many items take it, and what was written, as far as it came."""

    import_id: str
    rows_read: RowsRead | None = None
    items: int = 0
    filled: Filled | None = None
    done_before: bool = False
    stopped: bool = False
    """Nothing was written, because events are refused."""

    @property
    def remedy(self) -> str | None:
        """Remedy, where the command did not reach its aim."""
        if self.stopped:
            return "events are refused, and nothing was written: mend them or the mapping, or give --skip-refused"
        if self.filled is not None and self.filled.failures:
            return "some items were not written: run the same command again"
        return None


class Importer:
    """Imports into a stage; `threads` groups of items are written at a time."""

    def __init__(self, stage: Stage, progress: Progress, threads: int) -> None:
        self._stage, self._progress, self._threads = stage, progress, threads
        self._registry = stage.output("RegistryTableName")
        self._imports = Imports(self._registry)

    def resume(self) -> ImportSummary:
        """End the unfinished import. Raises ClickException if none waits with all of its events archived."""
        run = self._imports.unfinished()
        if run is None:
            raise click.ClickException("no import is unfinished")
        if run.state == READING:
            raise click.ClickException(
                f"import {run.id} was interrupted before all of its rows were archived, and nothing was applied: "
                "give its files and its mapping again"
            )
        return self._fill_archived(run)

    def run(self, paths: Sequence[str], mapping: str, *, dry_run: bool, skip_refused: bool) -> ImportSummary:
        """Import files; an import of the same files and mapping continues where it was.

        Raises MappingError, ImportUnfinished, ClickException.
        """
        parsed = read_mapping(mapping, DEFINITIONS)
        with private_folder() as folder:
            files = local_files(paths, folder, self._progress)
            import_id = digest_of(mapping, files)
            known = self._imports.find(import_id)
            if known is not None and known.state != READING and not dry_run:
                return self._continue(known)
            started_at = known.started_at if known else SystemClock().now_ms()
            job = self._job(import_id, started_at, folder)
            return self._import(job, parsed, files, import_id, dry_run=dry_run, skip_refused=skip_refused)

    def _import(
        self,
        job: ImportJob,
        mapping: EventMapping,
        files: Sequence[Path],
        import_id: str,
        *,
        dry_run: bool,
        skip_refused: bool,
    ) -> ImportSummary:
        rows_read = job.read(mapping, files, Erasures(self._registry).tombstones())
        stopped = bool(rows_read.refused) and not skip_refused
        if dry_run or stopped:
            return ImportSummary(import_id, rows_read, job.items, stopped=stopped)
        run = self._imports.begin(import_id, job.started_at)
        job.archive()
        run = self._imports.move(run, ARCHIVED)
        return ImportSummary(import_id, rows_read, job.items, self._fill(run, job))

    def _continue(self, run: ImportRun) -> ImportSummary:
        if run.state == DONE:
            return ImportSummary(run.id, done_before=True)
        return self._fill_archived(run)

    def _fill_archived(self, run: ImportRun) -> ImportSummary:
        with private_folder() as folder:
            job = self._job(run.id, run.started_at, folder)
            job.fetch()
            return ImportSummary(run.id, None, job.items, self._fill(run, job))

    def _fill(self, run: ImportRun, job: ImportJob) -> Filled:
        now_ms = SystemClock().now_ms()
        if now_ms - run.started_at > self._stage.retention.event_ids:
            raise click.ClickException(
                f"import {run.id} began at {format_rfc3339(run.started_at)}: the ids that it applied then may be "
                "forgotten, so it cannot be resumed without counting twice"
            )
        filled = job.fill(self._threads)
        if filled.stale:
            queue = StaleQueue(boto3.client("sqs").send_message_batch, self._stage.output("StaleItemsUrl"))
            queue.send(StaleItem(key, now_ms) for key in sorted(filled.stale))
        if not filled.failures:
            self._imports.move(run, DONE)
        return filled

    def _job(self, import_id: str, started_at: int, folder: Path) -> ImportJob:
        target = ImportTarget(
            boto3.client("s3"),
            self._stage.output("ArchiveBucketName"),
            self._stage.store,
            self._stage.retention,
            SystemClock(),
        )
        return ImportJob(target, DEFINITIONS, import_id, started_at, folder, self._progress.update)
