import doctest
import re
import zlib
from pathlib import Path

import pytest

from candor.features.aggregations import REGISTRY
from tests.docs import tables

PAGE = tables.PAGE.read_text(encoding="utf-8")
EXAMPLES = "\n".join(re.findall(r"^```pycon\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
TESTS = re.findall(r"\[`(test_\w+)`\]\(([^)]+)\)", PAGE)


def test_every_example_gives_what_the_page_says():
    runner = doctest.DocTestRunner(verbose=False)
    examples = doctest.DocTestParser().get_doctest(EXAMPLES, {}, "features.md", str(tables.PAGE), 0)

    results = runner.run(examples)

    assert (results.failed, results.attempted > 40) == (0, True)


def test_every_aggregation_is_worked_out():
    named = {aggregation.__name__ for aggregation in REGISTRY.values()}

    assert {name for name in named if f"{name}(" not in EXAMPLES} == set()


@pytest.mark.parametrize("name", ["hops", "exact", "item", "tiles"])
def test_a_table_is_what_the_code_says(name):
    """On failure run `python -m tests.docs.tables`."""
    assert tables.taken(PAGE, name) == tables.written()[name]


@pytest.mark.parametrize("blob", [tables.small_item(), tables.folded_item()], ids=["small", "folded"])
def test_the_annotations_cover_every_byte_of_an_item_once(blob):
    parts = tables.annotated(blob)

    assert b"".join(token for _, _, token, _ in parts) == blob
    assert [offset for _, offset, _, _ in parts] == [
        sum(len(token) for _, _, token, _ in parts[:index]) for index in range(len(parts))
    ]
    assert parts[-1][2] == zlib.crc32(blob[:-4]).to_bytes(4, "big")


def test_the_bytes_on_the_page_are_the_item():
    stated = re.findall(r"^\| \d+ \| `([0-9a-f ]+)` \|", tables.taken(PAGE, "item"), re.MULTILINE)

    assert bytes.fromhex("".join(stated)) == tables.small_item()


@pytest.mark.parametrize(("name", "file"), sorted(set(TESTS)))
def test_a_claim_names_a_test_that_exists(name: str, file: str):
    source = (Path(tables.PAGE).parent / file).read_text(encoding="utf-8")

    assert re.search(rf"^def {name}\(", source, re.MULTILINE)


def test_the_page_claims_with_tests():
    assert len(TESTS) > 30
