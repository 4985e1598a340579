"""Constructs that carry the house defaults: functions, layers, queues and buckets."""
