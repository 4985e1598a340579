"""The AWS account: moto's services, and those that moto lacks."""
