"""Readers of the archive that Firehose delivers: events, commits, decisions and tables."""
