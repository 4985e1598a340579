"""A retraining's input: what a person, a schedule or the command line asks for → what the state machine's steps need."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from candor.clock import format_rfc3339, parse_rfc3339
from candor.errors import InvalidInput

SEEDS: Final = [1, 2, 3, 4, 5]
_RUN: Final = re.compile(r"[A-Za-z0-9](?:-?[A-Za-z0-9]){0,42}")
_MAX_SEEDS: Final = 20


def prepare_run(asked: Mapping[str, Any], archive: str, training: str, now_ms: int) -> dict[str, Any]:
    """Names, moments and places of a run; `archive` and `training` are buckets.

    Missing: `run` is named by the time, `as_of` is now, `seeds` are 1 to 5, `promote` is false. `seeds` goes out as
    JSON text, because hyperparameters are text. Raises InvalidInput with the field.
    """
    run = asked.get("run") or "run-" + re.sub(r"[-:]|\..*", "", format_rfc3339(now_ms)).lower()
    # SageMaker's job names take 63 letters, digits and single hyphens; stage and step need twenty of them.
    if not isinstance(run, str) or not _RUN.fullmatch(run):
        raise InvalidInput("invalid_field", "Use up to 43 letters, digits and single hyphens.", "run")
    promote = asked.get("promote", False)
    if not isinstance(promote, bool):
        raise InvalidInput("invalid_field", "Use true or false.", "promote")
    place = f"s3://{training}/runs/{run}"
    return {
        "run": run,
        "as_of": _as_of(asked.get("as_of"), now_ms),
        "seeds": json.dumps(_seeds(asked.get("seeds") or SEEDS)),
        "promote": promote,
        "archive_uri": f"s3://{archive}/events/",
        "dataset_uri": f"{place}/dataset",
        "model_uri": f"{place}/model",
    }


def _as_of(text: Any, now_ms: int) -> str:
    if text is None:
        return format_rfc3339(now_ms)
    try:
        moment = parse_rfc3339(text)
    except (TypeError, ValueError):
        raise InvalidInput("invalid_timestamp", "Use RFC 3339 with an offset.", "as_of") from None
    if moment > now_ms:
        raise InvalidInput("invalid_timestamp", "What will be known later cannot be trained on.", "as_of")
    return format_rfc3339(moment)


def _seeds(seeds: Any) -> list[int]:
    if (
        not isinstance(seeds, list)
        or not all(type(seed) is int and 0 <= seed < 2**31 for seed in seeds)
        or len(set(seeds)) != len(seeds)
        or len(seeds) > _MAX_SEEDS
    ):
        raise InvalidInput("invalid_field", f"Use a list of up to {_MAX_SEEDS} different integers.", "seeds")
    return seeds
