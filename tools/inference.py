"""`psa-pose predict` from a checkout."""

import sys

from psa_pose.cli import main

if __name__ == '__main__':
    sys.exit(main(['predict', *sys.argv[1:]]))
