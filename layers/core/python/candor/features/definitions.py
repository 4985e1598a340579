"""All declarations of a lender, written once; everything else is derived from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from itertools import chain, product
from typing import Any

from candor.contracts import VOID, Event
from candor.errors import DefinitionError, InvalidInput, Report, refuse
from candor.features.aggregations import MOST_ID_BYTES
from candor.features.event_types import MAX_SKEW, Entity, EventType
from candor.features.labels import Label
from candor.features.on_demand import REQUEST, OnDemand
from candor.features.size import LARGEST_ITEM, largest_exact, most_bytes
from candor.features.views import FeatureView, digest

_SEPARATORS = frozenset(".@#/ ")
"""Characters that may follow a view's name in a feature's name or an item's key."""

EventCheck = Callable[[Event, int, Report], None]

FORMAT = 1
"""Version of the feature semantics; part of every hash."""


class Definitions:
    """All declarations of a lender, validated together. Immutable.

    `views` are those that models are trained on and served with. `candidate_views` are other versions of them, and
    views being added or removed: kept up to date like the others, and served if a bundle or the pointer names them.
    """

    def __init__(
        self,
        *,
        entities: Iterable[Entity],
        events: Iterable[EventType],
        views: Iterable[FeatureView],
        candidate_views: Iterable[FeatureView] = (),
        on_demand: Iterable[OnDemand] = (),
        label: Label | None = None,
        max_future_skew_ms: int = MAX_SKEW,
    ) -> None:
        self.entities = _by_name(entities)
        self.event_types = _by_name(events)
        self.views = tuple(_by_name(views).values())
        self.kept: tuple[FeatureView, ...] = (*self.views, *candidate_views)
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
        """These declarations with a single view."""
        return Definitions(
            entities=self.entities.values(),
            events=self.event_types.values(),
            views=[view],
            max_future_skew_ms=self.max_future_skew_ms,
        )

    def serving(self, versions: Mapping[str, str]) -> Definitions:
        """These declarations with the named versions of views. Raises `DefinitionError` for an undeclared version.

        The features must have the same names, so that a model fits both.
        """
        views = [self.view(view.name, versions.get(view.name, view.version)) for view in self.views]
        served = self._with(views, self.on_demand)
        if served.features != self.features:
            raise DefinitionError(
                "the other version has other features: train a model on it and promote that"
            )
        return served

    def pinned(self, features: Sequence[str], definition_hash: str) -> Definitions | None:
        """The declarations that a model was trained on, from all declared versions; None if they are missing."""
        named = {feature.partition(".")[0] for feature in features}
        names = dict.fromkeys(view.name for view in self.kept if view.name in named)
        on_demand = [feature for feature in self.on_demand if feature.feature in features]
        for views in product(*([view for view in self.kept if view.name == name] for name in names)):
            candidate = self._with(views, on_demand)
            if candidate.features == tuple(features) and candidate.hash == definition_hash:
                return candidate
        return None

    def require_keys(self) -> None:
        """Raise `DefinitionError` if the entity of a served view has no key: it would be absent for everyone."""
        for view in self.views:
            if view.entity.key is None:
                raise DefinitionError(
                    f'view "{view.name}" serves checkouts, and nothing says where they name "{view.entity.name}": '
                    f'declare Entity("{view.entity.name}", key=…)'
                )

    def view(self, name: str, version: str) -> FeatureView:
        """A declared view by name and version. Raises `DefinitionError`."""
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
            candidate_views=[view for view in self.kept if view not in chosen],
            on_demand=on_demand,
            label=self.label,
            max_future_skew_ms=self.max_future_skew_ms,
        )

    def check_event(self, event: Event, now_ms: int) -> None:
        """Raise `InvalidInput` unless the event may be applied at `now_ms`."""
        latest = now_ms + self.max_future_skew_ms
        for check in self.event_checks:
            check(event, latest, refuse)

    @cached_property
    def event_checks(self) -> tuple[EventCheck, ...]:
        """The checks of an event, each with the latest moment (ms UTC) that it may have and a callback for faults."""
        return (
            self._check_type,
            _check_occurred,
            _check_voided,
            _check_id,
            self._check_entities,
            self._check_data,
        )

    def _check_type(self, event: Event, _latest: int, report: Report) -> None:
        if event.type not in self.event_types:
            report(InvalidInput("unknown_event_type", "No such event type is declared.", "type"))

    def _check_entities(self, event: Event, _latest: int, report: Report) -> None:
        if kind := self.event_types.get(event.type):
            kind.check_entities(event, report)

    def _check_data(self, event: Event, _latest: int, report: Report) -> None:
        if kind := self.event_types.get(event.type):
            kind.check_data(event, report)

    def _check(self) -> None:
        if not 0 <= self.max_future_skew_ms <= MAX_SKEW:
            raise DefinitionError(f"max_future_skew_ms must be between 0 and {MAX_SKEW}")
        if len({(view.name, view.version) for view in self.kept}) < len(self.kept):
            raise DefinitionError("a candidate view has the same version as another view; remove it")
        for view in self.kept:
            self._check_view(view)
        self._check_features()
        if self.label is not None:
            self.label.check(self.event_types)

    def _check_features(self) -> None:
        seen: set[str] = set()
        for name in self.features:
            if name in seen:
                raise DefinitionError(f'two features are named "{name}"; give one aggregation another name=')
            if set(name) & set('",:[]{}') or name.split() != [name]:
                raise DefinitionError(
                    f'feature name "{name}" has a character that LightGBM refuses; give the aggregation a name='
                )
            seen.add(name)

    def _check_view(self, view: FeatureView) -> None:
        if view.name == REQUEST:
            raise DefinitionError(f'view "{REQUEST}" has the name of the on-demand features; give it another')
        if strange := sorted(set(view.name) & _SEPARATORS):
            raise DefinitionError(
                f'view "{view.name}" has "{strange[0]}" in its name, which ends a name in keys'
            )
        if self.entities.get(view.entity.name) is not view.entity:
            raise DefinitionError(f'view "{view.name}" uses undeclared entity "{view.entity.name}"')
        for event in view.events:
            if self.event_types.get(event.name) is not event:
                raise DefinitionError(f'view "{view.name}" uses undeclared event type "{event.name}"')
        _check_size(view)


