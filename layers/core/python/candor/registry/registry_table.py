"""The registry's table: items of the pointer, of bundles and of audit lines, and their transactions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
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
from candor.registry.pointer import Challenge, Pointer, PolicyInForce, VersionSwitch
from candor.store.dynamodb import ATTEMPTS, CONNECT_TIMEOUT_S, READ_TIMEOUT_S, bound

POINTER: Final = "champion"
"""The pointer item's key."""

_RELEASE: Final = "release#"
"""Beginning of the key of a policy release's item."""

_LOST: Final = {"ConditionalCheckFailed", "TransactionConflict"}


class PromotionConflict(CandorError):
    """Someone else moved the pointer in the meantime: read it, then try again."""


class RegistryItem(Model):
    """The pointer, one bundle, one policy release, or one audit line.

    The pointer: bundle, promoted_at, by, views, flips, challenger, shadows, moves, policy (in force). A bundle: state,
    metrics, gates, run, created_at, promoted_at, succeeded (the previous champion), proposal, package, steps, policy
    (its document's digest). A release: state, digest, policy (the table's hash), replaces, proposal, created_at, renamed,
    steps. A line: before, state (after), created_at, by, why, identity.
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
    policy = UnicodeAttribute(null=True)
    digest = UnicodeAttribute(null=True)
    replaces = UnicodeAttribute(null=True)
    renamed = UnicodeAttribute(null=True)


@dataclass(frozen=True)
class Registration:
    """A bundle: its state, the run that made it, and its failed gates (gate, reason).

    `promoted_at`: when it last became champion (ms UTC; 0: never), replacing `succeeded`. `package` is its entry in
    SageMaker's model registry. `steps` counts its audit lines. `policy` is the digest of its policy document, None of a
    bundle that was registered before policies were released.
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
    policy: str | None = None

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


@dataclass(frozen=True)
class PolicyRelease:
    """A policy release: proposed, in force (`released`) or `retired`.

    `digest` names its document, `policy` is the table's hash. `replaces` is the policy that it was proposed against, and
    that a rollback restores. `renamed` maps the bundles that decided before to those that decide with it.
    """

    number: int
    digest: str
    policy: str
    replaces: PolicyInForce
    state: str
    created_at: int
    proposal: Proposal | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)
    steps: int = 0

    @property
    def name(self) -> str:
        """Name in the audit."""
        return release_name(self.number)

    def stepped(self, state: str) -> PolicyRelease:
        """The release in a state, after one more audit line."""
        return replace(self, state=state, steps=self.steps + 1)


Change = tuple[Registration | PolicyRelease, Transition]
"""A bundle or a policy release after one more audit line, and that line."""


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
            PolicyInForce(**json.loads(item.policy)) if item.policy else None,
        )

    def registration(self, sha: str) -> Registration | None:
        """Registration of a bundle, or None."""
        item = self.get(_key(sha))
        return None if item is None else _registration(item)

    def registrations(self) -> list[Registration]:
        """All bundles, newest first; scans the table, which holds a few lines per bundle."""
        return sorted(
            map(_registration, self._scan(_key(""))),
            key=lambda registration: (-registration.created_at, registration.bundle),
        )

    def release(self, number: int) -> PolicyRelease | None:
        """A policy release, or None."""
        item = self.get(_release_key(number))
        return None if item is None else _release(item)

    def releases(self) -> list[PolicyRelease]:
        """All policy releases, newest first."""
        return sorted(map(_release, self._scan(_RELEASE)), key=lambda release: release.number, reverse=True)

    def _scan(self, prefix: str) -> list[RegistryItem]:
        try:
            return list(self._item.scan(RegistryItem.pk.startswith(prefix), consistent_read=True))
        except PynamoDBException as error:
            raise StoreUnavailable(f"the registry could not be read: {error.cause_response_code}") from error

    def lines(self, name: str, steps: int) -> list[Transition]:
        """Audit of a bundle or a policy release, oldest line first."""
        keys = [_line_key(name, number) for number in range(1, steps + 1)]
        try:
            items = list(self._item.batch_get(keys, consistent_read=True)) if keys else []
        except PynamoDBException as error:
            raise StoreUnavailable(f"the registry could not be read: {error.cause_response_code}") from error
        return [_line(name, item) for item in sorted(items, key=lambda item: item.pk)]

    def write(self, changes: Sequence[Change], pointer: Pointer | None = None) -> None:
        """Write the pointer, the items of bundles and releases, and their audit lines in one transaction.

        Raises PromotionConflict if one of them changed since it was read.
        """
        try:
            with TransactWrite(connection=self._connection) as transaction:
                if pointer is not None:
                    transaction.save(self._pointer_item(pointer), condition=_after_move(pointer.moves - 1))
                for made, line in changes:
                    stored = (
                        self._release_item(made)
                        if isinstance(made, PolicyRelease)
                        else self._bundle_item(made)
                    )
                    transaction.save(stored, condition=_after_step(made.steps - 1))
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
            challenger=_compact(_challenge(moved.challenger)) if moved.challenger else None,
            shadows=_compact(list(moved.shadows)) if moved.shadows else None,
            moves=moved.moves,
            policy=_compact(asdict(moved.policy)) if moved.policy else None,
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
            policy=made.policy,
        )

    def _release_item(self, made: PolicyRelease) -> RegistryItem:
        return self._item(
            _release_key(made.number),
            state=made.state,
            digest=made.digest,
            policy=made.policy,
            replaces=_compact(asdict(made.replaces)),
            proposal=_compact(asdict(made.proposal)) if made.proposal else None,
            created_at=made.created_at,
            renamed=_compact(dict(made.renamed)) if made.renamed else None,
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
        policy=item.policy,
    )


def _release(item: RegistryItem) -> PolicyRelease:
    return PolicyRelease(
        number=int(item.pk.removeprefix(_RELEASE)),
        digest=str(item.digest),
        policy=str(item.policy),
        replaces=PolicyInForce(**json.loads(str(item.replaces))),
        state=str(item.state),
        created_at=int(item.created_at or 0),
        proposal=Proposal(**json.loads(item.proposal)) if item.proposal else None,
        renamed=json.loads(item.renamed or "{}"),
        steps=int(item.steps or 0),
    )


def _challenge(challenge: Challenge) -> dict[str, Any]:
    """Stored form; the name of assignment only where a release changed the bundle's."""
    return {name: value for name, value in asdict(challenge).items() if name != "assignment" or value}


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


def _release_key(number: int) -> str:
    return f"{_RELEASE}{number:06}"


def release_name(number: int) -> str:
    """Name of a policy release in the audit."""
    return f"policy-{number}"


def _line_key(name: str, number: int) -> str:
    return f"transition#{name}#{number:06}"


def _compact(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
