"""From a config to a run: Lightning's Trainer, its module and callbacks."""
