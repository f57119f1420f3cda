"""`psa-pose report` from a checkout."""

import sys

from psa_pose.cli import main

if __name__ == '__main__':
    sys.exit(main(['report', *sys.argv[1:]]))
