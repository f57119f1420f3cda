"""Several ranks: no host waits for its device in training, except where the log reads the loss."""

import json
from pathlib import Path
from typing import Any

from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop

from psa_pose.engine.module import PoseModule
from psa_pose.engine.signals import StopRequest
from psa_pose.registry import HOOKS
from tests.engine.ranked import train_on
from tests.engine.waits import CountedSteps, Waits
from tests.processes import CONFIG


@HOOKS.register_module(force=True)
class WaitsOfRank(CountedSteps):
    """Writes `rank{R}.json`.

    Args:
        folder: of the files.
        lightnings: let Lightning ask at every batch whether rank 0 got a SIGTERM, as it would.
    """

    def __init__(self, folder: str, lightnings: bool) -> None:
        self.folder, self.lightnings = Path(folder), lightnings

    def on_train_epoch_start(self, trainer: Any, *_: Any) -> None:
        # Checks of a batch and the ranks' agreement to stop read host memory.
        uncounted(PoseModule, 'on_before_batch_transfer')
        uncounted(StopRequest, 'agreed')
        if self.lightnings:
            del trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor
        self.waits = Waits()
        self.waits.__enter__()

    def on_train_end(self, trainer: Any, *_: Any) -> None:
        self.waits.__exit__(None, None, None)
        path = self.folder / f'rank{trainer.global_rank}.json'
        path.write_text(json.dumps(self.waits.found))


def uncounted(part: type, name: str) -> None:
    """In this process, that of a rank."""
    original = getattr(part, name)

    def method(*args: Any) -> Any:
        step, Waits.current.step = Waits.current.step, None
        try:
            return original(*args)
        finally:
            Waits.current.step = step

    setattr(part, name, method)


def waits_of_ranks(root: Path, folder: Path, lightnings: bool) -> list[dict[str, list[str]]]:
    hook = {'type': 'WaitsOfRank', 'folder': str(folder), 'lightnings': lightnings}
    lines = [
        f"_base_ = ['{CONFIG}']",
        f"custom_imports = dict(imports=['{__name__}'])",
        f'custom_hooks = [{hook}]',
    ]
    config = folder / 'config.py'
    config.write_text('\n'.join(lines))
    options = ['train_cfg.max_epochs=1', 'default_hooks.logger.interval=3']
    train_on(2, root, folder / 'run', *options, 'train_dataloader.num_workers=1', config=config)
    found = [json.loads(path.read_text()) for path in sorted(folder.glob('rank*.json'))]
    # Fused SGD's first step waits, see `NonFiniteGuard`; after the sixth comes the evaluation.
    return [{step: rank[step] for step in rank if step not in '16'} for rank in found]


def test_steps_do_not_wait(demo_root: Path, tmp_path: Path) -> None:
    found = waits_of_ranks(demo_root, tmp_path, lightnings=False)
    assert found == [{'3': ['tolist']}] * 2


def test_lightnings_question_is_found(demo_root: Path, tmp_path: Path) -> None:
    assert hasattr(_TrainingEpochLoop, '_broadcast_sigterm_tensor'), 'see StopRequest.start'
    found = waits_of_ranks(demo_root, tmp_path, lightnings=True)
    asked = ['tensor', '_local_scalar_dense.default']
    assert found == [{'2': asked, '3': ['tolist', *asked], '4': asked, '5': asked}] * 2
