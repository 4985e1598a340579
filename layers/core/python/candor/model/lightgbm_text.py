"""LightGBM's model text: its columns, its splits, and what of it serving never reads."""

from __future__ import annotations

import re
from typing import Final

_TREES: Final = re.compile(r"^(?=Tree=\d+\n)", flags=re.MULTILINE)
_UNREAD: Final = re.compile(
    r"^(?:split_gain|leaf_weight|internal_weight|internal_value)=[^\n]*\n", flags=re.MULTILINE
)
_SIZES: Final = re.compile(r"^tree_sizes=[^\n]*$", flags=re.MULTILINE)
_END: Final = "end of trees"


def columns(text: str) -> tuple[str, ...]:
    """Names of the model's columns, in order; empty if the text names none."""
    line = next(
        (line for line in text.split("\n", 64) if line.startswith("feature_names=")), "feature_names="
    )
    return tuple(line.removeprefix("feature_names=").split())


def splits(text: str) -> bool:
    """Whether any tree splits on a feature."""
    return "\nsplit_feature=" in text.replace("\nsplit_feature=\n", "\n")


def served(text: str) -> str:
    """The same trees in half the bytes, for a shorter cold start: scores and contributions have the same bits.

    Gains, weights and inner values are removed; counts stay, since TreeSHAP reads them. Source: the constructor from
    text in LightGBM 4.7.0, `src/io/tree.cpp`, where each of these lines is optional. A text without trees is returned
    unchanged.
    """
    header, *trees = _TREES.split(text)
    if not trees:
        return text
    last, end, rest = trees[-1].partition(_END)
    reduced = [_UNREAD.sub("", tree) for tree in (*trees[:-1], last)]
    sizes = " ".join(str(len(tree.encode())) for tree in reduced)
    return _SIZES.sub(f"tree_sizes={sizes}", header) + "".join(reduced) + end + rest
