"""Customers and merchants of the simulated lender, drawn from a generator that the caller seeds."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from candor.clock import DAY, MINUTE

MONTH_WEIGHT = (0.85, 0.85, 0.95, 1.0, 1.0, 1.0, 0.95, 0.95, 1.0, 1.05, 1.15, 1.2)
"""Share of an ordinary day's checkouts, January to December."""

NIGHT = (0.2, 0.1, 0.1, 0.1, 0.1, 0.2)
MORNING = (0.4, 0.6, 0.8, 0.9, 1.0, 1.1)
AFTERNOON = (1.3, 1.2, 1.1, 1.1, 1.2, 1.3)
EVENING = (1.5, 1.7, 1.8, 1.6, 1.0, 0.5)
HOUR_WEIGHT = (*NIGHT, *MORNING, *AFTERNOON, *EVENING)
WEEKEND_WEIGHT = 1.25
SATURDAY = 5
MEMBERSHIP = 120 * DAY
"""Time (ms) that a customer buys for. As many leave as join, so the customers of a month look like those of the last."""

_HIGHEST = max(MONTH_WEIGHT) * max(HOUR_WEIGHT) * WEEKEND_WEIGHT


@dataclass(frozen=True)
class Merchant:
    """A merchant: category, typical basket (minor units), share of checkouts, added risk (log odds)."""

    id: str
    category: str
    basket: int
    share: float
    risk: float


@dataclass(frozen=True)
class Customer:
    """A customer: latent `risk` is standard normal and shows only in behaviour; `pace` is checkouts a day.

    They buy from `joined_at` to before `leaves_at` (ms UTC).
    """

    token: str
    device: str
    joined_at: int
    leaves_at: int
    risk: float
    means: float
    pace: float


BRANDS = (
    Merchant("mer_northwind", "electronics", 32_000, 0.14, 0.4),
    Merchant("mer_lumen", "lighting", 14_000, 0.08, -0.2),
    Merchant("mer_fable", "books", 5_500, 0.10, -0.5),
    Merchant("mer_harbor", "apparel", 9_500, 0.20, 0.0),
    Merchant("mer_stride", "footwear", 11_000, 0.14, 0.1),
    Merchant("mer_hearth", "furniture", 42_000, 0.07, -0.1),
    Merchant("mer_petal", "beauty", 6_500, 0.12, 0.0),
    Merchant("mer_summit", "outdoor", 18_000, 0.08, -0.3),
    Merchant("mer_pixel", "gaming", 24_000, 0.07, 0.9),
)
"""Brands with the share of all their shops."""

CITIES = ("atlanta", "austin", "boston", "chicago", "denver", "miami", "phoenix", "seattle")

# A merchant's features are shared by all its checkouts: with a few merchants alone they would differ between any two
# periods by chance.
MERCHANTS = tuple(
    replace(brand, id=f"{brand.id}_{city}", share=brand.share / len(CITIES))
    for brand in BRANDS
    for city in CITIES
)


def customer(rng: random.Random, number: int, opening: int, closing: int) -> Customer:
    """Draw one customer, who joins at a random moment between `opening` and `closing` (ms)."""
    joined_at = rng.randrange(opening, closing)
    return Customer(
        token=f"app_tok_{number:05d}_{rng.getrandbits(32):08x}",
        device=f"dev_{rng.getrandbits(48):012x}",
        joined_at=joined_at,
        leaves_at=joined_at + MEMBERSHIP,
        risk=rng.gauss(0.0, 1.0),
        means=math.exp(rng.gauss(0.0, 0.35)),
        pace=0.045 * math.exp(rng.gauss(0.0, 0.45)),
    )


def season(at: int) -> float:
    """Demand at a moment (ms), relative to an ordinary hour."""
    day = datetime.fromtimestamp(at / 1000, UTC)
    weekend = WEEKEND_WEIGHT if day.weekday() >= SATURDAY else 1.0
    return MONTH_WEIGHT[day.month - 1] * HOUR_WEIGHT[day.hour] * weekend


def visits(rng: random.Random, pace: float, opening: int, closing: int) -> Iterator[int]:
    """Moments (ms) of a customer's checkouts: a Poisson process thinned to the season."""
    at = float(opening)
    while True:
        at += rng.expovariate(pace * _HIGHEST) * DAY
        if at >= closing:
            return
        if rng.random() * _HIGHEST < season(int(at)):
            yield int(at)
            if rng.random() < 0.06:  # a second purchase in the same hour
                yield min(int(at) + rng.randrange(2 * MINUTE, 50 * MINUTE), closing - 1)
