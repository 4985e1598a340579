"""Where AWS's shapes end: proxy events, queue messages, bus entries and log lines on one side, candor's on the other."""
