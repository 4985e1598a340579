"""Credentials of a sandbox: from its environment, or from the endpoint that a restored one is given.

With SnapStart, keys in the environment would expire before a restore; Lambda serves them at
`AWS_CONTAINER_CREDENTIALS_FULL_URI`. botocore supports both, at the cost of its import.
"""

from __future__ import annotations

import os
from math import inf
from typing import NamedTuple

import msgspec

from candor.clock import parse_rfc3339
from candor.errors import StoreUnavailable
from candor.store.signed.client import Credentials

_TIMEOUT_S = 1.0
_HOSTS = ("127.0.0.1", "::1", "localhost")
"""Plain HTTP may carry keys only within the sandbox."""


class Lease(NamedTuple):
    """Credentials, and their expiry in ms UTC."""

    credentials: Credentials
    expires_at: float


class _LeaseBody(msgspec.Struct):
    AccessKeyId: str
    SecretAccessKey: str
    Token: str
    Expiration: str


def lease() -> Lease:
    """Current credentials of the sandbox. Raises `StoreUnavailable` if they cannot be fetched."""
    address = os.environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    if not address or "AWS_ACCESS_KEY_ID" in os.environ:
        return Lease(Credentials.from_environment(), inf)
    try:
        answer = msgspec.json.decode(_fetched(address), type=_LeaseBody)
        expires_at = parse_rfc3339(answer.Expiration)
    except (OSError, ValueError, msgspec.DecodeError) as error:
        raise StoreUnavailable(f"credentials of the container: {type(error).__name__}") from error
    return Lease(Credentials(answer.AccessKeyId, answer.SecretAccessKey, answer.Token), expires_at)


def _fetched(address: str) -> bytes:
    import http.client  # only a restored sandbox needs it
    import urllib.parse

    place = urllib.parse.urlsplit(address)
    if place.scheme != "http" or place.hostname not in _HOSTS:
        raise StoreUnavailable(
            "credentials of the container: AWS_CONTAINER_CREDENTIALS_FULL_URI must be this host's"
        )
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=_TIMEOUT_S)
    try:
        token = os.environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN", "")
        connection.request("GET", place.path or "/", headers={"Authorization": token})
        answer = connection.getresponse()
        body = answer.read()
    except http.client.HTTPException as error:
        raise StoreUnavailable(f"credentials of the container: {type(error).__name__}") from error
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise StoreUnavailable(f"credentials of the container: {answer.status}")
    return body
