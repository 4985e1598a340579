"""Items computed anew from the archive: backfill of new views, rebuild, and their verification."""
