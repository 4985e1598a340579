"""Declarations: what is refused, what is named how, and what changes a version."""

from types import SimpleNamespace

import pytest

from candor import (
    Checkout,
    Count,
    DecayedSum,
    Definitions,
    Distinct,
    Entity,
    EventType,
    FeatureView,
    First,
    Integer,
    Json,
    Last,
    LastCategory,
    LastK,
    Max,
    Mean,
    Min,
    Money,
    OnDemand,
    RateOfChange,
    Ratio,
    Sum,
    Text,
    TimeSinceLast,
    Variance,
    decided_type,
    field,
    type_is,
)
from candor.contracts import Application
from candor.errors import DefinitionError, InvalidInput
from candor.features import windows
from candor.features.views import digest
from tests.builders import NOW, customer, event, failed, paid


def view(**changed) -> FeatureView:
    settled = {
        "name": "payments", "entity": customer, "events": [paid], "aggregations": [Count()], "windows": ["1h", "30d"]
    }  # fmt: skip
    return FeatureView(**settled | changed)


def definitions(**changed) -> Definitions:
    settled = {"entities": [customer], "events": [paid, failed], "views": [view()]}
    return Definitions(**settled | changed)


def test_features_are_named_view_aggregation_window_in_declared_order():
    two = view(aggregations=[Sum("amount"), Count()])
    assert [feature.name for feature in two.features] == [
        "payments.sum_amount.1h",
        "payments.sum_amount.30d",
        "payments.count.1h",
        "payments.count.30d",
    ]
    asked = definitions(views=[two], on_demand=[OnDemand("amount", lambda checkout, features: 1)])
    assert asked.features == (*(feature.name for feature in two.features), "request.amount")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"aggregations": [Sum("amonut")]}, "sum needs a field"),
        ({"aggregations": [Sum("kind")]}, "sum needs a field"),
        ({"aggregations": [Ratio(Count(), Sum("kind"))]}, "sum needs"),
        ({"aggregations": [LastK(Sum("kind"), 3)]}, "last_k needs"),
        ({"aggregations": [LastCategory("amount", ["a"])]}, 'last_category needs a field "amount" of text'),
        ({"aggregations": [Ratio(Count(where=field("amonut") > 1), Count())]}, 'filter asks for "amonut"'),
        ({"aggregations": [Distinct("note")]}, 'distinct needs a field "note" of integer or text'),
        ({"aggregations": [Count(where=field("amonut") > 1)]}, 'filter asks for "amonut"'),
        ({"aggregations": [Count(where=(field("amount") > 1) & (field("note") == "x"))]}, '"note"'),
    ],
)
def test_a_view_refuses_fields_that_its_events_do_not_declare(changed, message):
    with pytest.raises(DefinitionError, match=message):
        view(**changed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"views": [view(aggregations=[Count(), Count()])]}, 'two features are named "payments.count.1h"'),
        ({"views": [view(), view()]}, "declared twice"),
        ({"entities": [customer, Entity("customer", "merchant_id")]}, "declared twice"),
        ({"entities": [Entity("customer", "checkout.applicant.token")]}, "undeclared entity"),
        ({"events": [failed]}, "undeclared event type"),
        ({"views": [view(aggregations=[Count(name="a:b")])]}, "LightGBM refuses"),
        ({"views": [view(name="request")]}, "name of the on-demand features"),
        ({"on_demand": [OnDemand("x", lambda c, f: 1), OnDemand("x", lambda c, f: 2)]}, '"request.x"'),
    ],
)
def test_definitions_are_checked_against_each_other(changed, message):
    with pytest.raises(DefinitionError, match=message):
        definitions(**changed)


def test_a_window_is_checked_when_features_are_asked_for():
    with pytest.raises(DefinitionError, match="between 1m and 731d"):
        definitions(views=[view(windows=["1w"])])


def test_the_version_follows_meaning_and_not_spelling():
    assert view(aggregations=[Count(where=field("amount") > 1, name="big")]).version != view().version
    assert view(windows=["1h"]).version != view().version
    assert view(events=[paid, failed]).version != view().version
    assert view().version == view().version
    assert view(events=[failed, paid]).version == view(events=[paid, failed]).version
    assert view().item_keys("ann") == (f"payments@{view().version}#ann",)


