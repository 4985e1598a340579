"""Merchant API keys: random secrets, stored only as SHA-256."""

from __future__ import annotations

import hashlib
import secrets
from base64 import b64decode

from pynamodb.exceptions import DoesNotExist

from candor.store.dynamodb import MerchantItem


def new_key(*, livemode: bool) -> str:
    """A new merchant key with 192 random bits."""
    return ("sk_live_" if livemode else "sk_test_") + secrets.token_urlsafe(24)


def hashed(key: str) -> str:
    """SHA-256 (hex) of a key. Keys are random, so a plain hash cannot be reversed by guessing."""
    return hashlib.sha256(key.encode()).hexdigest()


def usage_key(merchant_id: str) -> str:
    """Value of the merchant's usage plan key in API Gateway, shared by all its API keys.

    Not a secret: the gateway accepts it from the authoriser alone, never from a caller.
    """
    return hashed(f"usage\0{merchant_id}")


def register(table: type[MerchantItem], key: str, merchant_id: str, *, livemode: bool) -> None:
    """Store a key's hash for a merchant."""
    table(hashed(key), merchant_id=merchant_id, status="active", livemode=livemode).save()


def merchant_of(table: type[MerchantItem], key: str) -> MerchantItem | None:
    """The active merchant that owns the key, or None."""
    try:
        merchant = table.get(hashed(key))
    except DoesNotExist:
        return None
    return merchant if merchant.status == "active" else None


def key_in(authorization: str | None) -> str | None:
    """The key in an Authorization header, `Bearer <key>` or `Basic base64(<key>:)`; None if absent."""
    scheme, _, value = (authorization or "").strip().partition(" ")
    if scheme.lower() == "bearer":
        return value.strip() or None
    if scheme.lower() != "basic":
        return None
    try:
        return b64decode(value, validate=True).decode().partition(":")[0] or None
    except ValueError:
        return None
