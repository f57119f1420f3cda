"""Write configs/README.md from the configs."""

from pathlib import Path

from psa_pose.engine.config_table import write_table

if __name__ == '__main__':
    write_table(Path(__file__).parent.parent / 'configs' / 'README.md')
