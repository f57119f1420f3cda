"""`psa-pose ablate` from a checkout."""

import sys

from psa_pose.cli import main

if __name__ == '__main__':
    sys.exit(main(['ablate', *sys.argv[1:]]))
