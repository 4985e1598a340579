"""Declarations: errors, feature names, and versions."""

from types import SimpleNamespace

import pytest
from msgspec.structs import replace

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
from candor.store.memory import MemoryFeatureStore
from tests.builders import NOW, customer, event, failed, paid, stored_values, take_in


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
    declared = definitions(views=[two], on_demand=[OnDemand("amount", lambda checkout, features: 1)])
    assert declared.features == (*(feature.name for feature in two.features), "request.amount")


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


shop = Entity("shop", "merchant_id")
coded = EventType("payment.coded", [customer], {"method": Text(of=["card", "bank"]), "amount": Text()})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"windows": []}, '"payments" has no windows: .*"24h"'),
        ({"windows": "24h"}, 'a list of windows: windows=\\["24h"\\]'),
        ({"windows": ["1h", "30d", "1h"]}, 'declares window "1h" twice'),
        ({"aggregations": []}, '"payments" has no aggregations'),
        ({"aggregations": [Count]}, "Count is no aggregation"),
        ({"events": []}, '"payments" has no events'),
        ({"entity": Entity("loan")}, '"payment.succeeded" never names entity "loan"'),
        ({"entity": shop, "events": [paid, coded]}, '"payment.coded" never names entity "shop"'),
        ({"events": [paid, paid]}, 'takes event type "payment.succeeded" twice'),
        (
            {"aggregations": [Count(where=type_is("payment.fialed"))]},
            '"payment.fialed".*takes payment.succeeded',
        ),
        (
            {"aggregations": [Count(where=~type_is("payment.failed"))]},
            '"payment.failed".*takes payment.succeeded',
        ),
        ({"aggregations": [Count(where=field("amount") == "x")]}, '"amount" with a text.*as integer'),
        ({"aggregations": [Sum("amount", where=~(field("kind") > 3))]}, '"kind" with an integer.*as text'),
        (
            {"events": [coded], "aggregations": [Count(where=field("method") != "crad")]},
            '"method" with "crad".* bank, card',
        ),
        (
            {"events": [coded], "aggregations": [LastCategory("method", ["card", "csah"])]},
            '"csah".*never "method".*bank, card',
        ),
    ],
)
def test_a_view_that_would_count_nothing_or_not_what_it_says_is_refused(changed, message):
    with pytest.raises(DefinitionError, match=message):
        view(**changed)


def test_what_a_filter_may_say_of_fields_that_types_declare_differently():
    both = [paid, coded]
    assert view(events=both, aggregations=[Count(where=(field("amount") == "x") | (field("amount") > 1))])
    assert view(events=both, aggregations=[Count(where=field("method") > "c")]).features
    free = EventType("payment.free", [customer], {"method": Text()})
    assert view(events=[coded, free], aggregations=[Count(where=field("method") == "cash")]).features


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda: Text(of="card"), r'Text\(of=\["card"\]\)'),
        (lambda: LastCategory("kind", "card"), r'takes a list of categories: \["card"\]'),
        (lambda: EventType("payment.lost", []), '"payment.lost" names no entity'),
    ],
)
def test_one_text_is_no_list_and_an_event_is_about_someone(write, message):
    with pytest.raises(DefinitionError, match=message):
        write()


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("checkout.aplicant.token", 'Checkout has no "aplicant".*checkout.applicant.token'),
        ("token", 'Application has no "token"'),
        ("checkout.device.fingerprints", 'Device has no "fingerprints"'),
        ("checkout.applicant.token.x", 'str has no "x"'),
        ("checkout.items.sku", 'list has no "sku"'),
        ("checkout.applicant", "ends in Applicant, not in text"),
        ("checkout.items", "ends in list, not in text"),
        ("checkout.total", "ends in int, not in text"),
        ("livemode", "ends in bool, not in text"),
        ("", 'Application has no ""'),
    ],
)
def test_a_key_that_leads_to_no_token_is_refused(key, message):
    with pytest.raises(DefinitionError, match=f'entity "customer": key="{key}".*{message}'):
        Entity("customer", key)


