"""Items recomputed from the archive: backfill of new views, rebuild, and verification."""
