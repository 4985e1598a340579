"""The registry: every bundle that a run made, and the one pointer that says what serves.

That is a bundle, and the version of every view that does not serve as it is declared.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from pynamodb.attributes import NumberAttribute, UnicodeAttribute
from pynamodb.exceptions import DoesNotExist, PutError, PynamoDBException
from pynamodb.expressions.condition import Condition
from pynamodb.models import Model

from candor.errors import BundleRefused, CandorError, StoreUnavailable
from candor.store.dynamodb import ATTEMPTS, CONNECT_TIMEOUT_S, READ_TIMEOUT_S, bound

CHAMPION: Final = "champion"
REGISTERED: Final = "registered"
REFUSED: Final = "refused"


_RUNNING, _DONE = "running", "done"
FLIPS_KEPT: Final = 20
"""So many flips stay on the pointer; each rollback takes one back."""


class PromotionConflict(CandorError):
    """Someone else moved the champion pointer in the meantime: look at it, then try again."""


class NothingToRollBack(CandorError):
    """The view was never flipped, or every flip of it has been taken back."""


class RegistryItem(Model):
    """The champion pointer (bundle, promoted_at, by, views, flips, challenger, shadows, moves) or one bundle (state, metrics, run, created_at)."""

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
    run = UnicodeAttribute(null=True)
    created_at = NumberAttribute(null=True)


@dataclass(frozen=True)
class Flip:
    """A view served version `before` (None: the declared one) until `at` (ms UTC), then `after`, by someone's word."""

    view: str
    before: str | None
    after: str | None
    at: int
    by: str


@dataclass(frozen=True)
class Challenge:
    """A bundle decides for a `share` of the customers (above 0, below 1) since `at` (ms UTC), by someone's word."""

    bundle: str
    share: float
    at: int
    by: str


@dataclass(frozen=True)
class Pointer:
    """What serves: the bundle (None before the first promotion), since when (ms UTC) and by whose word.

    `challenger` decides beside it; `shadows` score what was decided, and decide nothing.
    `views` names the version of every view that does not serve as declared; `flips` how it came to, oldest first.
    `moves` counts the pointer's writes: who moves it says from which count.
    """

    bundle: str | None = None
    promoted_at: int = 0
    by: str = ""
    views: Mapping[str, str] = field(default_factory=dict)
    flips: Sequence[Flip] = ()
    moves: int = 0
    challenger: Challenge | None = None
    shadows: Sequence[str] = ()


@dataclass(frozen=True)
class Registration:
    """One bundle: `registered` (it may serve) or `refused` (its gate failed), with the run that made it."""

    bundle: str
    state: str
    metrics: Mapping[str, Any]
    run: str
    created_at: int


@dataclass(frozen=True)
class Backfill:
    """A view's version being filled from the archive: begun when (ms UTC), and `done` once all of it is in."""

    version: str
    started_at: int
    done: bool


