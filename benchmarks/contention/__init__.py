"""Many writers on few items: exact totals, and what conflicts cost."""
