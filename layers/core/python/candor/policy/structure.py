"""Structure of a decision table: its graph, columns, rows and cells, before anything in it is evaluated."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Final

from candor.policy import TableRow

OUTPUTS: Final = TableRow.__struct_fields__
REQUIRED: Final = ("rule", "outcome")
HIT_POLICIES: Final = ("collect", "first")
TABLE: Final = "decisionTableNode"


def structure_faults(table: Mapping[str, Any]) -> list[str]:
    """Faults of a table's structure, one line each; only a table without any can be evaluated."""
    nodes = table.get("nodes")
    if not isinstance(nodes, list) or not all(isinstance(node, Mapping) for node in nodes):
        return ["the file has no nodes: save the decision from the GoRules editor"]
    tables = [node for node in nodes if node.get("type") == TABLE]
    if not tables:
        return ["the file has no decision table: add a table node in the GoRules editor"]
    return [fault for node in tables for fault in (*_unconnected(table, node), *_content(node))]


def row_name(content: Mapping[str, Any], place: int) -> str:
    """A row for a message: its number and `_id`."""
    name = content["rules"][place].get("_id")
    return f"row {place + 1}" + (f" ({name})" if name else "")


def column_name(column: Mapping[str, Any]) -> str:
    """A column for a message: its title and its id."""
    title, key = column.get("name") or column["id"], column["id"]
    return f'column "{title}"' + (f" ({key})" if title != key else "")


def suggestion(name: str, known: Collection[str]) -> str:
    """Question for the nearest known name, or a list of the known ones if they are few."""
    nearest = get_close_matches(name, known, 1, 0.6)
    if nearest:
        return f'; did you mean "{nearest[0]}"?'
    return f"; there are {', '.join(sorted(known))}" if len(known) <= 12 else ""


def _unconnected(table: Mapping[str, Any], node: Mapping[str, Any]) -> Iterator[str]:
    edges = [edge for edge in table.get("edges") or () if isinstance(edge, Mapping)]
    for end, kind in (("targetId", "input"), ("sourceId", "output")):
        if not any(edge.get(end) == node.get("id") for edge in edges):
            yield f'the table "{node.get("name") or node.get("id")}" is not connected with the {kind} node: draw the edge'


def _content(node: Mapping[str, Any]) -> list[str]:
    content = node.get("content")
    if not isinstance(content, Mapping):
        return [f'the table "{node.get("name")}" is empty: add columns and rows']
    shapes = list(_shapes(content))
    if shapes:
        return shapes
    return [*_columns(content), *_rows(content)]


def _shapes(content: Mapping[str, Any]) -> Iterator[str]:
    """Faults that leave no columns or rows to look at."""
    for part in ("inputs", "outputs", "rules"):
        members = content.get(part)
        if not isinstance(members, list) or not all(isinstance(member, Mapping) for member in members):
            yield f"the table has no list of {part}: save it from the GoRules editor"
        elif part != "rules" and not all(isinstance(member.get("id"), str) for member in members):
            yield f"a column of the {part} has no id: save the table from the GoRules editor"
        elif part == "outputs" and not all(isinstance(member.get("field"), str) for member in members):
            yield "an output column has no field: name one of " + ", ".join(OUTPUTS)
    if content.get("hitPolicy") not in HIT_POLICIES:
        yield f'the hit policy is none of {", ".join(HIT_POLICIES)}: write "collect", so that every row counts'


def _columns(content: Mapping[str, Any]) -> Iterator[str]:
    ids: set[str] = set()
    for column in (*content["inputs"], *content["outputs"]):
        if column["id"] in ids:
            yield f"{column_name(column)}: another column has the same id: rename one"
        ids.add(column["id"])
    fields = [column["field"] for column in content["outputs"]]
    for column in content["outputs"]:
        if column["field"] not in OUTPUTS:
            known = suggestion(column["field"], OUTPUTS)
            yield f'{column_name(column)}: there is no output "{column["field"]}"{known}'
        elif fields.count(column["field"]) > 1:
            yield f"{column_name(column)}: another column gives {column['field']} too: remove one"
    for name in REQUIRED:
        if name not in fields:
            yield f'the table has no output column "{name}": add it, every row needs one'


def _rows(content: Mapping[str, Any]) -> Iterator[str]:
    if not content["rules"]:
        yield "the table has no row, so it approves everyone: add the rules"
    ids = [column["id"] for column in (*content["inputs"], *content["outputs"])]
    for place, rule in enumerate(content["rules"]):
        for key, cell in rule.items():
            if key.startswith("_"):
                continue
            if key not in ids:
                known = suggestion(key, ids)
                yield f'{row_name(content, place)}, cell "{key}": there is no column "{key}", so the cell is ignored{known}'
            elif not isinstance(cell, str):
                column = next(each for each in (*content["inputs"], *content["outputs"]) if each["id"] == key)
                yield f"{row_name(content, place)}, {column_name(column)}: a cell is text: put the value in quotes"
