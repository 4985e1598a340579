"""Sources of events and checkouts: the simulated lender, and real loan books from a folder."""