def _check_size(view: FeatureView) -> None:
    largest = most_bytes(view, MAX_SKEW)
    if largest <= LARGEST_ITEM:
        return
    exact = largest_exact(view, MAX_SKEW)
    remedies = [f"lower exact= of its distinct counts to {exact}"] if exact else []
    remedies += [
        "declare fewer or shorter windows",
        "move aggregations (distinct ones first) to a view of their own",
    ]
    raise DefinitionError(
        f'view "{view.name}": an item may grow to {largest:,} bytes, and DynamoDB takes {LARGEST_ITEM:,}; '
        f"{', '.join(remedies)}, or name the texts of a distinct count: Text(of=[…])"
    )


# Moments that are not whole milliseconds would be rounded in another way by a column than by a tile.


def _check_occurred(event: Event, latest: int, report: Report) -> None:
    if type(event.occurred_at) is not int:
        report(InvalidInput("invalid_timestamp", "Expected whole milliseconds.", "occurred_at"))
    elif event.occurred_at > latest:
        report(InvalidInput("occurred_in_future", "The event is dated in the future.", "occurred_at"))


def _check_voided(event: Event, latest: int, report: Report) -> None:
    if event.voided_at is None:
        return
    if type(event.voided_at) is not int:
        report(InvalidInput("invalid_timestamp", "Expected whole milliseconds.", "voided_at"))
    elif not event.occurred_at <= event.voided_at <= latest:
        report(InvalidInput("invalid_void", "An event is voided after it occurred, by now.", "voided_at"))


def _check_id(event: Event, _latest: int, report: Report) -> None:
    event_id = event.id
    if type(event_id) is not str or len(event_id.encode()) > MOST_ID_BYTES or not event_id.isprintable():
        detail = f"Expected printable text of at most {MOST_ID_BYTES} bytes."
        report(InvalidInput("invalid_field", detail, "event_id"))
    elif event_id.endswith(VOID):
        detail = f'Expected an id that does not end in "{VOID}", which marks voids.'
        report(InvalidInput("invalid_field", detail, "event_id"))


def _by_name(declared: Iterable[Any]) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for declaration in declared:
        if declaration.name in named:
            raise DefinitionError(f'"{declaration.name}" is declared twice')
        named[declaration.name] = declaration
    return named
