"""The AWS account: moto's services, and those that it lacks."""