def test_an_entity_without_a_key_is_in_no_checkout_and_all_else_works(checkout: Checkout):
    card = Entity("card")
    used = EventType("card.used", [card], {"amount": Money()})
    cards = FeatureView("cards", card, [used], [Sum("amount")], ["24h"])
    declared = Definitions(entities=[card], events=[used], views=[cards])
    assert card.key_of(Application(checkout, "mer_1")) is None
    assert cards.spec()["entity"] == ["card", None]
    store = MemoryFeatureStore()
    take_in([event("e", NOW - 1, type="card.used", entities={"card": "c1"}, amount=7)], declared, store)
    assert stored_values(store, cards, "c1") == [7.0]


def test_what_serves_checkouts_needs_keys():
    card = Entity("card")
    used = EventType("card.used", [card], {"amount": Money()})
    cards = FeatureView("cards", card, [used], [Sum("amount")], ["24h"])
    declared = Definitions(entities=[customer, card], events=[paid, used], views=[view(), cards])
    with pytest.raises(DefinitionError, match=r'view "cards".*Entity\("card", key='):
        declared.require_keys()
    Definitions(
        entities=[customer, card], events=[paid, used], views=[view()], candidate_views=[cards]
    ).require_keys()


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
        ({"views": [view(name="a.b")]}, 'view "a.b" has "." in its name'),
        ({"views": [view(name="a b")]}, 'view "a b" has " " in its name'),
        (
            {"views": [view(aggregations=[Count(where=field("kind") == "gift card")])]},
            "kind_is_gift card.*name=",
        ),
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


@pytest.mark.parametrize(
    ("changed", "code", "where"),
    [
        ({"entities": {"customer": 17}}, "invalid_field", "entities.customer"),
        ({"id": 17}, "invalid_field", "event_id"),
        ({"occurred_at": NOW - 0.5}, "invalid_timestamp", "occurred_at"),
        ({"voided_at": NOW - 0.5}, "invalid_timestamp", "voided_at"),
        ({"id": "e~void"}, "invalid_field", "event_id"),
        ({"id": "~void", "voided_at": NOW}, "invalid_field", "event_id"),
    ],
)
def test_an_event_that_was_never_json_is_held_to_the_same_contract(changed, code, where):
    """Events built in Python skip the decoder, so their types are checked here."""
    good = event("e", NOW - 1, type="loan.closed", **GOOD)
    with pytest.raises(InvalidInput) as refusal:
        LOANS.check_event(replace(good, **changed), NOW)
    assert (refusal.value.code, refusal.value.field) == (code, where)
    assert "17" not in str(refusal.value)


@pytest.mark.parametrize("event_id", ["~voided", "e~void~", "void", "e~void "])
def test_only_the_very_end_of_an_id_marks_a_void(event_id):
    LOANS.check_event(event(event_id, NOW - 1, type="loan.closed", **GOOD), NOW)


def two_versions():
    """Declarations with a candidate version of a view: another filter, the same names."""
    entity = Entity("customer", "checkout.applicant.token")
    paid = EventType("paid", [entity], {"amount": Money()})
    first = FeatureView("loans", entity, [paid], [Count(name="n")], ["30d"])
    second = FeatureView("loans", entity, [paid], [Count(where=field("amount") > 5, name="n")], ["30d"])
    longer = FeatureView("loans", entity, [paid], [Count(name="n")], ["90d"])
    other = FeatureView("tries", entity, [paid], [Count()], ["7d"])
    declared = Definitions(
        entities=[entity],
        events=[paid],
        views=[first, other],
        candidate_views=[second, longer],
        on_demand=[OnDemand("one", lambda *_: 1)],
    )
    return SimpleNamespace(all=declared, first=first, second=second, longer=longer)


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
    with pytest.raises(DefinitionError, match="same version as another view"):
        Definitions(
            entities=kept.all.entities.values(),
            events=kept.all.event_types.values(),
            views=[first],
            candidate_views=[again],
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
