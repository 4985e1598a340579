"""The embedded engine of point-in-time features: sorted streams, positions of edges in them, and sums between positions.

`stream` sorts a view's events by entity and moment, `bitemporal` says which of them counted at each query, `ranges` answers
what lies between two positions of it, `parts` says a declared aggregation in those words, and `finish` turns the exact integers
into the features.
"""
