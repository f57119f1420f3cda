"""`psa-pose init-config` from a checkout."""

import sys

from psa_pose.cli import main

if __name__ == '__main__':
    sys.exit(main(['init-config', *sys.argv[1:]]))
