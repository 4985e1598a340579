import re
from pathlib import Path

import pytest

import lender
from candor.edge import openapi
from candor.edge.rest import STATUS_OF

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path):
    links = [link for link in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]

    assert [link for link in links if not (page.parent / link).exists()] == []


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_anchor_is_a_heading_of_its_page(page: Path):
    links = re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", page.read_text(encoding="utf-8"))
    targets = [
        (page.parent / path if path else page, anchor)
        for path, anchor in links
        if "://" not in path and (not path or path.endswith(".md"))
    ]

    assert [anchor for target, anchor in targets if anchor not in anchors(target)] == []


def test_every_page_is_reachable_from_the_readme():
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached:
            continue
        reached.add(page)
        links = LINK.findall(page.read_text(encoding="utf-8"))
        waiting += [
            (page.parent / link).resolve() for link in links if link.endswith(".md") and "://" not in link
        ]

    assert set(PAGES) - reached == set()


def test_what_where_things_are_names_is_in_the_files_that_it_links():
    page = ROOT / "docs" / "where-things-are.md"
    missing = []
    for row in re.findall(r"^\| .*\?.* \|$", page.read_text(encoding="utf-8"), re.MULTILINE):
        _, question, files, answer, _ = row.split("|")
        linked = [(page.parent / link).resolve() for link in LINK.findall(files)] + [ROOT / "cdk.json"]
        sources = [file for path in linked for file in (path.rglob("*.py") if path.is_dir() else [path])]
        text = "\n".join(f"{source} {source.read_text(encoding='utf-8')}" for source in sources)
        names = re.findall(r"`(?:[A-Z]\w*\.)?(\w+)`", answer)
        missing += [(question, name) for name in names if not re.search(rf"\b{name}\b", text)]

    assert missing == []


def test_the_example_of_an_answer_has_an_id_as_the_schema_has_it():
    page = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    (example,) = re.findall(r'"id": "(dec_[^"]*)"', page)
    (pattern,) = set(re.findall(r'"pattern": "(\^dec_[^"]*)"', openapi.text()))

    assert re.fullmatch(pattern, example)


def _row(event) -> str:
    about = ", ".join(entity.name for entity in event.entities)
    fields = ", ".join(f"`{name}` {field.kind}{'?' * field.optional}" for name, field in event.fields.items())
    return f"| `{event.name}` | {about} | {fields} |"


def test_the_events_page_says_what_the_declarations_say():
    page = (ROOT / "docs" / "reference" / "events.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]

    assert rows == [_row(event) for event in lender.DEFINITIONS.event_types.values()]


def test_the_problems_page_names_every_code_with_its_status():
    page = (ROOT / "docs" / "reference" / "api.md").read_text(encoding="utf-8")
    documented = {
        (code, int(status))
        for statuses, codes in re.findall(r"^\| ([\d, ]+) \| ([^|]+) \|", page, re.MULTILINE)
        for status in statuses.split(", ")
        for code in re.findall(r"`(\w+)`", codes)
    }
    sources = ROOT.glob("layers/core/python/candor/**/*.py")
    raised = set(
        re.findall(r'InvalidInput\(\s*"(\w+)"', "".join(path.read_text(encoding="utf-8") for path in sources))
    )

    # A stream's record is no request: an unreadable one is reported to the on-call engineer, not to a merchant.
    answered = {code for code in raised if not code.startswith("unreadable_")}

    assert {(code, STATUS_OF.get(code, 422)) for code in answered} <= documented
