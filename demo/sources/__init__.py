"""Sources of events and checkouts: the simulated lender, and real loan data from a folder."""
