"""`psa-pose analyze-errors` from a checkout."""

import sys

from psa_pose.cli import main

if __name__ == '__main__':
    sys.exit(main(['analyze-errors', *sys.argv[1:]]))
