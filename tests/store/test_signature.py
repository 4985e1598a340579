"""The signer against botocore's, which is the oracle."""

from datetime import UTC, datetime

import pytest
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from hypothesis import given
from hypothesis import strategies as st

from candor.store.signed.client import AwsRequest, Credentials, CredentialScope, message
from tests.examples import examples

UNRESERVED = "ABCXYZabcxyz0189-_.~"
segments = st.text(UNRESERVED, min_size=1, max_size=8).filter(lambda segment: segment not in (".", ".."))
paths = st.lists(segments, max_size=4).map(lambda parts: "/" + "/".join(parts))
tokens = st.none() | st.text("ABCabc019+/=", min_size=1, max_size=60)
words = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=12)
moments = st.datetimes(datetime(2020, 1, 1), datetime(2099, 12, 31))  # noqa: DTZ001 - strategies take naive bounds
headers = st.dictionaries(
    st.sampled_from(["Content-Type", "X-Amz-Target", "x-amz-other"]),
    st.text("abcDEF019./-;=", min_size=1, max_size=20),
)


@examples(150)
@given(
    signer=st.sampled_from([auth.SigV4Auth, auth.S3SigV4Auth]),
    request=st.builds(
        AwsRequest, st.sampled_from(["GET", "POST", "PUT"]), paths, headers, st.binary(max_size=200)
    ),
    keys=st.tuples(words, st.text(UNRESERVED + "+/=", min_size=1, max_size=40), tokens),
    host=st.builds(lambda name, domain: f"{name}.{domain}:8000", words, words),
    region=words,
    service=words,
    moment=moments,
)
def test_headers_equal_botocores(signer, request, keys, host, region, service, moment):
    scope = CredentialScope(moment.strftime("%Y%m%dT%H%M%SZ"), region, service)
    ours = _headers(message(request, host, Credentials(*keys), scope), request)
    theirs = _signed_by_botocore(
        signer(BotocoreCredentials(*keys), service, region), request, host, ours, moment
    )
    assert ours["authorization"] == theirs["authorization"]
    assert {name: ours[name] for name in theirs} == theirs


def _headers(sent, request):
    """The headers as they are sent, below the right first line and above the body."""
    head, _, body = sent.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert len(headers) == len(lines)
    assert first == f"{request.method} {request.path} HTTP/1.1"
    assert (int(headers["content-length"]), body) == (len(request.body), request.body)
    return headers


def _signed_by_botocore(signer, request, host, ours, moment):
    """Signs the same request; its payload hash is a header too, as S3 wants it and the others allow."""
    more = {"X-Amz-Content-SHA256": ours["x-amz-content-sha256"]}
    wire = AWSRequest(
        request.method,
        f"https://{host}{request.path}",
        headers={**request.headers, **more},
        data=request.body,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(auth, "get_current_datetime", lambda: moment.replace(tzinfo=UTC))
        signer.add_auth(wire)
    return {name.lower(): value for name, value in wire.headers.items()}
