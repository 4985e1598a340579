"""What documentation says of other feature stores, executed: each script names the version it was run with."""
