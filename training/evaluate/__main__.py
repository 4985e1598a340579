"""`python -m training.evaluate`, as SageMaker starts it."""

import sys

from training.evaluate.job import main

sys.exit(main())
