"""API keys of the local merchants: made once and kept beside the state; the table stores only their hashes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from candor.store.dynamodb import MerchantItem, bound
from candor.store.merchants import new_key, register


class MerchantKeys:
    """Test-mode keys by merchant id."""

    def __init__(self, file: Path, table: str) -> None:
        self._file = file
        self._table = bound(MerchantItem, table)
        self._keys: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}

    def register(self, merchants: Iterable[str]) -> None:
        """Make a key for every merchant that has none, and register all of them in the table."""
        for merchant in merchants:
            self._keys.setdefault(merchant, new_key(livemode=False))
        self._keep()
        for merchant, key in self._keys.items():
            register(self._table, key, merchant, livemode=False)

    def _keep(self) -> None:
        """Write the keys atomically, before any is used, readable by the owner only."""
        new = self._file.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(json.dumps(self._keys, indent=1))
        new.replace(self._file)

    def key_of(self, merchant: str) -> str:
        """The merchant's key."""
        return self._keys[merchant]
