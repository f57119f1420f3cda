"""`psa-pose train` from a checkout."""

import sys

from psa_pose.cli import main

if __name__ == '__main__':
    sys.exit(main(['train', *sys.argv[1:]]))
