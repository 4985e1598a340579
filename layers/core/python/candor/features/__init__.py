"""Features: declarations, the aggregation algebra, windows, the stored state and the vector. Pure."""