def test_a_release_changes_no_version_and_no_name():
    """Items are stored under the version, and models name the features: both outlive the code that gave them."""
    kind = EventType(
        "payment.succeeded", [customer], {"amount": Money(optional=True), "kind": Text(optional=True)}
    )
    large = type_is("payment.succeeded") & (field("amount") > 50)
    aggregations = [
        Count(), Count(where=large), Sum("amount", where=field("kind") != "a"), Mean("amount"), Variance("amount"),
        Min("amount"), Max("amount"), First("amount"), Last("amount"), LastCategory("kind", ["b", "a"]),
        TimeSinceLast(), Distinct("kind"), Distinct("amount", exact=3, name="about"), LastK(Mean("amount"), 3),
        LastK(Sum("amount", where=large), 2), Ratio(LastK(Sum("amount"), 2), Count(), name="share"),
        DecayedSum("amount", "2d"), RateOfChange(Count(where=large), "7d"),
    ]  # fmt: skip
    every = view(events=[kind], aggregations=aggregations, windows=["14d", "28d"])
    names = digest([feature.name for feature in every.features])
    assert (every.version, names[:16]) == ("c3a9a654", "4fdee80b22775a9c")


def test_the_hash_covers_views_and_on_demand_versions():
    first = definitions(on_demand=[OnDemand("x", lambda c, f: 1)])
    assert len(first.hash) == 64
    assert first.hash == definitions(on_demand=[OnDemand("x", lambda c, f: 2)]).hash
    assert first.hash != definitions(on_demand=[OnDemand("x", lambda c, f: 1, version=2)]).hash
    assert first.hash != definitions().hash


def test_entities_are_found_by_path_or_not_at_all(checkout: Checkout):
    application = Application(checkout, "mer_1")
    device = Entity("device", "checkout.device.fingerprint")
    assert customer.key_of(application) == "app_tok_1"
    assert Entity("merchant", "merchant_id").key_of(application) == "mer_1"
    assert device.key_of(application) is None, "a checkout without a device names none"


@pytest.fixture
def checkout() -> Checkout:
    from candor.contracts import parse_checkout

    return parse_checkout(
        b'{"checkout_id":"c","merchant_order_id":"o","country":"US","currency":"USD","total":1,'
        b'"items":[{"sku":"s","unit_price":1,"qty":1}],"applicant":{"token":"app_tok_1"},'
        b'"offer":{"product":"pay_in_4","installments":4,"period_days":14}}'
    )


loan = EventType(
    "loan.closed",
    entities=[customer],
    fields={"amount": Money(), "days": Integer(optional=True), "flag": Text(), "raw": Json(optional=True)},
)
LOANS = Definitions(
    entities=[customer],
    events=[loan],
    views=[FeatureView("loans", customer, [loan], [Mean("amount")], ["lifetime"])],
)
GOOD = {"amount": 10**12, "flag": "x"}


@pytest.mark.parametrize("more", [{}, {"days": None}, {"days": -(10**15)}, {"raw": [1.5]}, {"other": 1.5}])
def test_events_as_declared_are_accepted(more):
    LOANS.check_event(event("e", NOW, type="loan.closed", **GOOD | more), NOW)


@pytest.mark.parametrize(
    ("more", "code", "where"),
    [
        ({"amount": None}, "missing_field", "data.amount"),
        ({"amount": 10**12 + 1}, "out_of_range", "data.amount"),
        ({"amount": -(10**12) - 1}, "out_of_range", "data.amount"),
        ({"amount": 10**40}, "out_of_range", "data.amount"),
        ({"amount": 1.0}, "invalid_field", "data.amount"),
        ({"amount": True}, "invalid_field", "data.amount"),
        ({"amount": "1"}, "invalid_field", "data.amount"),
        ({"days": 10**15 + 1}, "out_of_range", "data.days"),
        ({"flag": 1}, "invalid_field", "data.flag"),
        ({"flag": "x" * 257}, "invalid_field", "data.flag"),
        ({"currency": "usd"}, "unknown_currency", "data.currency"),
        ({"currency": "XXX"}, "unknown_currency", "data.currency"),
        ({"currency": ["USD"]}, "unknown_currency", "data.currency"),
        ({"currency": {}}, "unknown_currency", "data.currency"),
        ({"currency": 840}, "unknown_currency", "data.currency"),
    ],
)
def test_events_that_break_their_declaration_are_refused_with_the_field(more, code, where):
    with pytest.raises(InvalidInput) as refusal:
        LOANS.check_event(event("e", NOW, type="loan.closed", **GOOD | more), NOW)
    assert (refusal.value.code, refusal.value.field) == (code, where)


def test_an_event_must_be_declared_name_an_entity_and_not_be_ahead_of_the_skew():
    good = {"type": "loan.closed", **GOOD}
    LOANS.check_event(event("e", NOW + 300_000, **good), NOW)
    for bad, code in [
        (event("e", NOW + 300_001, **good), "occurred_in_future"),
        (event("e", NOW, type="loan.opened"), "unknown_event_type"),
        (event("e", NOW, entities={"loan": "l"}, **good), "missing_entity"),
    ]:
        with pytest.raises(InvalidInput) as refusal:
            LOANS.check_event(bad, NOW)
        assert refusal.value.code == code


