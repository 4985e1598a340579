"""Model quality on public data sets."""
