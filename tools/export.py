"""`psa-pose export` from a checkout."""

import sys

from psa_pose.cli import main

if __name__ == '__main__':
    sys.exit(main(['export', *sys.argv[1:]]))
