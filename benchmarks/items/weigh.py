"""Cost of one entity in bytes and DynamoDB units, once its longest window is full at its rate of events."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import msgspec

from benchmarks import fleet
from benchmarks.update import aggregations, payments_view
from candor.clock import DAY
from candor.contracts import Event
from candor.features.event_types import MAX_SKEW
from candor.features.size import most_bytes
from candor.features.state import ViewState
from candor.features.vector import Read, Version
from candor.features.views import FeatureView
from candor.store import layout
from candor.store.protocol import Commit
from candor.updates import Retention, prepare

USD_PER_MILLION_WRITES = 0.625
USD_PER_MILLION_READS = 0.125
"""On demand, us-east-1, since November 2024; a unit is 1 KB written, or 4 KB read strongly (half of one eventually)."""

RETENTION = Retention(event_ids=20 * DAY)
END = 1_800_000_000_000
WEIGHED = 40
"""Last commits that are measured; the median counts."""

_BULK = 500


@dataclass(frozen=True)
class TrafficProfile:
    """Event rate of an entity, and whether it is declared hot."""

    name: str
    per_day: float
    hot: bool = False


PROFILES = (
    TrafficProfile("30 a quarter", 30 / 91),
    TrafficProfile("5 a day", 5),
    TrafficProfile("100 a day", 100),
    TrafficProfile("1,000 a day", 1_000),
    TrafficProfile("10,000 a day, declared hot", 10_000, hot=True),
)
WINDOWS = {
    "1m to 24h": ("1m", "10m", "1h", "24h"),
    "1h to 90d": ("1h", "24h", "7d", "30d", "90d"),
    "1m to 2y, lifetime": ("1m", "1h", "24h", "7d", "30d", "90d", "365d", "730d", "lifetime"),
}
SIZES = (10, 30)


@dataclass(frozen=True)
class Weight:
    """Cost of a profile under a view: bytes of one item, units of one event, units of one read of the entity."""

    profile: str
    aggregations: int
    windows: str
    shards: int
    markers: bool
    item_bytes: int
    most_bytes: int
    blob_bytes: int
    write_units: float
    update_read_units: float
    read_units: float

    @property
    def usd_per_million_events(self) -> float:
        """USD of a million writes, with the strong read before each."""
        return self.write_units * USD_PER_MILLION_WRITES + self.update_read_units * USD_PER_MILLION_READS

    @property
    def usd_per_million_reads(self) -> float:
        """USD of a million eventually consistent BatchGetItem reads of all the entity's items."""
        return self.read_units * USD_PER_MILLION_READS


Job = tuple[TrafficProfile, str, int]


def weigh(profile: TrafficProfile, windows: str, size: int) -> Weight:
    """Simulate an entity until its longest window is full, then measure its last commits."""
    view = payments_view(aggregations(size), WINDOWS[windows], hot=profile.hot)
    # The shards of a hot entity are alike: one of them lives, at its share of the rate.
    key = view.item_keys("mer_8c1f2e")[0]
    state, events = _lived(view, profile.per_day / view.shards, _span(windows))
    commits = list(_last_commits(view, key, state, events))
    items = [item_bytes(commit) for commit in commits]
    size_of_item, hot = round(median(items)), commits[-1].marker_expiry is not None
    return Weight(
        profile.name,
        size,
        windows,
        view.shards,
        hot,
        size_of_item,
        most_bytes(view, MAX_SKEW),
        round(median(len(commit.blob) for commit in commits)),
        # A transaction costs twice; the marker of the one event is an item of under 1 KB.
        write_units=(median(map(_kilobytes, items)) + 1) * 2 if hot else median(map(_kilobytes, items)),
        update_read_units=math.ceil(size_of_item / 4_096),
        read_units=view.shards * math.ceil(size_of_item / 4_096) / 2,
    )


def weigh_job(job: Job, report: fleet.Report) -> Weight:
    """`weigh` for a fleet."""
    profile, windows, size = job
    weight = weigh(profile, windows, size)
    report(1)
    return weight


def _span(windows: str) -> int:
    """Span (ms) after which an item stops growing: windows and ring of ids are full; 760 days for a lifetime."""
    days = {"1m to 24h": 30, "1h to 90d": 100, "1m to 2y, lifetime": 760}[windows]
    return days * DAY


def _lived(view: FeatureView, per_day: float, span: int) -> tuple[ViewState, list[Event]]:
    """State after all but the last `WEIGHED` events, and those events."""
    events = list(_life(per_day, span))
    state = ViewState.new(view)
    bulk, last = events[:-WEIGHED], events[-WEIGHED:]
    size = max(
        1, min(_BULK, int(per_day))
    )  # at most a day at once: ids of more would fill the ring before any expires
    for start in range(0, len(bulk), size):
        page = bulk[start : start + size]
        state.apply(page, page[-1].occurred_at, RETENTION.event_ids)
    return state, last


def _life(per_day: float, span: int) -> Iterator[Event]:
    """Events at exponential intervals that end at `END`; amounts of a few to some thousand euros."""
    rng = random.Random(5)
    moments: list[int] = []
    at = float(END)
    while at > END - span or len(moments) < WEIGHED + 1:
        moments.append(int(at))
        at -= rng.expovariate(per_day / DAY)
    for moment in reversed(moments):
        amount = round(math.exp(rng.gauss(8.5, 1.0)))
        kind = "payment.failed" if rng.random() < 0.1 else "payment.succeeded"
        data = {"amount": amount, "category": f"category-{rng.randrange(12)}"}
        yield Event(f"evt_{rng.getrandbits(104):026x}", kind, moment, {"customer": "mer_8c1f2e"}, data)


def _last_commits(view: FeatureView, key: str, state: ViewState, events: Sequence[Event]) -> Iterator[Commit]:
    read = Read("present", state.encode(), Version(END * 1_000_000, 1_000))
    for event in events:
        commit = prepare(view, key, read, [event], event.occurred_at, RETENTION).commit
        assert commit is not None
        yield commit
        read = Read("present", commit.blob, read.version)


def item_bytes(commit: Commit) -> int:
    """Item size by DynamoDB's rules: names in UTF-8, raw binary, one byte per two digits of a number plus one."""
    numbers = {
        layout.BIRTH: END * 1_000_000,
        layout.NUMBER: 1_000,
        layout.APPLIED_AT: commit.applied_at,
        layout.EXPIRES_AT: commit.expires_at,
    }
    ids = msgspec.json.encode(commit.event_ids)
    texts = {layout.KEY: len(commit.key), layout.STATE: len(commit.blob), layout.EVENT_IDS: len(ids)}
    held = sum(len(name) + size for name, size in texts.items())
    return held + sum(len(name) + math.ceil(len(str(value)) / 2) + 1 for name, value in numbers.items())


def _kilobytes(size: int) -> int:
    return math.ceil(size / 1_024)
