"""Item format: MessagePack and a CRC-32."""

from __future__ import annotations

import struct
import zlib
from hashlib import blake2b
from typing import Any

import msgspec

from candor.errors import CorruptItem
from candor.features.views import FeatureView

CODEC = 4
READABLE = (2, 3, CODEC)
"""Codec 2 had a boolean `markers` in place of the flags, and no members after it; it was folded if its head was full.
Codec 3 kept seconds alone in the ring, and voids as rows after their moment."""

_INT64 = struct.Struct(">q")
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(list)


def seal(members: list[Any]) -> bytes:
    """Members → the bytes of an item."""
    body = _ENCODER.encode(members)
    return body + zlib.crc32(body).to_bytes(4, "big")


def unseal(view: FeatureView, blob: bytes) -> tuple[int, list[Any]]:
    """Inverse of `seal`: the codec, and the members after codec and definition.

    Raises `CorruptItem` for damaged bytes, and for an item of another definition.
    """
    body, checksum = blob[:-4], blob[-4:]
    if zlib.crc32(body).to_bytes(4, "big") != checksum:
        raise CorruptItem(f'an item of view "{view.name}" fails its checksum')
    try:
        members = _DECODER.decode(body)
    except msgspec.DecodeError as error:
        raise CorruptItem(f'an item of view "{view.name}" is not MessagePack') from error
    if len(members) < 2:
        raise CorruptItem(f'an item of view "{view.name}" has no codec')
    if members[0] not in READABLE or members[1] != view.version:
        raise CorruptItem(f'an item of view "{view.name}" has codec {members[0]} and definition {members[1]}')
    return members[0], members[2:]


def id_hash(event_id: str) -> int:
    """64-bit BLAKE2b of an event id, as stored in the ring."""
    (digest,) = _INT64.unpack(blake2b(event_id.encode(), digest_size=8).digest())
    return int(digest)
