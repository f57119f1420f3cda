"""`psa-pose prepare-data` from a checkout."""

import sys

from psa_pose.cli import main

if __name__ == '__main__':
    sys.exit(main(['prepare-data', *sys.argv[1:]]))
