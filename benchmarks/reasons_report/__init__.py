"""What declined people would be told on public data, and whether a retrained model tells them the same."""
