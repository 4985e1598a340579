"""`python -m training.fit`, as SageMaker starts it."""

import sys

from training.fit.job import main

sys.exit(main())
