"""The archive: events, commits, decisions and tables as Firehose delivered them, read back."""
