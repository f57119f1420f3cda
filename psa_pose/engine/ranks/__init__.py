"""Several processes that train as one: who they are, what they share, how they end together."""

from psa_pose.engine.ranks.group import DistOptions, Ranks, dist_options, what_runs
from psa_pose.engine.ranks.launch import Launch, LaunchEnvironment, read_launch

__all__ = [
    'DistOptions',
    'Launch',
    'LaunchEnvironment',
    'Ranks',
    'dist_options',
    'read_launch',
    'what_runs',
]
