"""`python -m training.dataset`, as SageMaker starts it."""

import sys

from training.dataset.job import main

sys.exit(main())
