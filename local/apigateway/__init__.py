"""API Gateway: serving a template's REST API over HTTP."""
