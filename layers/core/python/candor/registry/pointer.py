"""The one pointer: what serves, who decides beside it, who looks on, and the version of every view that is not the declared one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class VersionSwitch:
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
    switches: Sequence[VersionSwitch] = ()
    moves: int = 0
    challenger: Challenge | None = None
    shadows: Sequence[str] = ()

    def promoted(self, sha: str, *, by: str, at: int) -> Pointer:
        """With another champion; the challenge of the bundle itself is over."""
        challenger = None if self.challenger and self.challenger.bundle == sha else self.challenger
        return replace(self, bundle=sha, promoted_at=at, by=by, challenger=challenger)
