"""Tokens in the results of `candor sql`, replaced by hashes that still join and group.

The hash is keyed (as ADR 0020 wants of whatever derives from a token), and the key is random and lives as long as one
query. A plain hash, shortened or not, could be guessed back by anyone who has a list of tokens. A hash under the
stage's secret would be a second pseudonym, valid forever in everything that was ever printed, and would need a role
that reads the secret. Within one query equal tokens have equal hashes, which is all that joins and groups need; two
results cannot be linked. 64 bits are kept: among ten million tokens the chance that any two collide is below 1 in
100,000.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import duckdb

from candor.features.definitions import Definitions
from candor.hmac_key import HmacKey
from history.archive.tables import ArchiveTable

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

PREFIX: Final = "hidden:"
_DIGITS: Final = 16

PERSONAL_MEMBERS: Final = frozenset({"token", "fingerprint", "email_sha256", "ip_prefix"})
"""Members of a checkout that identify a person or a device, at any depth of an event's data or a record."""

_VARCHAR: Final = "VARCHAR"


class TokenHashes:
    """Hashes of the tokens of one query, with the readers of every form in which a column holds tokens.

    Entities whose key is the merchant of a request are businesses, and are shown.
    """

    def __init__(self, definitions: Definitions, key: bytes | None = None) -> None:
        self._key = HmacKey(key or secrets.token_bytes(32))
        self._open = {name for name, it in definitions.entities.items() if it.key == "merchant_id"}
        self._views = {f"{view.name}@{view.version}": view for view in definitions.kept}
        self._open_views = {view.name for view in definitions.kept if view.entity.name in self._open}

    def of(self, token: str) -> str:
        """Hash of a token."""
        return PREFIX + self._key.digest(token.encode()).hex()[:_DIGITS]

    def entities(self, entities: Mapping[str, str]) -> dict[str, str]:
        """Entities of an event, with hashes in the place of tokens."""
        return {
            kind: token if kind in self._open or token is None else self.of(token)
            for kind, token in entities.items()
        }

    def item_key(self, key: str) -> str:
        """Key of an item: view, version, hash of the token, shard."""
        view, _, token = key.partition("#")
        if view.partition("@")[0] in self._open_views:
            return key
        known = self._views.get(view)
        token, slash, shard = token.rpartition("/") if known and known.shards > 1 else (token, "", "")
        return f"{view}#{self.of(token)}{slash}{shard}"

    def json(self, text: str, entities: Mapping[str, str] | None = None) -> str:
        """JSON text without personal members, and without these entities' tokens anywhere in a text.

        What is no JSON is hashed as a whole.
        """
        try:
            value = json.loads(text)
        except ValueError:
            return self.of(text)
        tokens = {token for kind, token in (entities or {}).items() if kind not in self._open and token}
        tokens |= set(_personal(value))
        # Longer ones first: a token may be the beginning of another.
        return json.dumps(self._hidden(value, sorted(tokens, key=len, reverse=True)), separators=(",", ":"))

    def _record(self, text: str) -> str:
        """Record of a decision; DuckDB counts the parameters."""
        return self.json(text)

    def _hidden(self, value: Any, tokens: Sequence[str]) -> Any:
        if isinstance(value, dict):
            return {self._hidden(name, tokens): self._hidden(each, tokens) for name, each in value.items()}
        if isinstance(value, list):
            return [self._hidden(each, tokens) for each in value]
        if not isinstance(value, str):
            return value
        for token in tokens:
            if token in value:
                # What surrounds it is searched on its own: a short token may occur within a hash.
                before, _, after = value.partition(token)
                return f"{self._hidden(before, tokens)}{self.of(token)}{self._hidden(after, tokens)}"
        return value

    def register(self, engine: DuckDBPyConnection) -> None:
        """Make the functions known to an engine; `hidden('token')` is also for conditions of a query."""
        text_map = duckdb.map_type(duckdb.type(_VARCHAR), duckdb.type(_VARCHAR))
        text = duckdb.type(_VARCHAR)
        engine.create_function("hidden", self.of, [text], text)
        engine.create_function("hidden_entities", self.entities, [text_map], text_map)
        engine.create_function("hidden_key", self.item_key, [text], text)
        engine.create_function("hidden_record", self._record, [text], text)
        engine.create_function("hidden_data", self.json, [text, text_map], text)


_EXPRESSIONS: Final = {
    "text": "hidden({0})",
    "entities": "hidden_entities({0})",
    "item key": "hidden_key({0})",
    "record": "hidden_record({0})",
    "data": "hidden_data({0}, entities)",
}
"""SQL of a column without its tokens, by the form that `ArchiveTable.tokens` declares."""


def replacements(table: ArchiveTable) -> str:
    """DuckDB's REPLACE clause that hides a table's tokens."""
    columns = ", ".join(f"{_EXPRESSIONS[form].format(name)} AS {name}" for name, form in table.tokens.items())
    return f"REPLACE ({columns})" if columns else ""


def _personal(value: Any) -> Iterator[str]:
    """Texts at personal members, at any depth."""
    children: Iterable[Any] = ()
    if isinstance(value, dict):
        yield from (
            each
            for name, each in value.items()
            if name in PERSONAL_MEMBERS and isinstance(each, str) and each
        )
        children = value.values()
    elif isinstance(value, list):
        children = value
    for child in children:
        yield from _personal(child)
