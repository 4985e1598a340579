"""Lambda: functions in processes of their own, and the pollers that invoke them."""
