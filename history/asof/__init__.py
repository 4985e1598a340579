"""Embedded point-in-time engine: sorted event streams, positions of window edges, and aggregates between positions.

`stream` sorts a view's events by entity and moment, `bitemporal` selects the events known at each query, `ranges`
computes over positions, `aggregate` expresses a declared aggregation in positions, and `finalize` turns the exact
integers into features.
"""
