"""Statements of the documentation on other feature stores, executed: each script names its version."""
