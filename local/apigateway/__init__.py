"""API Gateway: a REST API of a template, served over HTTP."""
