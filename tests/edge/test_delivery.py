"""Pages to an API with partial failures: everything is sent in order, and only failed items are retried."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from candor.edge.delivery import ATTEMPTS, deliver


class Api:
    """Refuses each item as often as `bad` says."""

    def __init__(self, bad: dict[str, int] | None = None) -> None:
        self.bad = dict(bad or {})
        self.calls: list[list[str]] = []
        self.held: list[str] = []

    def __call__(self, page: list[str]) -> list[dict[str, str]]:
        self.calls.append(list(page))
        return [self._answer(item) for item in page]

    def _answer(self, item: str) -> dict[str, str]:
        if self.bad.get(item, 0) > 0:
            self.bad[item] -= 1
            return {"ErrorCode": "ServiceUnavailableException"}
        self.held.append(item)
        return {"RecordId": item}


def test_a_page_ends_at_its_number_and_at_its_bytes():
    api = Api()
    items = ["aaaa", "bb", "cccccc", "d", "e", "f", "g"]
    assert deliver(api, items, len, most=3, limit=8) == []
    assert api.calls == [["aaaa", "bb"], ["cccccc", "d", "e"], ["f", "g"]]


def test_an_item_larger_than_a_page_is_sent_alone_and_the_api_decides():
    api = Api()
    assert deliver(api, ["a", "b" * 20, "c"], len, most=3, limit=8) == []
    assert [len(page) for page in api.calls] == [1, 1, 1]


def test_nothing_is_no_call():
    api = Api()
    assert deliver(api, [], len, most=3, limit=8) == []
    assert api.calls == []


@given(
    st.lists(st.integers(1, 9), max_size=40),
    st.dictionaries(st.integers(0, 39), st.integers(1, ATTEMPTS + 1)),
    st.integers(1, 7),
    st.integers(1, 30),
)
def test_everything_arrives_once_in_its_page_or_is_named(sizes, bad, most, limit):
    items = [f"{place}:" + "x" * size for place, size in enumerate(sizes)]
    api = Api({items[place]: times for place, times in bad.items() if place < len(items)})
    refused = deliver(api, items, len, most=most, limit=limit)
    assert refused == [items[p] for p, times in sorted(bad.items()) if p < len(items) and times >= ATTEMPTS]
    assert sorted(api.held + refused) == sorted(items)
    assert all(len(page) <= most for page in api.calls)
    assert all(len(page) == 1 or sum(map(len, page)) <= limit for page in api.calls)
    first_tries = [item for page in api.calls for item in page]
    assert list(dict.fromkeys(first_tries)) == items
