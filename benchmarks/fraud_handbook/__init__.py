"""The Fraud Detection Handbook's transactions through the real update path, against independent SQL, bit for bit."""
