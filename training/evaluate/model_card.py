"""Model card: the lender's declarations and the measured figures, with the fields that SR 26-2 requires."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from candor.model.bundle import Bundle
from candor.regulation import ModelCard

FORMAT: Final = 1


def model_card(
    card: ModelCard, bundle: Bundle, manifest: Mapping[str, Any], evaluation: Mapping[str, Any]
) -> dict[str, Any]:
    """Content of model_card.json: inventory, data window, thresholds and main figures of one bundle."""
    discrimination = evaluation["discrimination"]
    return {
        "format": FORMAT,
        **msgspec.to_builtins(card),
        "bundle": bundle.sha,
        "algorithm": f"gradient boosted trees, LightGBM {bundle.lineage['lightgbm']}",
        "data": {
            "window": manifest["window"],
            "as_of": manifest["as_of"],
            "rows": manifest["rows"],
            "bads": manifest["bads"],
            "sha256": manifest["sha256"],
            "definition_hash": manifest["definition_hash"],
            "features": len(bundle.features),
        },
        "thresholds": {"cutoff": bundle.cutoff, **bundle.lineage["economics"]},
        "calibration": {"slope": bundle.calibration.slope, "intercept": bundle.calibration.intercept},
        "measured": {
            name: discrimination[name] for name in ("n", "bads", "auc", "auc_low", "auc_high", "gini", "ks")
        },
        "reasons": bundle.lineage["reason_reference"]["method"],
    }
