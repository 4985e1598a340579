"""What `make run` tells with a running system: where events and checkouts come from, and what became of them.

Nothing outside this package knows the lender: the rest of `local` starts any assembly of known resource types.
"""