class Registry:
    """One registry table. Raises StoreUnavailable where DynamoDB does not answer."""

    def __init__(self, table: str) -> None:
        self._item = bound(RegistryItem, table)

    def register(self, registration: Registration) -> None:
        """Write a bundle's item once. Again with the same state changes nothing; a new verdict replaces the old."""
        item = self._item(
            _key(registration.bundle),
            state=registration.state,
            metrics=_compact(dict(registration.metrics)),
            run=registration.run,
            created_at=registration.created_at,
        )
        self._put(item, RegistryItem.pk.does_not_exist() | (RegistryItem.state != registration.state))

    def registration(self, sha: str) -> Registration | None:
        """What is known of a bundle, or None."""
        item = self._get(_key(sha))
        if item is None:
            return None
        return Registration(
            sha, str(item.state), json.loads(item.metrics or "{}"), str(item.run), int(item.created_at or 0)
        )

    def pointer(self) -> Pointer:
        """What serves now."""
        item = self._get(CHAMPION)
        if item is None:
            return Pointer()
        return Pointer(
            item.bundle,
            int(item.promoted_at or 0),
            str(item.by or ""),
            json.loads(item.views or "{}"),
            [Flip(**flip) for flip in json.loads(item.flips or "[]")],
            int(item.moves or 0),
            Challenge(**json.loads(item.challenger)) if item.challenger else None,
            json.loads(item.shadows or "[]"),
        )

    def promote(self, sha: str, *, by: str, at: int) -> Pointer:
        """Point at a registered bundle; a rollback is the same call with an earlier one.

        Already champion: nothing changes. Raises BundleRefused for an unknown bundle or one whose gate failed,
        PromotionConflict if the pointer moved between reading and writing.
        """
        self._require(sha)
        seen = self.pointer()
        if seen.bundle == sha:
            return seen
        challenger = None if seen.challenger and seen.challenger.bundle == sha else seen.challenger
        return self._move(replace(seen, bundle=sha, promoted_at=at, by=by, challenger=challenger))

    def challenge(self, sha: str, share: float, *, by: str, at: int) -> Pointer:
        """Let a registered bundle decide for a share of the customers, instead of any other challenger.

        Raises BundleRefused for an unknown or refused bundle, for the champion and for a share that is none,
        PromotionConflict if the pointer moved between reading and writing.
        """
        self._require(sha)
        if not 0.0 < share < 1.0:
            raise BundleRefused("a challenger's share is above 0 and below 1: for all there is a promotion")
        seen = self.pointer()
        if seen.bundle == sha:
            raise BundleRefused(f"bundle {sha[:12]} is the champion: name another challenger")
        return self._move(replace(seen, challenger=Challenge(sha, share, at, by)))

    def end_challenge(self) -> Pointer:
        """The champion decides for everyone. Without a challenger nothing changes. Raises PromotionConflict."""
        seen = self.pointer()
        return seen if seen.challenger is None else self._move(replace(seen, challenger=None))

    def shadow(self, shas: Sequence[str]) -> Pointer:
        """Let exactly these registered bundles score what is decided. Raises BundleRefused, PromotionConflict."""
        for sha in shas:
            self._require(sha)
        seen = self.pointer()
        wanted = list(dict.fromkeys(shas))
        return seen if wanted == list(seen.shadows) else self._move(replace(seen, shadows=wanted))

    def _require(self, sha: str) -> None:
        known = self.registration(sha)
        if known is None or known.state != REGISTERED:
            raise BundleRefused(
                f"bundle {sha[:12]} is {known.state if known else 'unknown'}: it cannot serve"
            )

    def flip(self, view: str, version: str | None, *, by: str, at: int) -> Pointer:
        """Serve another version of a view, None for the declared one. It serves already: nothing changes.

        Raises PromotionConflict if the pointer moved between reading and writing.
        """
        seen = self.pointer()
        before = seen.views.get(view)
        if before == version:
            return seen
        flips = [*seen.flips, Flip(view, before, version, at, by)][-FLIPS_KEPT:]
        return self._move(replace(seen, views=_with(seen.views, view, version), flips=flips))

    def roll_back(self, view: str) -> Pointer:
        """Take the latest flip of a view back. Raises NothingToRollBack, PromotionConflict."""
        seen = self.pointer()
        mine = [flip for flip in seen.flips if flip.view == view]
        if not mine:
            raise NothingToRollBack(f'view "{view}" serves as it is declared: there is no flip to take back')
        left = [flip for flip in seen.flips if flip is not mine[-1]]
        return self._move(replace(seen, views=_with(seen.views, view, mine[-1].before), flips=left))

    def begin_backfill(self, version: str, at: int) -> Backfill:
        """Note that the filling of `view@version` begins; one that was begun before goes on as of then."""
        key = f"backfill#{version}"
        self._put(self._item(key, state=_RUNNING, created_at=at), RegistryItem.pk.does_not_exist())
        found = self.backfill(version)
        assert found is not None
        return found

    def finish_backfill(self, version: str) -> None:
        """Note that `view@version` holds all of the archive."""
        begun = self.backfill(version)
        if begun is not None:
            item = self._item(f"backfill#{version}", state=_DONE, created_at=begun.started_at)
            self._put(item, RegistryItem.pk.exists())

    def backfill(self, version: str) -> Backfill | None:
        """What is known of the filling of `view@version`, or None."""
        item = self._get(f"backfill#{version}")
        return Backfill(version, int(item.created_at or 0), item.state == _DONE) if item else None

    def _move(self, pointer: Pointer) -> Pointer:
        """Write the pointer as the next after what it was read from."""
        moved = replace(pointer, moves=pointer.moves + 1)
        item = self._item(
            CHAMPION,
            bundle=moved.bundle,
            promoted_at=moved.promoted_at,
            by=moved.by,
            views=_compact(dict(moved.views)) if moved.views else None,
            flips=_compact([asdict(flip) for flip in moved.flips]) if moved.flips else None,
            challenger=_compact(asdict(moved.challenger)) if moved.challenger else None,
            shadows=_compact(list(moved.shadows)) if moved.shadows else None,
            moves=moved.moves,
        )
        first = RegistryItem.moves.does_not_exist()
        unmoved: Condition = (RegistryItem.moves == pointer.moves) if pointer.moves else first
        if not self._put(item, unmoved):
            raise PromotionConflict(
                "the pointer moved while this was decided; look at what serves now and try again"
            )
        return moved

    def _get(self, key: str) -> RegistryItem | None:
        try:
            return self._item.get(key, consistent_read=True)
        except DoesNotExist:
            return None
        except PynamoDBException as error:
            raise StoreUnavailable(f"the registry could not be read: {error.cause_response_code}") from error

    @staticmethod
    def _put(item: RegistryItem, condition: Condition) -> bool:
        """True if written, False if the condition did not hold."""
        try:
            item.save(condition=condition)
        except PutError as error:
            if error.cause_response_code == "ConditionalCheckFailedException":
                return False
            raise StoreUnavailable(f"the registry was not written: {error.cause_response_code}") from error
        return True


def _key(sha: str) -> str:
    return f"bundle#{sha}"


def _with(views: Mapping[str, str], view: str, version: str | None) -> dict[str, str]:
    """The versions in service once `view` serves `version`."""
    others = {name: serving for name, serving in views.items() if name != view}
    return others if version is None else {**others, view: version}


def _compact(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
