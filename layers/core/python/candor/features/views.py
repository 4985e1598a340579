"""Declarations: what a lender writes once and everything else is derived from."""

from __future__ import annotations

import hashlib
import json
import math
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain, product
from typing import Any

import msgspec

from candor.contracts import CURRENCIES, MAX_AMOUNT, Application, Checkout, Event
from candor.errors import DefinitionError, InvalidInput
from candor.features.aggregations import MOST_ID_BYTES, Aggregation
from candor.features.size import LARGEST_ITEM, most_bytes
from candor.features.windows import Window, duration, parse

MAX_SKEW = 300_000
"""How far ahead (ms) an event may be dated at most. Events younger than this, seen from the newest, stay raw in their
item, so that a reader's moment never falls before what was folded."""

REQUEST = "request"
"""Where on-demand features stand: first part of their names, as a view's name is of windowed ones."""

SHARDS = 4
"""Items that the events of one hot entity are spread over; the reader merges them."""

DECIDED = "checkout.decided"
"""The core's own event: what became of a checkout."""

FINAL_DUE = "final_due"
"""Name of the label that every `Label` is by itself."""

FORMAT = 1
"""Version of the semantics below the declarations; part of every hash."""


class Field(msgspec.Struct, frozen=True):
    """Kind of one data field of an event: integer bounds, or text (of these, if any are named), or any JSON."""

    kind: str
    optional: bool = False
    low: int = -(2**63)
    high: int = 2**63 - 1
    of: frozenset[str] = frozenset()

    def check(self, name: str, value: Any) -> None:
        """Raise `InvalidInput` unless `value` fits."""
        if value is None:
            if not self.optional:
                raise InvalidInput("missing_field", "A required field is missing.", f"data.{name}")
        elif self.kind == "integer":
            if type(value) is not int:
                raise InvalidInput("invalid_field", "Expected an integer.", f"data.{name}")
            if not self.low <= value <= self.high:
                raise InvalidInput(
                    "out_of_range", "The integer is outside the declared bounds.", f"data.{name}"
                )
        elif self.kind == "text" and (type(value) is not str or len(value) > 256):
            raise InvalidInput("invalid_field", "Expected text of at most 256 characters.", f"data.{name}")
        elif self.of and value not in self.of:
            raise InvalidInput("invalid_field", "Expected one of the declared texts.", f"data.{name}")


def Money(*, optional: bool = False) -> Field:  # noqa: N802 - a type name of the declaration language
    """Integer minor units, at most 10¹² either way."""
    return Field("integer", optional, -MAX_AMOUNT, MAX_AMOUNT)


def Integer(*, optional: bool = False) -> Field:  # noqa: N802 - a type name of the declaration language
    """Any integer of at most 10¹⁵ either way; moments are ms UTC."""
    return Field("integer", optional, -(10**15), 10**15)


def Text(*, optional: bool = False, of: Iterable[str] = ()) -> Field:  # noqa: N802 - a type name of the declaration language
    """Text for filters and distinct counts, at most 256 characters; `of` names all that it may be."""
    return Field("text", optional, of=frozenset(of))


def Json(*, optional: bool = False) -> Field:  # noqa: N802 - a type name of the declaration language
    """Any JSON; carried and archived, never aggregated."""
    return Field("json", optional)


class Entity(msgspec.Struct, frozen=True):
    """Who features are about. `key` is the dotted path to its token on an Application.

    `hot` declares that one key sees so many events that the ids of recent ones do not fit in its item.
    """

    name: str
    key: str
    hot: bool = False

    def key_of(self, application: Application) -> str | None:
        """The entity's token in this application, or None where it names none."""
        found: Any = application
        for step in self.key.split("."):
            if found is None:
                return None
            found = getattr(found, step)
        return None if found is None else str(found)


class EventType(msgspec.Struct, frozen=True, dict=True):
    """A kind of event: the entities it must name and its data fields. Unknown fields are carried, not used."""

    name: str
    entities: Sequence[Entity]
    fields: Mapping[str, Field] = {}

    @cached_property
    def plain_fields(self) -> frozenset[str]:
        """Names of the fields that can be aggregated or filtered on."""
        return frozenset(name for name, kind in self.fields.items() if kind.kind != "json")

    def check(self, event: Event) -> None:
        """Raise `InvalidInput` unless `event` is one of these."""
        if not any(entity.name in event.entities for entity in self.entities):
            raise InvalidInput(
                "missing_entity", "The event names none of the entities it is about.", "entities"
            )
        for name, kind in self.fields.items():
            kind.check(name, event.data.get(name))
        currency = event.data.get("currency")
        if currency is not None and (type(currency) is not str or currency not in CURRENCIES):
            raise InvalidInput("unknown_currency", "Use an upper-case ISO 4217 code.", "data.currency")


