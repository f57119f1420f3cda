"""`psa-pose publish-model` from a checkout."""

import sys

from psa_pose.cli import main

if __name__ == '__main__':
    sys.exit(main(['publish-model', *sys.argv[1:]]))
