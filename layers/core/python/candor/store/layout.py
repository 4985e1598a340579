"""Attribute names of stored items: one table for the models, the scorer's client and the readers of table streams.

They are short because DynamoDB counts a name's bytes with every read and write. Code uses the constants; the letters
are in the tables, the streams and nowhere else.
"""

from __future__ import annotations

from typing import Final

KEY: Final = "pk"
EXPIRES_AT: Final = "ttl"
"""When DynamoDB may delete the item (s)."""

# Feature items and markers.
STATE: Final = "b"
"""Encoded `ViewState`."""
BIRTH: Final = "vb"
"""First half of the version: when the item was created (ns)."""
NUMBER: Final = "vn"
"""Second half of the version: how many commits since; 0 is a tombstone."""
APPLIED_AT: Final = "u"
"""When the commit was made (ms)."""
EVENT_IDS: Final = "ids"
"""Ids that the commit applied, a JSON list."""
FILLED_BEFORE: Final = "fb"
"""A backfill wrote the item: events before this moment (ms) are from the archive."""
REBUILT: Final = "rb"
LEFT_OUT: Final = "lo"
"""The commit left out events that are too late for every window."""
UNSETTLED: Final = "us"
"""Ids of voids that wait for their event's commit, a JSON list."""
HEALING: Final = "hl"
FINGERPRINT: Final = "fp"
"""Hash of what a marker's event counted."""
CLAIMANT: Final = "cl"
"""Bulk job that wrote a marker before the item that counts its event."""

# Decisions.
MERCHANT: Final = "m"
REQUEST: Final = "f"
"""Fingerprint of the request's body."""
RECORD: Final = "r"
ANSWER: Final = "a"
MOMENT: Final = "q"
"""Moment of the decision (ms)."""
