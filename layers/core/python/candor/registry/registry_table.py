"""The registry's table: items of the pointer, of bundles and of audit lines, and their transactions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Final

from pynamodb.attributes import NumberAttribute, UnicodeAttribute
from pynamodb.connection import Connection
from pynamodb.exceptions import DoesNotExist, PutError, PynamoDBException, TransactWriteError
from pynamodb.expressions.condition import Condition
from pynamodb.models import Model
from pynamodb.transactions import TransactWrite

from candor.errors import CandorError, StoreUnavailable
from candor.registry.lifecycle import CANDIDATE, CHAMPION, REFUSED, RETIRED, Proposal, Transition
from candor.registry.pointer import Challenge, Pointer, VersionSwitch
from candor.store.dynamodb import ATTEMPTS, CONNECT_TIMEOUT_S, READ_TIMEOUT_S, bound

POINTER: Final = "champion"
"""The pointer item's key."""

_LOST: Final = {"ConditionalCheckFailed", "TransactionConflict"}


class PromotionConflict(CandorError):
    """Someone else moved the pointer in the meantime: read it, then try again."""


class RegistryItem(Model):
    """The pointer (bundle, promoted_at, by, views, flips, challenger, shadows, moves), one bundle, or one audit line.

    A bundle: state, metrics, gates, run, created_at, promoted_at, succeeded (the previous champion), proposal,
    package, steps. A line: before, state (after), created_at, by, why, identity.
    """

    class Meta:
        table_name = "registry"
        billing_mode = "PAY_PER_REQUEST"
        connect_timeout_seconds = CONNECT_TIMEOUT_S
        read_timeout_seconds = READ_TIMEOUT_S
        max_retry_attempts = ATTEMPTS

    pk = UnicodeAttribute(hash_key=True)
    bundle = UnicodeAttribute(null=True)
    promoted_at = NumberAttribute(null=True)
    by = UnicodeAttribute(null=True)
    views = UnicodeAttribute(null=True)
    flips = UnicodeAttribute(null=True)
    challenger = UnicodeAttribute(null=True)
    shadows = UnicodeAttribute(null=True)
    moves = NumberAttribute(null=True)
    state = UnicodeAttribute(null=True)
    metrics = UnicodeAttribute(null=True)
    gates = UnicodeAttribute(null=True)
    run = UnicodeAttribute(null=True)
    created_at = NumberAttribute(null=True)
    succeeded = UnicodeAttribute(null=True)
    proposal = UnicodeAttribute(null=True)
    package = UnicodeAttribute(null=True)
    steps = NumberAttribute(null=True)
    before = UnicodeAttribute(null=True)
    why = UnicodeAttribute(null=True)
    identity = UnicodeAttribute(null=True)


@dataclass(frozen=True)
class Registration:
    """A bundle: its state, the run that made it, and its failed gates (gate, reason).

    `promoted_at`: when it last became champion (ms UTC; 0: never), replacing `succeeded`. `package` is its entry in
    SageMaker's model registry. `steps` counts its audit lines.
    """

    bundle: str
    state: str
    metrics: Mapping[str, Any]
    run: str
    created_at: int
    gates: Sequence[tuple[str, str]] = ()
    promoted_at: int = 0
    succeeded: str | None = None
    proposal: Proposal | None = None
    package: str | None = None
    steps: int = 0

    @property
    def resting(self) -> str:
        """State while the pointer does not name it."""
        if self.state == REFUSED:
            return REFUSED
        return RETIRED if self.promoted_at else CANDIDATE

    def stepped(self, line: Transition) -> Registration:
        """The registration after one more audit line."""
        reached = line.at if line.after == CHAMPION != line.before else self.promoted_at
        return replace(self, state=line.after, promoted_at=reached, steps=self.steps + 1)


Change = tuple[Registration, Transition]
"""A bundle after one more audit line, and that line."""