def decided_type(entities: Sequence[Entity]) -> EventType:
    """The event that every decision becomes: its id is the decision's, its moment the decision's q.

    `total` and `approved_amount` (0 unless approved) in minor units of `currency`.
    """
    fields = {
        "checkout_id": Text(),
        "merchant": Text(),
        "total": Money(),
        "approved_amount": Money(),
        "currency": Text(),
        "outcome": Text(),
    }
    return EventType(DECIDED, entities, fields)


class Feature(msgspec.Struct, frozen=True):
    """One aggregation over one window."""

    name: str
    aggregation: Aggregation
    window: Window


class FeatureView(msgspec.Struct, frozen=True, eq=False, dict=True):
    """Aggregations over windows of one entity's events.

    The items of a `synchronous` view are committed with the decision itself: checkouts of one burst see each other.
    """

    name: str
    entity: Entity
    events: Sequence[EventType]
    aggregations: Sequence[Aggregation]
    windows: Sequence[str]
    synchronous: bool = False

    def __post_init__(self) -> None:
        if self.synchronous and self.entity.hot:
            raise DefinitionError(
                f'view "{self.name}" is synchronous: decisions would queue for the items of hot "{self.entity.name}"'
            )
        for aggregation in chain.from_iterable(declared.leaves for declared in self.aggregations):
            self._check_filter(aggregation)
            self._check_field(aggregation)
            for label in self.windows:
                aggregation.check_window(parse(label))

    def _check_filter(self, aggregation: Aggregation) -> None:
        declared = frozenset[str]().union(*(event.plain_fields for event in self.events))
        asked = aggregation.where.fields if aggregation.where else frozenset[str]()
        for name in sorted(asked - declared):
            raise DefinitionError(
                f'view "{self.name}": a filter asks for "{name}", which no event of the view declares as integer or text'
            )

    def _check_field(self, aggregation: Aggregation) -> None:
        if aggregation.field is None:
            return
        kinds = {kind.kind for event in self.events if (kind := event.fields.get(aggregation.field))}
        if not kinds or not kinds <= aggregation.kinds:
            wanted = " or ".join(sorted(aggregation.kinds))
            raise DefinitionError(
                f'view "{self.name}": {aggregation.op} needs a field "{aggregation.field}" of {wanted} on its events'
            )

    @cached_property
    def features(self) -> list[Feature]:
        """Aggregation-major, windows in declared order."""
        windows = [parse(label) for label in self.windows]
        return [Feature(f"{self.name}.{a.label}.{w.label}", a, w) for a in self.aggregations for w in windows]

    @cached_property
    def event_types(self) -> frozenset[str]:
        return frozenset(event.name for event in self.events)

    def spec(self) -> dict[str, Any]:
        """JSON form: everything that changes a value, nothing else."""
        return {
            "name": self.name,
            "entity": [self.entity.name, self.entity.key],
            "events": sorted(self.event_types),
            "features": [
                [f.name, f.aggregation.spec(), f.window.length, f.window.hop] for f in self.features
            ],
        }

    @cached_property
    def version(self) -> str:
        """First 8 hex digits of the hash of definition and layout; part of every stored key."""
        return digest(self.spec() if self.shards == 1 else [self.spec(), self.shards])[:8]

    @cached_property
    def most_bytes(self) -> int:
        """Most bytes that an item may have, whatever the traffic."""
        return most_bytes(self, MAX_SKEW)

    @property
    def shards(self) -> int:
        """Number of items that hold one entity."""
        return SHARDS if self.entity.hot else 1

    def item_keys(self, entity_key: str) -> tuple[str, ...]:
        """Keys of all stored items of one entity."""
        key = f"{self.name}@{self.version}#{entity_key}"
        return (key,) if self.shards == 1 else tuple(f"{key}/{shard}" for shard in range(self.shards))

    def item_key(self, entity_key: str, event_id: str) -> str:
        """Key of the item that holds an event of the entity; its void belongs there too."""
        keys = self.item_keys(entity_key)
        return keys[zlib.crc32(event_id.encode()) % len(keys)]


OnDemandFunction = Callable[[Checkout, Mapping[str, float]], float | int | None]


