"""API Gateway's authoriser: a merchant key → its merchant."""

import os
from typing import Any

from aws_lambda_powertools import Logger

from candor.store.dynamodb import MerchantItem, bound
from candor.store.merchants import key_in, merchant_of, usage_key

LOGGER = Logger()
MERCHANTS = bound(MerchantItem, os.environ["MERCHANTS_TABLE"])


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Allow the caller's merchant, or answer 401 by the exception that API Gateway defines."""
    headers = {name.lower(): value for name, value in (event.get("headers") or {}).items()}
    key = key_in(headers.get("authorization"))
    merchant = merchant_of(MERCHANTS, key) if key else None
    if merchant is None:
        LOGGER.info("refused", extra={"reason": "unknown_key" if key else "no_key"})
        raise Exception("Unauthorized")  # noqa: TRY002 - API Gateway turns exactly this exception into 401
    api, stage = event["methodArn"].split("/")[:2]
    statement = {"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": f"{api}/{stage}/*"}
    return {
        "principalId": merchant.merchant_id,
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
        "usageIdentifierKey": usage_key(merchant.merchant_id),
        "context": {"merchant_id": merchant.merchant_id, "livemode": str(merchant.livemode).lower()},
    }
