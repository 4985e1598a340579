"""Healing of stale items: recomputation from the archive while the updater keeps writing."""