class OnDemand(msgspec.Struct, frozen=True):
    """A feature computed from the request and the windowed features by a pure function.

    Raise `version` whenever the function's meaning changes: it is part of the definition's hash.
    """

    name: str
    fn: OnDemandFunction
    version: int = 1

    @property
    def feature(self) -> str:
        return f"{REQUEST}.{self.name}"

    def answer(self, checkout: Checkout, features: Mapping[str, float]) -> float | None:
        """The feature; NaN where the function has no finite answer; None where it fails on these inputs.

        Neither JSON nor a policy table knows infinity. A failure is a slip in the definition: it may not cost an
        applicant the answer, nor pass for a missing value.
        """
        try:
            found = self.fn(checkout, features)
            return float(found) if found is not None and math.isfinite(found) else math.nan
        except Exception:  # noqa: BLE001 - the lender's own code: it may raise anything
            return None

    def value(self, checkout: Checkout, features: Mapping[str, float]) -> float:
        """The number that stands in the vector, online and offline: NaN without an answer, for whatever reason."""
        found = self.answer(checkout, features)
        return math.nan if found is None else found


class Instalments(msgspec.Struct, frozen=True):
    """How a loan's instalments are told: events that name the loan (`loan_id`) and the instalment (the field `number`).

    `due` occurs when it falls due; `paid` settles it, `reversed` takes the latest payment of it back.
    """

    due: str
    paid: str
    reversed: str | None = None
    number: str = "installment"


class Outcome(msgspec.Struct, frozen=True):
    """Another end of a loan: bad if an instalment was still unpaid `past_due` after it fell due.

    `within` is how long after its origination a loan is watched; None: its first instalment alone is, a first-payment default.
    Good and bad mature together: at the end of `within`, or `past_due` after the first instalment's due date.
    """

    name: str
    past_due: str
    within: str | None = None

    @property
    def past_due_ms(self) -> int:
        return duration(self.past_due)

    @property
    def within_ms(self) -> int | None:
        return None if self.within is None else duration(self.within)


class Label(msgspec.Struct, frozen=True):
    """When a checkout turned out bad: its loan was not closed by the due date plus `grace`.

    `origin` links loan and checkout (`checkout_id`, `loan_id`, `due_field` in ms); `closed` ends the loan.
    Good and bad labels mature together, at due date plus grace. `outcomes` are other labels, of `instalments`, by their names.
    """

    origin: str
    closed: str
    due_field: str
    grace: str
    instalments: Instalments | None = None
    outcomes: Sequence[Outcome] = ()

    def __post_init__(self) -> None:
        if self.outcomes and self.instalments is None:
            raise DefinitionError(
                "outcomes are of instalments: say how they are told, Label(instalments=Instalments(…))"
            )
        names = [FINAL_DUE, *(outcome.name for outcome in self.outcomes)]
        if len(set(names)) < len(names):
            raise DefinitionError(f'two outcomes have one name, or one is named "{FINAL_DUE}"')

    @property
    def grace_ms(self) -> int:
        return duration(self.grace)

    def outcome(self, name: str) -> Outcome | None:
        """The outcome of this name; None for the label's own, `final_due`. Raises `DefinitionError`, which names what there is."""
        for outcome in self.outcomes:
            if outcome.name == name:
                return outcome
        if name != FINAL_DUE:
            known = ", ".join([FINAL_DUE, *(outcome.name for outcome in self.outcomes)])
            raise DefinitionError(f'no label is named "{name}"; there are {known}')
        return None


