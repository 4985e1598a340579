"""HMAC against the standard library's."""

import hmac

from hypothesis import given
from hypothesis import strategies as st

from candor.hmac_key import HmacKey, hmac_key


@given(st.binary(max_size=200), st.lists(st.binary(max_size=300), max_size=3))
def test_a_key_signs_as_hmac_does_however_often(key, texts):
    ready = HmacKey(key)
    assert [ready.digest(text) for text in texts] == [hmac.digest(key, text, "sha256") for text in texts]
    assert hmac_key(key).digest(b"x") == hmac.digest(key, b"x", "sha256")
