"""Adapters between AWS's shapes (proxy events, queue messages, bus entries, log lines) and candor's."""
