"""Jobs that SageMaker runs: the point-in-time data set, training, evaluation and monitoring."""
