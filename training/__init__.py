"""What SageMaker runs: the point-in-time dataset, the training and its evaluation."""
