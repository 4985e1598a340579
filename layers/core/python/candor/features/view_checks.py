"""Validation of views when they are declared: refuses those that would count nothing, or not what they say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Protocol

from candor.clock import DAY
from candor.errors import DefinitionError
from candor.features.aggregations import Aggregation, LastCategory, TimeSinceLast
from candor.features.event_types import Entity, EventType
from candor.features.predicates import Compare, Predicate, TypeIs
from candor.features.windows import Spelling, Window, duration
from candor.regulation import CreditScore

MOST_EXACT_EVENTS = 1_024
"""Largest `max_events` of a view of exact windows."""


class Declaration(Protocol):
    """The parts of a view that are checked."""

    @property
    def name(self) -> str: ...
    @property
    def entity(self) -> Entity: ...
    @property
    def events(self) -> Sequence[EventType]: ...
    @property
    def aggregations(self) -> Sequence[Aggregation]: ...
    @property
    def windows(self) -> Sequence[Spelling]: ...
    @property
    def expires_after(self) -> str | None: ...
    @property
    def exact_windows(self) -> bool: ...
    @property
    def max_events(self) -> int | None: ...
    @property
    def event_types(self) -> frozenset[str]: ...
    def spans(self) -> list[Window]:
        """The windows in declared order."""
        ...


def check_score(view: str, aggregations: Mapping[str, Aggregation], score: CreditScore) -> None:
    """Raise `DefinitionError` unless the score's features are the view's; `aggregations` are by feature name."""
    for name in score.features:
        if f"{view}.{name}" not in aggregations:
            raise DefinitionError(
                f'view "{view}" has no feature "{name}" that its credit score names; it has {", ".join(aggregations)}'
            )
    for name in score.factors:
        if not isinstance(aggregations[f"{view}.{name}"], LastCategory):
            raise DefinitionError(
                f'key factor "{name}" of view "{view}" is no text: declare it as LastCategory(field, [codes])'
            )
    if score.age is not None and not isinstance(aggregations[f"{view}.{score.age}"], TimeSinceLast):
        raise DefinitionError(f'"{score.age}" of view "{view}" has no moment: declare it as TimeSinceLast()')


def check_view(view: Declaration) -> None:
    """Raise `DefinitionError`, with the remedy, for an invalid declaration."""
    _check_parts(view)
    _check_windows(view)
    _check_exact_windows(view)
    _check_expiry(view)
    _check_events(view)
    for aggregation in chain.from_iterable(declared.leaves for declared in view.aggregations):
        for condition in () if aggregation.where is None else aggregation.where.leaves:
            _check_condition(view, condition)
        _check_field(view, aggregation)
        for window in view.spans():
            aggregation.check_window(window)


def _check_parts(view: Declaration) -> None:
    if not view.events:
        raise DefinitionError(f'view "{view.name}" has no events: name the event types that it counts')
    if not view.aggregations:
        raise DefinitionError(f'view "{view.name}" has no aggregations: declare some, such as Count()')
    declared: Sequence[object] = view.aggregations
    strange = [
        getattr(aggregation, "__name__", "that")
        for aggregation in declared
        if not isinstance(aggregation, Aggregation)
    ]
    if strange:
        raise DefinitionError(f'view "{view.name}": {strange[0]} is no aggregation; write {strange[0]}(…)')


def _check_windows(view: Declaration) -> None:
    if isinstance(view.windows, str):
        raise DefinitionError(f'view "{view.name}" takes a list of windows: windows=["{view.windows}"]')
    if not view.windows:
        raise DefinitionError(
            f'view "{view.name}" has no windows: declare some, such as windows=["24h", "lifetime"]'
        )
    if twice := _twice(view.windows):
        raise DefinitionError(f'view "{view.name}" declares window "{twice}" twice')


def _check_exact_windows(view: Declaration) -> None:
    bound = 1 if view.max_events is None else view.max_events
    if view.exact_windows is (view.max_events is None) or not 1 <= bound <= MOST_EXACT_EVENTS:
        raise DefinitionError(
            f'view "{view.name}": exact_windows=True and max_events, from 1 to {MOST_EXACT_EVENTS}, go together'
        )
    if view.exact_windows and view.entity.hot:
        raise DefinitionError(
            f'view "{view.name}" has exact windows, which are for few events: "{view.entity.name}" is declared hot'
        )


def _check_expiry(view: Declaration) -> None:
    longest = max(window.reach for window in view.spans())
    if view.expires_after is not None and duration(view.expires_after) < longest:
        raise DefinitionError(
            f'view "{view.name}" expires after {view.expires_after}, sooner than its longest window with its hop ends: '
            f'write expires_after="{-(-longest // DAY)}d" or more'
        )


def _check_events(view: Declaration) -> None:
    if twice := _twice(event.name for event in view.events):
        raise DefinitionError(f'view "{view.name}" takes event type "{twice}" twice')
    for event in view.events:
        if view.entity.name not in {entity.name for entity in event.entities}:
            raise DefinitionError(
                f'view "{view.name}": event type "{event.name}" never names entity "{view.entity.name}"; add it to the '
                "type's entities, or take the type out of the view"
            )


def _twice(names: Iterable[Any]) -> Any:
    """The first repeated name, or None."""
    return next((name for name, times in Counter(names).items() if times > 1), None)


def _check_condition(view: Declaration, condition: Predicate) -> None:
    if isinstance(condition, TypeIs):
        _check_types(view, condition)
    if isinstance(condition, Compare):
        _check_comparison(view, condition)


def _check_types(view: Declaration, condition: TypeIs) -> None:
    for name in condition.types:
        if name not in view.event_types:
            raise DefinitionError(
                f'view "{view.name}": a filter asks for event type "{name}", and the view takes '
                f"{', '.join(sorted(view.event_types))}"
            )


def _check_comparison(view: Declaration, condition: Compare) -> None:
    name, value = condition.field, condition.value
    kinds = _kinds(view, name) - {"json"}
    if not kinds:
        raise DefinitionError(
            f'view "{view.name}": a filter asks for "{name}", which no event of the view declares as integer or text'
        )
    if ("text" if isinstance(value, str) else "integer") not in kinds:
        wrong = "a text" if isinstance(value, str) else "an integer"
        raise DefinitionError(
            f'view "{view.name}": a filter compares "{name}" with {wrong}, and its events declare it as {_listed(kinds)}'
        )
    texts = _declared_texts(view, name)
    if condition.op in ("==", "!=") and texts and value not in texts:
        raise DefinitionError(
            f'view "{view.name}": a filter compares "{name}" with "{value}", and its events declare it as one of '
            f"{_listed(texts)}"
        )


def _check_field(view: Declaration, aggregation: Aggregation) -> None:
    name = aggregation.field
    if name is None:
        return
    kinds = _kinds(view, name)
    if not kinds or not kinds <= aggregation.kinds:
        wanted = " or ".join(sorted(aggregation.kinds))
        raise DefinitionError(
            f'view "{view.name}": {aggregation.op} needs a field "{name}" of {wanted} on its events'
        )
    texts = _declared_texts(view, name)
    if isinstance(aggregation, LastCategory) and texts and (never := set(aggregation.categories) - texts):
        raise DefinitionError(
            f'view "{view.name}": "{min(never)}" is never "{name}", which its events declare as one of {_listed(texts)}'
        )


def _kinds(view: Declaration, name: str) -> set[str]:
    """Kinds of a field in the view's event types."""
    return {event.fields[name].kind for event in view.events if name in event.fields}


def _declared_texts(view: Declaration, name: str) -> set[str]:
    """Allowed texts of a field; empty unless every event type with the field lists them."""
    texts = [event.fields[name].of for event in view.events if name in event.fields]
    return set[str]().union(*texts) if all(texts) else set()


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
