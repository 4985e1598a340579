"""Monitoring of a model: served features and scores against its training snapshot, labels against its predictions."""

from typing import Final

CHAMPION: Final = "champion"
"""Placeholder for a run's name: the run that trained the serving bundle."""
