"""Index reads equal whole-archive reads after late, rewritten and expired objects, at little cost."""

from __future__ import annotations

import gzip
import random

import pytest

from candor.clock import DAY, HOUR, MINUTE
from history.archive.events import ArchiveDamaged
from history.index import blocks, build, periods
from history.index.history import EntityHistory, NotIndexed
from history.index.kinds import COMMITS, EVENTS, KINDS, ForeignKey, token_of
from history.index.read import ArchiveIndex
from history.index.refresh import refresh, renew
from tests.builders import NOW, customer, definitions_of, event, shop, view_of
from tests.history.archives import MemoryArchive, commit_line, envelope, fill, whole

STEADY, BUSY = view_of(["1h", "90d"], customer), view_of(["1h", "90d"], shop)
DEFINITIONS = definitions_of(STEADY, BUSY)
NOW_HOUR = NOW // HOUR
TOKENS = 6
ITEMS = {
    key: view
    for view, tokens in (
        (STEADY, [f"cus_{number}" for number in range(TOKENS)]),
        (BUSY, [f"sh#op/{number}" for number in range(3)]),
    )
    for token in tokens
    for key in view.item_keys(token)
}


def indexed(archive: MemoryArchive, now: int = NOW, **options) -> list:
    return [refresh(archive, kind, now, **options) for kind in KINDS]


def history_of(archive: MemoryArchive, items=ITEMS) -> EntityHistory:
    history = EntityHistory(ArchiveIndex(archive), DEFINITIONS, items)
    history.update()
    return history


def assert_told(archive: MemoryArchive, memory) -> None:
    """The commits and events equal those of the whole archive, in the same order."""
    expected = whole(archive, DEFINITIONS, ITEMS)
    for key in ITEMS:
        assert memory.log.of(key) == expected.log.of(key)
        assert list(memory.items[key].items()) == list(expected.items[key].items())


