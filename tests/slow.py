"""A hook for runs that must not be over before they are stopped."""

import time
from typing import Any

import lightning as L

from psa_pose.registry import HOOKS


@HOOKS.register_module(force=True)
class SlowSteps(L.Callback):
    def on_train_batch_start(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step >= 7:
            print('a slow step begins', flush=True)
            for _ in range(400):  # a signal that comes just before a sleep is handled after it
                time.sleep(0.05)
