"""Embedded point-in-time engine: sorted event streams, positions of window edges, and aggregates between positions.

`stream` sorts a view's events by entity and moment, `bitemporal` selects the events known at each query, `selection`
maps windows to positions, and `ranges` computes between positions. Each family of aggregations is one module (`sums`,
`extremes`, `ordered`, `distinct`, `decay`) with exact integer parts and their finalizers; `families` dispatches to
it.
"""
