"""A view's plan: bulk operations equal repeated single ones."""

from functools import reduce

from hypothesis import given
from hypothesis import strategies as st

from candor.clock import DAY
from candor.features.plan import plan_of
from tests.builders import NOW, bits, event, view_of

PLAN = plan_of(view_of(["1h", "7d", "lifetime"]))
rows = st.lists(
    st.builds(
        lambda number, ago, kind, amount, word: PLAN.row(
            event(f"e{number}", NOW - ago, type=kind, amount=amount, kind=word)
        ),
        st.integers(0, 10**6),
        st.sampled_from([0, 1, DAY]),
        st.sampled_from(["payment.succeeded", "payment.failed"]),
        st.none() | st.integers(-100, 100) | st.sampled_from([-(10**12), 10**12]),
        st.sampled_from(["a", "b", None]),
    ),
    max_size=12,
    unique_by=lambda row: row[1],
)


def stored(partials):
    return [a.pack(partial) for a, partial in zip(PLAN.aggregations, partials, strict=True)]


def one_by_one(inserted):
    return reduce(PLAN.with_row, inserted, PLAN.empty)


@given(inserted=rows)
def test_rows_together_are_rows_one_by_one(inserted):
    assert stored(PLAN.with_rows(PLAN.empty, inserted)) == stored(one_by_one(inserted))


@given(parts=st.lists(rows, min_size=1, max_size=6))
def test_partials_together_are_partials_one_by_one(parts):
    partials = [one_by_one(part) for part in parts]
    assert stored(PLAN.all_merged(partials)) == stored(reduce(PLAN.merged, partials))


@given(parts=st.lists(rows, max_size=6))
def test_what_is_stored_of_tiles_is_read_again(parts):
    packed = [stored(one_by_one(part)) for part in parts]
    assert [stored(partials) for partials in PLAN.unpacked(packed)] == packed


@given(parts=st.lists(rows, min_size=1, max_size=4))
def test_a_window_that_holds_no_more_than_the_shorter_one_has_its_values(parts):
    partials = [one_by_one(part) for part in parts[:1]] * 3
    alone = PLAN.finalized([partials[0], list(partials[0]), one_by_one(parts[0])], NOW)
    assert bits(PLAN.finalized(partials, NOW)) == bits(alone)
