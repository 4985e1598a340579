"""The demo of `make run`: sources of events and checkouts, a run through the local system, and its report."""