class Definitions:
    """All declarations of a lender, checked against each other. Immutable.

    `views` are those that a model is trained on and served with; `standby` other versions of them, or views to come or
    to go: kept up to date like the others, and served where a bundle or the pointer names them.
    """

    def __init__(
        self,
        *,
        entities: Iterable[Entity],
        events: Iterable[EventType],
        views: Iterable[FeatureView],
        standby: Iterable[FeatureView] = (),
        on_demand: Iterable[OnDemand] = (),
        label: Label | None = None,
        max_future_skew_ms: int = MAX_SKEW,
    ) -> None:
        self.entities = _by_name(entities)
        self.event_types = _by_name(events)
        self.views = tuple(_by_name(views).values())
        self.kept: tuple[FeatureView, ...] = (*self.views, *standby)
        self.on_demand = tuple(on_demand)
        self.label = label
        self.max_future_skew_ms = max_future_skew_ms
        self.features: tuple[str, ...] = tuple(
            chain((f.name for view in self.views for f in view.features), (o.feature for o in self.on_demand))
        )
        self._check()
        self.views_by_event = {
            name: tuple(view for view in self.kept if name in view.event_types) for name in self.event_types
        }

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hex) of everything that changes a value."""
        return digest(
            {
                "format": FORMAT,
                "views": [view.spec() for view in self.views],
                "on_demand": [[o.feature, o.version] for o in self.on_demand],
            }
        )

    def only(self, view: FeatureView) -> Definitions:
        """One view alone, on its entities and events."""
        return Definitions(
            entities=self.entities.values(),
            events=self.event_types.values(),
            views=[view],
            max_future_skew_ms=self.max_future_skew_ms,
        )

    def serving(self, versions: Mapping[str, str]) -> Definitions:
        """These declarations with views in the versions that are named. Raises `DefinitionError` for one that is not kept.

        A model must not notice: the features have the same names.
        """
        views = [self.view(view.name, versions.get(view.name, view.version)) for view in self.views]
        found = self._with(views, self.on_demand)
        if found.features != self.features:
            raise DefinitionError(
                "the other version has other features: train a model on it and promote that"
            )
        return found

    def pinned(self, features: Sequence[str], definition_hash: str) -> Definitions | None:
        """The declarations that a model was trained on, of all that are kept; None if they are not among them."""
        named = {feature.partition(".")[0] for feature in features}
        names = dict.fromkeys(view.name for view in self.kept if view.name in named)
        on_demand = [one for one in self.on_demand if one.feature in features]
        for views in product(*([view for view in self.kept if view.name == name] for name in names)):
            found = self._with(views, on_demand)
            if found.features == tuple(features) and found.hash == definition_hash:
                return found
        return None

    def view(self, name: str, version: str) -> FeatureView:
        """A view that is kept. Raises `DefinitionError`."""
        for view in self.kept:
            if (view.name, view.version) == (name, version):
                return view
        kept = ", ".join(view.version for view in self.kept if view.name == name) or "none"
        raise DefinitionError(f'view "{name}" is not kept in version {version}; kept: {kept}')

    def _with(self, views: Iterable[FeatureView], on_demand: Iterable[OnDemand]) -> Definitions:
        chosen = tuple(views)
        return Definitions(
            entities=self.entities.values(),
            events=self.event_types.values(),
            views=chosen,
            standby=[view for view in self.kept if view not in chosen],
            on_demand=on_demand,
            label=self.label,
            max_future_skew_ms=self.max_future_skew_ms,
        )

    def check_event(self, event: Event, now_ms: int) -> None:
        """Raise `InvalidInput` unless the event may be applied at `now_ms`."""
        kind = self.event_types.get(event.type)
        if kind is None:
            raise InvalidInput("unknown_event_type", "No such event type is declared.", "type")
        latest = now_ms + self.max_future_skew_ms
        if event.occurred_at > latest:
            raise InvalidInput("occurred_in_future", "The event is dated in the future.", "occurred_at")
        if event.voided_at is not None and not event.occurred_at <= event.voided_at <= latest:
            raise InvalidInput("invalid_void", "An event is voided after it occurred, by now.", "voided_at")
        if len(event.id.encode()) > MOST_ID_BYTES or not event.id.isprintable():
            raise InvalidInput(
                "invalid_field", f"Expected printable text of at most {MOST_ID_BYTES} bytes.", "event_id"
            )
        kind.check(event)

    def _check(self) -> None:
        if not 0 <= self.max_future_skew_ms <= MAX_SKEW:
            raise DefinitionError(f"max_future_skew_ms must be between 0 and {MAX_SKEW}")
        seen: set[str] = set()
        for name in self.features:
            if name in seen:
                raise DefinitionError(f'two features are named "{name}"; give one aggregation another name=')
            if set(name) & set('",:[]{}'):
                raise DefinitionError(f'feature name "{name}" has a character that LightGBM refuses')
            seen.add(name)
        if len({(view.name, view.version) for view in self.kept}) < len(self.kept):
            raise DefinitionError("a view on standby is what another one is already; take it away")
        for view in self.kept:
            self._check_view(view)

    def _check_view(self, view: FeatureView) -> None:
        if view.name == REQUEST:
            raise DefinitionError(f'view "{REQUEST}" has the name of the on-demand features; give it another')
        if self.entities.get(view.entity.name) is not view.entity:
            raise DefinitionError(f'view "{view.name}" uses undeclared entity "{view.entity.name}"')
        for event in view.events:
            if self.event_types.get(event.name) is not event:
                raise DefinitionError(f'view "{view.name}" uses undeclared event type "{event.name}"')
        if (most := view.most_bytes) > LARGEST_ITEM:
            raise DefinitionError(
                f'view "{view.name}": an item may grow to {most:,} bytes, and DynamoDB takes {LARGEST_ITEM:,}; declare '
                "fewer or shorter windows, move aggregations (distinct ones first) to a view of their own, or name the "
                "texts of a distinct count: Text(of=[…])"
            )


def digest(spec: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of `spec`."""
    return hashlib.sha256(json.dumps(spec, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _by_name(declared: Iterable[Any]) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for one in declared:
        if one.name in named:
            raise DefinitionError(f'"{one.name}" is declared twice')
        named[one.name] = one
    return named
