"""`python -m training.monitoring`, as SageMaker starts it."""

import sys

from training.monitoring.job import main

sys.exit(main())
