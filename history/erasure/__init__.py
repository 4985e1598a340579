"""Erasure of a person from items, archive and training data; decisions kept by law are reported."""
