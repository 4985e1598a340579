"""A deterministic simulation of the event path: one seed is one world, and it always takes the same course."""
