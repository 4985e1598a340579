"""The signed client of the scorer: HTTP/1.1, SigV4 and credentials without botocore."""
