"""Removing a person: from every view's items, the archive and the training data; what the law keeps is told."""
