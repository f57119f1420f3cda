"""Several processes that train as one: who they are, what they share, how they end together."""

from psa_pose.engine.ranks.group import Ranks
from psa_pose.engine.ranks.launch import Launch, LaunchEnvironment, read_launch
from psa_pose.engine.ranks.options import DistOptions, dist_options, what_runs

__all__ = [
    'DistOptions',
    'Launch',
    'LaunchEnvironment',
    'Ranks',
    'dist_options',
    'read_launch',
    'what_runs',
]
