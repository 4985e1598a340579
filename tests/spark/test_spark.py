"""Spark, the embedded engine and the naive oracle agree bit for bit on every aggregation.

Needs the environment of `make test-spark`.
"""

from __future__ import annotations

import gzip
import json
import random

import pytest
from msgspec.structs import replace

from candor import Count, DecayedSum, FeatureView, RateOfChange, Sum, field
from candor.clock import DAY, format_rfc3339
from candor.contracts import HISTORY, Applicant, Application, Checkout, Event, Offer
from history.archive.events import accepted_events, read_envelopes
from history.archive.objects import Folder
from history.asof.point_in_time import PointInTimeQuery, point_in_time
from simulation import oracle
from tests.builders import (
    NOW,
    all_aggregations,
    bits,
    customer,
    definitions_of,
    failed,
    paid,
    random_event,
    shop,
)

pytest.importorskip("pyspark", reason="run `make test-spark`")

from history.asof.spark import SparkArchive, session

AGEING = [
    DecayedSum("amount", half_life="2d"),
    DecayedSum("amount", half_life="14d", where=field("amount") > 0),
    RateOfChange(Count(), "7d"),
    RateOfChange(Sum("amount"), "7d"),
]
ALL = [*all_aggregations(), *AGEING]
# Two views of an entity, since one with every aggregation would outgrow DynamoDB's largest item.
VIEWS = [
    FeatureView(f"{entity.name}_{name}", entity, [paid, failed], aggregations, ["14d", "28d"])
    for entity in (customer, shop)
    for name, aggregations in (("even", ALL[::2]), ("odd", ALL[1::2]))
]
DEFINITIONS = definitions_of(*VIEWS)


@pytest.fixture(scope="module")
def spark():
    started = session("tests", "local[2]")
    yield started
    started.stop()


def question(number: int, q: int) -> PointInTimeQuery:
    checkout = Checkout(
        f"chk_{number}",
        "order",
        "US",
        "USD",
        300,
        [],
        Applicant(f"customer_{number % 7}"),
        Offer("pay_in_4", 4, 14),
    )
    return PointInTimeQuery(str(number), q, Application(checkout, f"shop_{number % 5}"))


def write(folder, events: list[Event], name: str) -> None:
    with gzip.open(folder / name, "wt") as lines:
        for event in events:
            detail = {
                "event_id": event.id,
                "type": event.type,
                "occurred_at": format_rfc3339(event.occurred_at),
                "entities": event.entities,
                "data": {key: value for key, value in event.data.items() if value is not None},
            }
            moments = {"voided_at": event.voided_at, "known_at": event.known_at}
            detail |= {name: format_rfc3339(moment) for name, moment in moments.items() if moment is not None}
            envelope = {"time": format_rfc3339(NOW), "source": HISTORY, "detail": detail}
            lines.write(json.dumps({"ingestion_time": format_rfc3339(NOW), "event": envelope}) + "\n")


def test_spark_equals_the_embedded_engine_and_the_oracle_for_every_aggregation(spark, tmp_path):
    rng = random.Random(3)
    moments = [NOW - rng.randrange(30 * DAY) for _ in range(200)]
    events = [random_event(number, DEFINITIONS, moments, rng) for number in range(400)]
    voids = [
        Event(
            event.id,
            event.type,
            event.occurred_at,
            event.entities,
            event.data,
            rng.randint(event.occurred_at, NOW),
        )
        for event in rng.sample(events, 25)
    ]
    arrived = [
        replace(event, known_at=event.moment + late) if (late := rng.choice([0, 1, DAY, 12 * DAY])) else event
        for event in (*events, *voids, *rng.sample(events, 60))
    ]
    rng.shuffle(arrived)
    strange = Event("evt_strange", "no.such.type", NOW - 1, {"customer": "customer_1"}, {})
    late = random_event(9_999, DEFINITIONS, [NOW - 1], rng)
    for number in range(4):
        write(tmp_path, [*arrived[number::4], strange], f"part-{number}.gz")
    write(tmp_path, [late], "part-9.gz")

    archive = SparkArchive(spark, DEFINITIONS, Folder(tmp_path), before=NOW - 1)
    questions = [question(number, NOW - rng.randrange(10 * DAY)) for number in range(40)]
    on_spark = archive.point_in_time(questions)

    known = [
        event
        for event in accepted_events(read_envelopes(tmp_path), DEFINITIONS)
        if event.occurred_at < NOW - 1
    ]
    embedded = point_in_time(DEFINITIONS, known, questions)
    for row, query in enumerate(questions):
        wanted = [
            value
            for view in VIEWS
            for value in oracle.expected(view, known, str(view.entity.key_of(query.application)), query.q)
        ]
        assert bits(on_spark.vector(row)) == bits(embedded.vector(row)) == bits(wanted), query
    assert archive.count() == sum(event.known_from < NOW - 1 for event in known)
    reading = archive.reading()
    assert (reading.envelopes, dict(reading.refused)) == (len(arrived) + 5, {"unknown_event_type": 4})
    failures = archive.of_types(["payment.failed"])
    assert failures == [event for event in known if event.type == "payment.failed"]


def test_an_archive_without_objects_has_no_events(spark, tmp_path):
    archive = SparkArchive(spark, DEFINITIONS, Folder(tmp_path), before=NOW)
    assert archive.count() == 0
    table = archive.point_in_time([question(0, NOW)])
    assert bits(table.vector(0)) == bits(point_in_time(DEFINITIONS, [], [question(0, NOW)]).vector(0))
