"""Recorded decisions scored again by another model or decided by another policy."""
