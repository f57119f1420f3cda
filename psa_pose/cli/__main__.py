"""`python -m psa_pose.cli`."""

import sys

from psa_pose.cli import main

sys.exit(main())