class RegistryTable:
    """Reads and writes of one registry table. Raises StoreUnavailable if DynamoDB fails."""

    def __init__(self, table: str) -> None:
        self._item = bound(RegistryItem, table)

    def pointer(self) -> Pointer:
        """The current pointer."""
        item = self.get(POINTER)
        if item is None:
            return Pointer()
        return Pointer(
            item.bundle,
            int(item.promoted_at or 0),
            str(item.by or ""),
            json.loads(item.views or "{}"),
            [VersionSwitch(**switch) for switch in json.loads(item.flips or "[]")],
            int(item.moves or 0),
            Challenge(**json.loads(item.challenger)) if item.challenger else None,
            json.loads(item.shadows or "[]"),
        )

    def registration(self, sha: str) -> Registration | None:
        """Registration of a bundle, or None."""
        item = self.get(_key(sha))
        return None if item is None else _registration(item)

    def registrations(self) -> list[Registration]:
        """All bundles, newest first; scans the table, which holds a few lines per bundle."""
        try:
            items = list(self._item.scan(RegistryItem.pk.startswith(_key("")), consistent_read=True))
        except PynamoDBException as error:
            raise StoreUnavailable(f"the registry could not be read: {error.cause_response_code}") from error
        return sorted(
            map(_registration, items),
            key=lambda registration: (-registration.created_at, registration.bundle),
        )

    def lines(self, known: Registration) -> list[Transition]:
        """Audit of a bundle, oldest line first."""
        keys = [_line_key(known.bundle, number) for number in range(1, known.steps + 1)]
        try:
            items = list(self._item.batch_get(keys, consistent_read=True)) if keys else []
        except PynamoDBException as error:
            raise StoreUnavailable(f"the registry could not be read: {error.cause_response_code}") from error
        return [_line(known.bundle, item) for item in sorted(items, key=lambda item: item.pk)]

    def write(self, changes: Sequence[Change], pointer: Pointer | None = None) -> None:
        """Write the pointer, the bundles' items and their audit lines in one transaction.

        Raises PromotionConflict if one of them changed since it was read.
        """
        try:
            with TransactWrite(connection=self._connection) as transaction:
                if pointer is not None:
                    transaction.save(self._pointer_item(pointer), condition=_after_move(pointer.moves - 1))
                for made, line in changes:
                    transaction.save(self._bundle_item(made), condition=_after_step(made.steps - 1))
                    item = self._line_item(line, made.steps)
                    transaction.save(item, condition=RegistryItem.pk.does_not_exist())
        except TransactWriteError as error:
            codes = {reason.code for reason in error.cancellation_reasons or () if reason}
            if codes & _LOST:
                raise PromotionConflict(
                    "the pointer moved meanwhile; look at what serves now and try again"
                ) from error
            raise StoreUnavailable(f"the registry was not written: {error.cause_response_code}") from error

    @cached_property
    def _connection(self) -> Connection:
        return Connection(
            connect_timeout_seconds=CONNECT_TIMEOUT_S,
            read_timeout_seconds=READ_TIMEOUT_S,
            max_retry_attempts=ATTEMPTS,
        )

    def _pointer_item(self, moved: Pointer) -> RegistryItem:
        return self._item(
            POINTER,
            bundle=moved.bundle,
            promoted_at=moved.promoted_at,
            by=moved.by,
            views=_compact(dict(moved.views)) if moved.views else None,
            flips=_compact([asdict(switch) for switch in moved.switches]) if moved.switches else None,
            challenger=_compact(asdict(moved.challenger)) if moved.challenger else None,
            shadows=_compact(list(moved.shadows)) if moved.shadows else None,
            moves=moved.moves,
        )

    def _bundle_item(self, made: Registration) -> RegistryItem:
        return self._item(
            _key(made.bundle),
            state=made.state,
            metrics=_compact(dict(made.metrics)),
            gates=_compact([list(each) for each in made.gates]) if made.gates else None,
            run=made.run,
            created_at=made.created_at,
            promoted_at=made.promoted_at or None,
            succeeded=made.succeeded,
            proposal=_compact(asdict(made.proposal)) if made.proposal else None,
            package=made.package,
            steps=made.steps,
        )

    def _line_item(self, line: Transition, number: int) -> RegistryItem:
        return self._item(
            _line_key(line.bundle, number),
            before=line.before,
            state=line.after,
            created_at=line.at,
            by=line.by or None,
            why=line.why or None,
            identity=line.identity or None,
        )

    def save(self, made: Registration) -> None:
        """Write a bundle's item. Raises PromotionConflict if it changed since it was read."""
        if not self.put(self._bundle_item(made), _after_step(made.steps)):
            raise PromotionConflict(f"bundle {made.bundle[:12]} moved meanwhile: look at it and try again")

    def note(self, key: str, condition: Condition, **attributes: Any) -> bool:
        """Write another kind of item; False if the condition failed."""
        return self.put(self._item(key, **attributes), condition)

    def get(self, key: str) -> RegistryItem | None:
        """An item, or None."""
        try:
            return self._item.get(key, consistent_read=True)
        except DoesNotExist:
            return None
        except PynamoDBException as error:
            raise StoreUnavailable(f"the registry could not be read: {error.cause_response_code}") from error

    @staticmethod
    def put(item: RegistryItem, condition: Condition) -> bool:
        """Write an item; False if the condition failed."""
        try:
            item.save(condition=condition)
        except PutError as error:
            if error.cause_response_code == "ConditionalCheckFailedException":
                return False
            raise StoreUnavailable(f"the registry was not written: {error.cause_response_code}") from error
        return True


def _registration(item: RegistryItem) -> Registration:
    return Registration(
        bundle=item.pk.removeprefix(_key("")),
        state=str(item.state),
        metrics=json.loads(item.metrics or "{}"),
        run=str(item.run or ""),
        created_at=int(item.created_at or 0),
        gates=[(gate, reason) for gate, reason in json.loads(item.gates or "[]")],
        promoted_at=int(item.promoted_at or 0),
        succeeded=item.succeeded,
        proposal=Proposal(**json.loads(item.proposal)) if item.proposal else None,
        package=item.package,
        steps=int(item.steps or 0),
    )


def _line(sha: str, item: RegistryItem) -> Transition:
    return Transition(
        sha,
        item.before,
        str(item.state),
        int(item.created_at or 0),
        str(item.by or ""),
        str(item.why or ""),
        str(item.identity or ""),
    )


def _after_step(steps: int) -> Condition:
    first: Condition = RegistryItem.steps.does_not_exist() | (RegistryItem.steps == 0)
    return (RegistryItem.steps == steps) if steps else first


def _after_move(moves: int) -> Condition:
    first: Condition = RegistryItem.moves.does_not_exist()
    return (RegistryItem.moves == moves) if moves else first


def _key(sha: str) -> str:
    return f"bundle#{sha}"


def _line_key(sha: str, number: int) -> str:
    return f"transition#{sha}#{number:06}"


def _compact(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
