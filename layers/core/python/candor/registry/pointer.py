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
    """A bundle that decides for a `share` of the customers (above 0, below 1) since `at` (ms UTC), by an actor.

    Customers are assigned by `assignment`, or by the bundle's name if it is empty: a policy release names the challenger
    anew, and its customers must stay with it.
    """

    bundle: str
    share: float
    at: int
    by: str
    assignment: str = ""

    def renamed(self, bundle: str) -> Challenge:
        """The same challenge by another bundle, with the same customers."""
        first = self.assignment or self.bundle
        return replace(self, bundle=bundle, assignment="" if first == bundle else first)


@dataclass(frozen=True)
class PolicyInForce:
    """The released policy that decides: the release's number (0: the table before the first release) and its names.

    `digest` names table and reasons together, `policy` is the table's hash as decisions record it. `at` (ms UTC) and
    `by` are of the last change, `rolled_back` is true if that was a rollback.
    """

    number: int
    digest: str
    policy: str
    at: int
    by: str
    rolled_back: bool = False


@dataclass(frozen=True)
class Pointer:
    """The serving bundle (None before the first promotion), since when (ms UTC) and by whom.

    `challenger` decides for its share; `shadows` score decisions without effect.
    `views` holds versions of views that do not serve as declared; `switches` their history, oldest first.
    `moves` counts the pointer's writes, for optimistic locking. `policy` is None until the first policy release; from
    then on, a bundle with another table may not serve.
    """

    bundle: str | None = None
    promoted_at: int = 0
    by: str = ""
    views: Mapping[str, str] = field(default_factory=dict)
    switches: Sequence[VersionSwitch] = ()
    moves: int = 0
    challenger: Challenge | None = None
    shadows: Sequence[str] = ()
    policy: PolicyInForce | None = None

    @property
    def deciding(self) -> list[str]:
        """The bundles that decide: the champion, and the challenger if there is one."""
        return [sha for sha in (self.bundle, self.challenger and self.challenger.bundle) if sha]

    def released(self, renamed: Mapping[str, str], policy: PolicyInForce) -> Pointer:
        """The pointer after a policy release or its rollback; `renamed` maps the deciding bundles to the new ones.

        `promoted_at` stays: the model is the same. A challenger that is now the champion's equal ends.
        """
        champion, challenger = renamed.get(self.bundle or "", self.bundle), self.challenger
        if challenger is not None:
            challenger = challenger.renamed(renamed.get(challenger.bundle, challenger.bundle))
        if challenger is not None and challenger.bundle == champion:
            challenger = None
        return replace(self, bundle=champion, challenger=challenger, policy=policy)

    def promoted(self, sha: str, *, by: str, at: int) -> Pointer:
        """The pointer after a promotion, which also ends a challenge of the same bundle."""
        challenger = None if self.challenger and self.challenger.bundle == sha else self.challenger
        return replace(self, bundle=sha, promoted_at=at, by=by, challenger=challenger)
