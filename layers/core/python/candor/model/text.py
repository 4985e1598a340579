"""LightGBM's model text without what serving never reads: half the bytes to fetch, to hash and to parse at a cold start."""

from __future__ import annotations

import re
from typing import Final

_TREES: Final = re.compile(r"^(?=Tree=\d+\n)", flags=re.MULTILINE)
_UNREAD: Final = re.compile(
    r"^(?:split_gain|leaf_weight|internal_weight|internal_value)=[^\n]*\n", flags=re.MULTILINE
)
_SIZES: Final = re.compile(r"^tree_sizes=[^\n]*$", flags=re.MULTILINE)
_END: Final = "end of trees"


def served(text: str) -> str:
    """A model of the same trees: every score and every contribution has the same bits.

    Gains, weights and inner values go; the counts stay, as TreeSHAP reads them. Source: the constructor from text in
    LightGBM 4.7.0, `src/io/tree.cpp`, which takes each of these lines as optional. A text that is no model stays as it is.
    """
    header, *trees = _TREES.split(text)
    if not trees:
        return text
    last, end, rest = trees[-1].partition(_END)
    lean = [_UNREAD.sub("", tree) for tree in (*trees[:-1], last)]
    sizes = " ".join(str(len(tree.encode())) for tree in lean)
    return _SIZES.sub(f"tree_sizes={sizes}", header) + "".join(lean) + end + rest
