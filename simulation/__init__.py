"""Deterministic simulation of the event path: one seed is one world, with one reproducible course."""
