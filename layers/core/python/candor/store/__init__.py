"""Where state lives: one protocol, an in-memory twin and DynamoDB."""