def world(seed: int, days: int = 70) -> tuple[MemoryArchive, random.Random]:
    rng = random.Random(seed)
    archive = MemoryArchive()
    hours = sorted(rng.sample(range(NOW_HOUR - days * 24, NOW_HOUR + 1), 50))
    fill(archive, DEFINITIONS, rng, [*hours, NOW_HOUR - 2, NOW_HOUR - 1, NOW_HOUR], TOKENS)
    return archive, rng


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shrink blocks, runs and reads to a few lines, so that every boundary is met."""
    monkeypatch.setattr(blocks, "BLOCK", 700)
    monkeypatch.setattr(build, "RUN", 5_000)
    monkeypatch.setattr(build, "AHEAD", 1_000)


@pytest.mark.parametrize("seed", range(3))
def test_index_and_archive_tell_the_same(seed):
    archive, _ = world(seed)
    assert_told(archive, history_of(archive).memory)
    indexed(archive)
    assert len(archive.names("index/events/")) < 70
    assert_told(archive, history_of(archive).memory)


@pytest.mark.parametrize("seed", range(3))
def test_an_index_made_hour_by_hour_is_the_one_made_at_once(seed):
    archive, rng = world(seed, days=40)
    raw = dict(archive.objects)
    for step in range(40 * 24 // 11):
        now = NOW - 40 * DAY + step * 11 * HOUR + rng.randrange(HOUR)
        archive.objects = {name: body for name, body in archive.objects.items() if name.startswith("index/")}
        archive.objects |= {name: body for name, body in raw.items() if periods.hour_of(name) <= now // HOUR}
        indexed(archive, now)
        if step % 20 == 0:
            assert_told(archive, history_of(archive).memory)
    archive.objects |= raw
    indexed(archive)
    once = MemoryArchive()
    once.objects = dict(raw)
    indexed(once)
    assert archive.objects == once.objects


@pytest.mark.parametrize("seed", range(3))
def test_late_rewritten_and_expired_objects_change_the_index(seed):
    archive, rng = world(seed)
    indexed(archive)
    for _ in range(6):
        names = archive.names("events/") + archive.names("commits/")
        for name in rng.sample(names, 5):
            match rng.randrange(3):
                case 0:
                    del archive.objects[name]
                case 1:
                    lines = gzip.decompress(archive.objects[name]).split(b"\n")
                    archive.objects[name] = gzip.compress(b"\n".join(lines[::2]), mtime=0)
                case _:
                    fill(archive, DEFINITIONS, rng, [periods.hour_of(name)], TOKENS)
        indexed(archive, whole=True)
        assert_told(archive, history_of(archive).memory)
        again = indexed(archive, whole=True)
        assert [(result.written, result.removed) for result in again] == [(0, 0), (0, 0)]
    archive.objects = {name: body for name, body in archive.objects.items() if name.startswith("index/")}
    indexed(archive, whole=True)
    assert archive.objects == {}


def test_what_comes_late_within_two_days_needs_no_whole_pass():
    archive, rng = world(1)
    indexed(archive)
    fill(archive, DEFINITIONS, rng, [NOW_HOUR - 40], TOKENS)
    indexed(archive)
    assert_told(archive, history_of(archive).memory)


@pytest.mark.parametrize("seed", range(3))
def test_a_pass_that_is_cut_short_anywhere_goes_on(seed):
    archive, rng = world(seed)
    for _ in range(300):
        left = rng.randrange(1, 4)

        def go_on() -> bool:
            nonlocal left
            left -= 1
            return left >= 0

        results = indexed(archive, go_on=go_on)
        assert_told(archive, history_of(archive).memory)
        if all(result.finished for result in results):
            break
    assert all(result.finished for result in results)
    done = dict(archive.objects)
    indexed(archive, whole=True)
    assert archive.objects == done


def test_two_years_are_some_tens_of_objects_and_large_weeks_stay_in_days():
    hours = range(periods.coarse_start(NOW_HOUR - 730 * 24), NOW_HOUR)
    lengths = [period.hours for period in periods.layout(dict.fromkeys(hours, 1), NOW_HOUR)]
    assert lengths.count(672) in (26, 27)
    assert len(lengths) <= 27 + 27 + 23
    assert sum(lengths) == len(hours)
    in_days = periods.layout(dict.fromkeys(hours, 1), NOW_HOUR, largest=24)
    assert {period.hours for period in in_days} == {24, 1}
    in_hours = periods.layout(dict.fromkeys(hours, 1), NOW_HOUR, largest=23)
    assert [period.start for period in in_hours] == list(hours)


def test_the_hour_that_goes_on_is_left_to_the_archive():
    archive = MemoryArchive()
    for hour in (NOW_HOUR - 1, NOW_HOUR):
        archive.deliver("events/", hour * HOUR, [envelope(event(f"e{hour}", hour * HOUR), hour * HOUR)])
    refresh(archive, EVENTS, NOW_HOUR * HOUR + 14 * MINUTE)
    assert archive.names("index/") == []
    refresh(archive, EVENTS, NOW_HOUR * HOUR + 15 * MINUTE)
    [name] = archive.names("index/")
    assert name.startswith("index/events/20270115T07.001h.")


def test_an_object_that_is_replaced_while_it_is_read_is_looked_for_again():
    archive, rng = world(3)
    indexed(archive)
    index = ArchiveIndex(archive)
    listed = archive.stamps
    once = []

    def overtaken(prefix: str, after: str = ""):
        stamps = list(listed(prefix, after))
        if prefix == COMMITS.index_prefix and not once:
            once.append(1)
            fill(archive, DEFINITIONS, rng, [periods.hour_of(archive.names("events/")[0])], TOKENS)
            indexed(archive, whole=True)
        return iter(stamps)

    archive.stamps = overtaken
    history = EntityHistory(index, DEFINITIONS, ITEMS)
    history.update()
    assert once
    assert_told(archive, history.memory)


def test_more_is_added_by_each_update_and_nothing_is_read_twice():
    archive, _ = world(4)
    later = {
        name: archive.objects.pop(name) for name in archive.names("") if periods.hour_of(name) >= NOW_HOUR
    }
    assert later
    indexed(archive, NOW - DAY)
    history = history_of(archive)
    assert_told(archive, history.memory)
    archive.objects |= later
    before = archive.gets
    history.update()
    assert archive.gets - before == len(later)
    assert_told(archive, history.memory)
    history.update()
    assert archive.gets - before == len(later)


def test_too_much_that_is_not_indexed_is_refused_when_there_is_a_limit():
    archive, _ = world(5)
    raw = len(archive.names("commits/"))
    EntityHistory(ArchiveIndex(archive), DEFINITIONS, ITEMS, raw).update()
    with pytest.raises(NotIndexed, match="not indexed yet"):
        EntityHistory(ArchiveIndex(archive), DEFINITIONS, ITEMS, raw - 1).update()


def test_only_the_objects_of_what_was_rewritten_are_renewed():
    archive, _ = world(6)
    indexed(archive, NOW - 3 * DAY)
    before = set(archive.names("index/"))
    [first, *_] = archive.names("events/")
    archive.objects[first] = gzip.compress(b"", mtime=0)
    result = renew(archive, EVENTS, periods.weeks_of(EVENTS, [first, "tables/none"]))
    assert (result.written, result.removed) == (1, 1)
    after = set(archive.names("index/"))
    assert len(before - after) == len(after - before) == 1
    assert_told(archive, history_of(archive).memory)
    nothing = renew(archive, EVENTS, periods.weeks_of(EVENTS, archive.names("events/")[-1:]))
    assert (nothing.written, nothing.removed) == (0, 0)


def test_members_that_a_later_release_adds_stay_in_the_lines():
    archive = MemoryArchive()
    line = envelope(event("e1", NOW - 5 * HOUR), NOW - 5 * HOUR, taken="2027-01-15T03:00:01Z")
    archive.deliver("events/", NOW - 5 * HOUR, [line])
    refresh(archive, EVENTS, NOW)
    [name] = archive.names("index/")
    assert line in gzip.decompress(archive.objects[name])


@pytest.mark.parametrize(
    ("kind", "lines"),
    [(EVENTS, [b"no JSON"]), (EVENTS, [b'{"detail": {}}']), (COMMITS, [b"{}"]), (COMMITS, [b"no JSON"])],
)
def test_an_object_that_nobody_can_read_stops_the_index(kind, lines):
    archive = MemoryArchive()
    archive.deliver(kind.prefix, NOW - 5 * HOUR, [*lines])
    with pytest.raises(ArchiveDamaged, match="line 1"):
        refresh(archive, kind, NOW)
    assert archive.names("index/") == []


@pytest.mark.parametrize("detail", [b"[]", b"7", b'{"entities": 7}', b'{"entities": {"customer": 7}}', b"{}"])
def test_an_envelope_of_no_event_is_nobodys(detail):
    archive = MemoryArchive()
    line = b'{"time": "2027-01-01T00:00:00Z", "detail": %b}' % detail
    archive.deliver("events/", NOW - 5 * HOUR, [line])
    result = refresh(archive, EVENTS, NOW)
    assert (result.written, result.lines) == (1, 0)
    history_of(archive)


def test_an_object_that_is_no_index_object_is_told():
    archive, _ = world(7)
    indexed(archive)
    name = archive.names("index/commits/")[0]
    for broken in (b"short", archive.objects[name][:-1] + b"x" * 25, archive.objects[name][100:]):
        archive.objects[name] = broken
        with pytest.raises(ArchiveDamaged, match="index/commits/"):
            history_of(archive)


@pytest.mark.parametrize("token", ["ann", "a#b", "a/0", "#", 'ü " \\'])
def test_the_token_of_a_key(token):
    for view in (STEADY, BUSY):
        for key in view.item_keys(token):
            assert token_of(view, key) == token
            with pytest.raises(ForeignKey):
                token_of(BUSY if view is STEADY else STEADY, key)


def test_a_token_that_json_spells_with_escapes_is_read_everywhere():
    token = 'ü "quoted" \\ \n'
    archive = MemoryArchive()
    [key] = STEADY.item_keys(token)
    for number, at in enumerate((NOW - 5 * HOUR, NOW - MINUTE)):
        archive.deliver("events/", at, [envelope(event(f"e{number}", at, entities={"customer": token}), at)])
        archive.deliver("commits/", at, [commit_line(key, number + 1, at, [f"e{number}"])])
    indexed(archive)
    memory = history_of(archive, {key: STEADY}).memory
    assert list(memory.items[key]) == ["e0", "e1"]
    assert [commit.n for commit in memory.log.of(key)] == [1, 2]


def test_an_entity_costs_a_directory_and_a_block_of_each_object(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 16 << 10)
    archive = MemoryArchive()
    rng = random.Random(9)
    for hour in range(NOW_HOUR - 60 * 24, NOW_HOUR, 4):
        lines = [
            envelope(
                event(f"e{hour}-{number}", hour * HOUR, entities={"customer": f"cus_{rng.randrange(3_000)}"}),
                hour * HOUR,
            )
            for number in range(40)
        ]
        archive.deliver("events/", hour * HOUR, lines)
    refresh(archive, EVENTS, NOW)
    objects = len(archive.names("index/events/"))
    total = sum(len(archive.objects[name]) for name in archive.names("index/"))
    index = ArchiveIndex(archive)
    key = STEADY.item_keys("cus_7")[0]
    for directories in (1, 0):
        archive.gets = archive.bytes_read = archive.listings = 0
        EntityHistory(index, DEFINITIONS, {key: STEADY}).update()
        assert archive.gets <= objects * (1 + directories)
        assert archive.listings == 4
        assert archive.bytes_read < total / 4 + objects * directories * (64 << 10)
