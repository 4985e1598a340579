"""Making the monitoring report from the archive and a run's files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from candor.decision import Decision
from candor.errors import CandorError, DefinitionError
from candor.features.definitions import Definitions
from candor.model.bundle import Bundle
from history.archive.events import Envelope, accepted_events
from training.monitoring.loans import loan_ends
from training.monitoring.monitor import Monitoring, monitor
from training.monitoring.population import TrainingSnapshot, served


class NothingServed(CandorError):
    """No decision of the interval can be compared with the snapshot."""


@dataclass(frozen=True)
class MonitoringInput:
    """Input to compare with the snapshot: archived decisions and event envelopes."""

    decisions: Iterable[Decision]
    envelopes: Iterable[Envelope]


def report(
    bundle: Bundle,
    definitions: Definitions,
    snapshot: TrainingSnapshot,
    archived: MonitoringInput,
    *,
    since: int | None,
    until: int,
) -> Monitoring:
    """Report on decisions from `since` to before `until` (ms UTC), compared with the snapshot.

    The default of `since` is the data set's knowledge cutoff, since earlier decisions may have been trained on. Nothing
    that became known at `until` or later is used, and no label after the lender's newest event: a lagging archive would
    turn good loans bad. Raises NothingServed, DefinitionError, ArchiveDamaged.
    """
    if definitions.label is None:
        raise DefinitionError("the definitions have no label: declare Label(...) to monitor outcomes")
    trained_on = bundle.trained_on(definitions)
    start = snapshot.as_of if since is None else since
    decisions = (decision for decision in archived.decisions if start <= decision.q < until)
    events = accepted_events(archived.envelopes, definitions)
    ends = loan_ends(definitions.label, events, until)
    population = served(decisions, bundle, trained_on, ends.ends)
    if not len(population.q):
        raise NothingServed(
            "no decision in this interval has the features of this model: widen --since, or name another --run"
        )
    return monitor(
        bundle,
        trained_on,
        snapshot,
        population,
        since=start,
        until=until,
        observed_until=ends.newest,
    )
