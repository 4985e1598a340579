"""Healing of stale items: recomputed from the archive, while the updater goes on writing to them."""
