"""What became of a model: served features and scores beside its training snapshot, labels beside its predictions."""

from typing import Final

CHAMPION: Final = "champion"
"""Instead of a run's name: whichever made the bundle that serves."""
