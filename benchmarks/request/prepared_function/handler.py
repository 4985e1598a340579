"""The prepared decision as a Lambda function; `PREPARED_STORE` is lean or pynamodb."""

import os
from pathlib import Path
from typing import Any

from benchmarks.request import prepared
from candor.model.lightgbm import Booster

STORE = prepared.lean_store() if os.environ["PREPARED_STORE"] == "lean" else prepared.pynamodb_store()
PREPARED = prepared.PreparedScorer(STORE, Booster(Path(os.environ["PEER_MODEL"]).read_text(encoding="utf-8")))


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Answer one checkout."""
    return PREPARED.handle(event)