def two_versions():
    """Declarations with a second version of a view on standby: another filter, the same names."""
    entity = Entity("customer", "checkout.applicant.token")
    paid = EventType("paid", [entity], {"amount": Money()})
    first = FeatureView("loans", entity, [paid], [Count(name="n")], ["30d"])
    second = FeatureView("loans", entity, [paid], [Count(where=field("amount") > 5, name="n")], ["30d"])
    longer = FeatureView("loans", entity, [paid], [Count(name="n")], ["90d"])
    other = FeatureView("tries", entity, [paid], [Count()], ["7d"])
    found = Definitions(
        entities=[entity],
        events=[paid],
        views=[first, other],
        standby=[second, longer],
        on_demand=[OnDemand("one", lambda *_: 1)],
    )
    return SimpleNamespace(all=found, first=first, second=second, longer=longer)


def test_a_view_on_standby_is_kept_up_to_date_and_not_served():
    kept = two_versions()
    assert kept.second in kept.all.views_by_event["paid"]
    assert kept.second not in kept.all.views
    assert kept.all.features == ("loans.n.30d", "tries.count.7d", "request.one")


def test_another_version_serves_where_its_features_have_the_same_names():
    kept = two_versions()
    flipped = kept.all.serving({"loans": kept.second.version})
    assert flipped.views[0] is kept.second
    assert kept.first in flipped.kept
    assert flipped.hash != kept.all.hash
    assert kept.all.serving({}).hash == kept.all.hash
    with pytest.raises(DefinitionError, match="other features"):
        kept.all.serving({"loans": kept.longer.version})
    with pytest.raises(DefinitionError, match=f"not kept in version 00000000; kept: {kept.first.version}"):
        kept.all.serving({"loans": "00000000"})


def test_a_model_finds_the_declarations_that_it_was_trained_on():
    kept = two_versions()
    trained = Definitions(
        entities=kept.all.entities.values(),
        events=kept.all.event_types.values(),
        views=[kept.longer],
        on_demand=kept.all.on_demand,
    )
    assert kept.all.pinned(trained.features, trained.hash).views == (kept.longer,)
    assert kept.all.pinned(kept.all.features, kept.all.hash).views == kept.all.views
    assert kept.all.pinned(trained.features, "0" * 64) is None


def test_a_view_is_not_on_standby_for_itself():
    kept = two_versions()
    first = kept.first
    again = FeatureView(first.name, first.entity, first.events, first.aggregations, first.windows)
    with pytest.raises(DefinitionError, match="already"):
        Definitions(
            entities=kept.all.entities.values(),
            events=kept.all.event_types.values(),
            views=[first],
            standby=[again],
        )


def test_a_hot_entity_has_four_items_under_a_version_of_their_own():
    busy = Entity("customer", customer.key, hot=True)
    hot = view(entity=busy)
    assert (view().shards, hot.shards) == (1, 4)
    assert hot.item_keys("ann") == tuple(f"payments@{hot.version}#ann/{shard}" for shard in range(4))
    assert hot.version != view().version, "items of the other layout are not read"
    assert hot.spec() == view().spec(), "no value changes"
    assert hot.item_key("ann", "e1") in hot.item_keys("ann")


def test_a_synchronous_view_is_the_same_definition_and_never_of_a_hot_entity():
    assert view(synchronous=True).version == view().version
    with pytest.raises(DefinitionError, match='"payments" is synchronous'):
        view(entity=Entity("shop", "merchant_id", hot=True), synchronous=True)


def test_the_decided_event_is_declared_by_the_core():
    kind = decided_type([customer])
    assert kind.name == "checkout.decided"
    data = {
        "checkout_id": "c",
        "merchant": "m",
        "total": 5,
        "approved_amount": 0,
        "currency": "USD",
        "outcome": "declined",
    }
    kind.check(event("dec_1", NOW, type=kind.name, **data))
    with pytest.raises(InvalidInput):
        kind.check(event("dec_1", NOW, type=kind.name, **{**data, "approved_amount": None}))


@pytest.fixture
def ladder_of_before(monkeypatch):
    """Declares views on the ladder that ended at a day."""
    monkeypatch.setattr(windows, "LADDER", windows.LADDER[2:])
    windows.parse.cache_clear()
    yield
    windows.parse.cache_clear()


LONG, SHORT = {"windows": ["365d"]}, {"windows": ["90d"]}
LONG_VERSION, SHORT_VERSION = view(**LONG).version, view(**SHORT).version


@pytest.mark.usefixtures("ladder_of_before")
def test_another_hop_is_another_version():
    assert view(**LONG).version != LONG_VERSION
    assert view(**SHORT).version == SHORT_VERSION
