"""Stored bytes, DynamoDB units and prices of entities with few and with many events."""
