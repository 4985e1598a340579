"""The pointer: champion, challenger, shadows, and the views that serve another version than the declared one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class VersionSwitch:
    """Switch of a view from version `before` (None: the declared one) to `after` at `at` (ms UTC), by an actor."""

    view: str
    before: str | None
    after: str | None
    at: int
    by: str


@dataclass(frozen=True)
class Challenge:
    """A bundle that decides for a `share` of the customers (above 0, below 1) since `at` (ms UTC), by an actor."""

    bundle: str
    share: float
    at: int
    by: str


@dataclass(frozen=True)
class Pointer:
    """The serving bundle (None before the first promotion), since when (ms UTC) and by whom.

    `challenger` decides for its share; `shadows` score decisions without effect.
    `views` holds versions of views that do not serve as declared; `switches` their history, oldest first.
    `moves` counts the pointer's writes, for optimistic locking.
    """

    bundle: str | None = None
    promoted_at: int = 0
    by: str = ""
    views: Mapping[str, str] = field(default_factory=dict)
    switches: Sequence[VersionSwitch] = ()
    moves: int = 0
    challenger: Challenge | None = None
    shadows: Sequence[str] = ()

    def promoted(self, sha: str, *, by: str, at: int) -> Pointer:
        """The pointer after a promotion, which also ends a challenge of the same bundle."""
        challenger = None if self.challenger and self.challenger.bundle == sha else self.challenger
        return replace(self, bundle=sha, promoted_at=at, by=by, challenger=challenger)
