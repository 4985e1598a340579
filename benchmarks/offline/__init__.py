"""Training sets as of past moments: 30 features of every label, beside the same by hand and beside Feast's join."""
