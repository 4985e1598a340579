"""Every view that the lender declares, on random valid events, against the oracle."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candor.clock import DAY, HOUR
from candor.features.vector import view_values
from candor.store.memory import MemoryFeatureStore
from simulation.oracle import expected, left_edge, seen_before, seen_lately
from tests.builders import NOW, bits, random_event, take_in
from tests.examples import examples

lender = pytest.importorskip("lender")
DEFINITIONS = lender.DEFINITIONS


def moments_for(rng: random.Random) -> list[int]:
    """Moments around now, on left edges of the declared windows, and spread over half a year."""
    labels = {label for view in DEFINITIONS.views for label in view.windows} - {"lifetime"}
    edges = [left_edge(label, NOW) + step for label in sorted(labels) for step in (-1, 0, 1)]
    spread = [NOW - rng.randrange(180 * DAY) // HOUR * HOUR for _ in range(40)]
    return [NOW - 1, NOW, NOW + 1, *edges, *spread]


@examples(25)
@given(seed=st.integers(0, 2**32), size=st.sampled_from([1, 30, 300]))
def test_declared_views_equal_the_oracle(seed, size):
    rng = random.Random(seed)
    moments = moments_for(rng)
    events = [random_event(n, DEFINITIONS, moments, rng) for n in range(size)]
    stream = events + rng.sample(events, size // 3)
    rng.shuffle(stream)
    store = MemoryFeatureStore()
    take_in(stream, DEFINITIONS, store, batch=rng.randrange(1, 100))
    for view in DEFINITIONS.views:
        for number in range(3):
            key = f"{view.entity.name}_{number}"
            reads = list(store.load(view.item_keys(key)).values())
            for q in (NOW, NOW + 1, NOW + DAY):
                state, values = view_values(view, reads, q)
                assert bits(values) == bits(expected(view, events, key, q)), (view.name, key, q)
                assert state in ("present", "absent")
                present = state == "present"
                assert seen_lately(view, events, key, q) <= present <= seen_before(view, events, key, q)


def test_every_declared_view_is_fed_by_some_event():
    for view in DEFINITIONS.views:
        assert any(view in DEFINITIONS.views_by_event[event.name] for event in view.events)
