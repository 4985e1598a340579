"""Generated tables of docs/features.md. `python -m tests.docs.tables [--costs]` updates the page.

`--costs` measures every profile again, which takes a minute; without it the cost table stays.
"""

from __future__ import annotations

import argparse
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import fleet
from benchmarks.items.__main__ import markdown
from benchmarks.items.weigh import PROFILES, SIZES, weigh_job
from benchmarks.items.weigh import WINDOWS as PERIODS
from candor import Count, Distinct, Entity, EventType, FeatureView, Last, Money, Sum, Text
from candor.clock import DAY, HOUR, MINUTE, SECOND
from candor.contracts import Event
from candor.features.distinct import MOST_EXACT
from candor.features.event_types import MAX_SKEW
from candor.features.size import largest_exact
from candor.features.state import STAMP, ViewState
from candor.features.windows import parse

PAGE = Path(__file__).resolve().parents[2] / "docs" / "features.md"

WINDOWS = ("1m", "4m", "10m", "1h", "6h", "24h", "7d", "30d", "90d", "168d", "365d", "672d", "730d")
DISTINCT_WINDOWS = (
    ["1h"],
    ["24h"],
    ["7d"],
    ["30d"],
    ["90d"],
    ["365d"],
    ["lifetime"],
    ["24h", "7d"],
    ["24h", "7d", "30d"],
    ["1h", "24h", "7d", "30d", "90d"],
)
NOW = 1_800_000_000_000

customer = Entity("customer", "checkout.applicant.token")
paid = EventType("payment.succeeded", [customer], {"amount": Money()})
VIEW = FeatureView("payments", customer, [paid], [Count(), Sum("amount"), Last("amount")], ["1h", "24h"])

Token = tuple[tuple[int, ...], int, bytes, Any]
"""(path of member numbers, offset, bytes, value or length) of one MessagePack token."""

