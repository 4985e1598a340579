"""Bulk import of past events from files: rows become events, archived and applied as the queue would have applied them."""
