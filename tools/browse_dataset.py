"""`psa-pose browse-dataset` from a checkout."""

import sys

from psa_pose.cli import main

if __name__ == '__main__':
    sys.exit(main(['browse-dataset', *sys.argv[1:]]))