_LENGTHS = {0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q"}


def span(ms: int) -> str:
    """Format milliseconds in the largest whole unit."""
    for unit, length in (("d", DAY), ("h", HOUR), ("min", MINUTE), ("s", SECOND)):
        if ms % length == 0:
            return f"{ms // length} {unit}"
    return f"{ms} ms"


def hops() -> str:
    """Table of windows, their hops, and the largest overshoot of the window's start."""
    rows = [["window", "hop", "looks back too far by at most"], ["---"] * 3]
    for label in WINDOWS:
        window = parse(label)
        assert window.length is not None
        assert window.hop is not None
        rows.append([f"`{label}`", span(window.hop), f"{window.hop / window.length:.1%}"])
    return _table(rows)


def exact() -> str:
    """Table of windows, and how many values one or two exact distinct counts of free text may declare."""
    rows = [["windows of the view", "one distinct count", "each of two"], ["---"] * 3]
    for windows in DISTINCT_WINDOWS:
        fitting = (_largest_exact(windows, fields) for fields in (["method"], ["method", "shop"]))
        rows.append([", ".join(f"`{label}`" for label in windows), *(f"{most:,}" for most in fitting)])
    return _table(rows)


def _largest_exact(windows: Sequence[str], fields: Sequence[str]) -> int:
    kind = EventType("payment.succeeded", [customer], {field: Text() for field in fields})
    counts = [Distinct(field, exact=MOST_EXACT) for field in fields]
    return largest_exact(FeatureView("payments", customer, [kind], counts, windows), MAX_SKEW)


def small_item() -> bytes:
    """Return the item of two payments of one customer, a minute apart."""
    state = ViewState.new(VIEW)
    state.apply([_payment("p1", NOW, 1_250), _payment("p2", NOW + MINUTE, -300)], NOW + MINUTE, 14 * DAY)
    return state.encode()


def folded_item() -> bytes:
    """Return the item of forty payments, one every ten minutes: the oldest eight are in tiles."""
    state = ViewState.new(VIEW)
    payments = [_payment(f"p{number}", NOW + number * 10 * MINUTE, 1_000 + number) for number in range(40)]
    state.apply(payments, NOW + 7 * HOUR, 14 * DAY)
    return state.encode()


def _payment(event_id: str, at: int, amount: int) -> Event:
    return Event(event_id, paid.name, at, {"customer": "ann"}, {"amount": amount})


def tokens(blob: bytes, offset: int = 0, path: tuple[int, ...] = ()) -> Iterator[Token]:
    """Yield every token of one MessagePack value, depth first."""
    head = blob[offset]
    size, value, members = 1, None, 0
    if head <= 0x7F or head >= 0xE0:
        (value,) = struct.unpack_from(">b", blob, offset)
    elif head in _LENGTHS:
        (value,) = struct.unpack_from(_LENGTHS[head], blob, offset + 1)
        size += struct.calcsize(_LENGTHS[head])
    elif 0xA0 <= head <= 0xBF:
        size += head - 0xA0
        value = blob[offset + 1 : offset + size].decode()
    elif 0x90 <= head <= 0x9F:
        value = members = head - 0x90
    elif head == 0xDC:
        (members,) = struct.unpack_from(">H", blob, offset + 1)
        value, size = members, 3
    elif head != 0xC0:
        raise ValueError(f"the example items have no token {head:#x}")
    yield path, offset, blob[offset : offset + size], value
    offset += size
    for member in range(members):
        for token in tokens(blob, offset, (*path, member)):
            yield token
            offset = token[1] + len(token[2])


_LABELS = [aggregation.label for aggregation in VIEW.aggregations]
_ANY = None
_MEANINGS: list[tuple[tuple[int | None, ...], Callable[[Any, Sequence[int]], str]]] = [
    ((), lambda value, _: f"list of {value} members"),
    ((0,), lambda value, _: f"codec {value}"),
    ((1,), lambda value, _: f"version of the view, `{value}`"),
    ((2,), lambda value, _: f"earliest moment of an event, {value} ms"),
    ((3,), lambda value, _: f"watermark: latest moment of an event, {value} ms"),
    ((4,), lambda value, _: f"head: {value} raw events, oldest first"),
    ((4, _ANY), lambda value, path: f"event {path[1] + 1}: list of {value}"),
    ((4, _ANY, 0), lambda value, _: f"{value} ms before the watermark"),
    ((4, _ANY, 1), lambda value, _: f"event id `{value}`"),
    ((4, _ANY, _ANY), lambda value, path: f"prepared value {path[2] - 1} of the event: {value}"),
    ((5,), lambda value, _: f"events that stand alone in their tile: {value}, each like one of the head"),
    ((6,), lambda value, _: f"tiles: {value}"),
    ((6, _ANY), lambda value, path: f"tile {path[1] + 1}: list of {value}"),
    ((6, _ANY, 0), lambda value, _: f"start, {value} ms"),
    ((6, _ANY, 1), lambda value, _: f"length, {span(value)}"),
    ((6, _ANY, 4), lambda value, _: f"partial of `{_LABELS[2]}`: list of {value}"),
    ((6, _ANY, _ANY), lambda value, path: f"partial of `{_LABELS[path[2] - 2]}`: {value}"),
    ((6, _ANY, _ANY, 0), lambda value, _: f"moment of the event, {value} ms"),
    ((6, _ANY, _ANY, 1), lambda value, _: f"event id `{value}`"),
    ((6, _ANY, _ANY, 2), lambda value, _: f"value: {value}"),
    ((7,), lambda value, _: f"ring: {value // 2} ids, two members each"),
    ((8,), lambda value, _: f"flags: {value} (1 markers, 2 folded, 4 stale, 8 filled)"),
    ((9,), lambda value, _: f"second of wall clock of the first commit: {value}"),
]


def meaning(path: Sequence[int], value: Any) -> str:
    """Return the meaning of a token, by its path."""
    if path[:1] == (7,) and len(path) == 2:
        at = f"applied at second {value >> STAMP} of wall clock; fingerprint of the event: {value & (1 << STAMP) - 1}"
        return at if path[1] % 2 else "64-bit BLAKE2b of an event id"
    for pattern, text in _MEANINGS:
        if len(pattern) == len(path) and all(p in (_ANY, q) for p, q in zip(pattern, path, strict=True)):
            return text(value, path)
    raise ValueError(f"no member stands at {path}")


def annotated(blob: bytes) -> list[tuple[tuple[int, ...], int, bytes, str]]:
    """Return (path, offset, bytes, meaning) of an item's whole blob; the checksum's path is (-1,)."""
    body = [(path, offset, token, meaning(path, value)) for path, offset, token, value in tokens(blob)]
    return [*body, ((-1,), len(blob) - 4, blob[-4:], "CRC-32 of everything before")]


def layout(blob: bytes, member: int | None = None) -> str:
    """Table of offset, bytes and meaning, of the whole item or of one member."""
    rows = [["offset", "bytes", "meaning"], ["--:", "---", "---"]]
    for path, offset, token, text in annotated(blob):
        if member is None or path[:1] == (member,):
            rows.append([str(offset), f"`{token.hex(' ')}`", text])
    return _table(rows)


def costs() -> str:
    """Table of bytes, units and prices of every profile, measured now."""
    jobs = [(profile, windows, size) for profile in PROFILES for windows in PERIODS for size in SIZES]
    return markdown(fleet.run(weigh_job, jobs, title="profiles", total=len(jobs), processes=2))


def written() -> dict[str, str]:
    """Return the reproducible tables, by their name on the page."""
    return {"hops": hops(), "exact": exact(), "item": layout(small_item()), "tiles": layout(folded_item(), 6)}


def put(page: str, name: str, table: str) -> str:
    """Return the page with that table between its markers."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    return pattern.sub(lambda match: f"{match[1]}{table}\n{match[2]}", page)


def taken(page: str, name: str) -> str:
    """Return the text between the markers of that name."""
    return page.partition(f"<!-- {name} -->\n")[2].partition(f"\n<!-- /{name} -->")[0]


def main() -> None:
    """Write the tables into the page."""
    parser = argparse.ArgumentParser(prog="python -m tests.docs.tables", description=__doc__)
    parser.add_argument("--costs", action="store_true", help="weigh the profiles anew")
    tables = written() | ({"costs": costs()} if parser.parse_args().costs else {})
    page = PAGE.read_text(encoding="utf-8")
    for name, table in tables.items():
        page = put(page, name, table)
    PAGE.write_text(page, encoding="utf-8")


def _table(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    main()
