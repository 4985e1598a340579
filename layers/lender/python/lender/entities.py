"""Entities: customer, merchant and device."""

from __future__ import annotations

from candor import Entity

customer = Entity("customer", key="checkout.applicant.token")
merchant = Entity("merchant", key="merchant_id", hot=True)
device = Entity("device", key="checkout.device.fingerprint")
