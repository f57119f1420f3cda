"""What a training step of each arm costs, side by side on one machine."""

import gc
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from psa_pose.ablation.claim import claimed
from psa_pose.ablation.provenance import code_digests, machine
from psa_pose.ablation.study import Study
from psa_pose.datasets import PoseDataLoader
from psa_pose.engine import build
from psa_pose.engine.step import step_options
from psa_pose.engine.train import make_optimizer, scaled_optimizer
from psa_pose.errors import ResultError
from psa_pose.files import write_json
from psa_pose.structures import PoseBatch

ROUNDS = 11  # of a step of each arm
WARM_UP = 3  # steps: the first allocations, cuDNN's trials, compiling

Times = dict[str, dict[str, float]]
"""By arm `seconds` of a step (median), and `ratio` to the baseline's."""


def measure_steps(study: Study, folder: Path) -> None:
    """Time a step of each arm on this machine and add it to `timing/times.json`, once.

    The arms take turns within every round, in another order each time, so that what else the
    machine does hits all of them; `ratio` is the median over rounds of the ratio to the baseline.
    An arm that cannot make a step is left out; its cells will say why.

    Args:
        study: whose arms.
        folder: of the study.

    Raises:
        PSAPoseError: the baseline cannot make a step.
    """
    here = {
        'machine': machine(),
        'torch': torch.__version__,
        'threads': torch.get_num_threads(),
        'code': code_digests(),
    }
    while not _known(study, folder, here):
        with claimed(folder / 'timing') as ours:
            if ours and not _known(study, folder, here):
                times = _measure(study)
                entry = {**here, 'baseline': study.digests()[study.baseline], 'times': times}
                write_json(_file(folder), [*_entries(folder), entry])
                return
        time.sleep(1)


def step_times(study: Study, folder: Path) -> tuple[Times, str]:
    """The latest times of this machine, or else of another; and which one it was."""
    digests = study.digests()
    entries = [e for e in _entries(folder) if e['baseline'] == digests[study.baseline]]
    entries.sort(key=lambda entry: entry['machine'] == machine())  # stable: the latest stays last
    if not entries:
        return {}, ''
    times = entries[-1]['times']
    return {arm: times[d] for arm, d in digests.items() if d in times}, entries[-1]['machine']


def steps_in(minutes: float, study: Study, folder: Path) -> dict[str, int]:
    """How many steps each arm makes in that time.

    The earliest measurements decide, so that no later one, nor another machine, changes what cells
    train; ratios to the baseline hold where the machine was busy at times.

    Raises:
        ResultError: an arm was never timed.
    """
    digests, seconds = study.digests(), 0.0
    ratios: dict[str, float] = {}
    for entry in _entries(folder):
        if entry['baseline'] != digests[study.baseline]:
            continue
        seconds = seconds or entry['times'][entry['baseline']]['seconds']
        for arm, digest in digests.items():
            if digest in entry['times']:
                ratios.setdefault(arm, entry['times'][digest]['ratio'])
    if missing := [arm for arm in digests if arm not in ratios]:
        raise ResultError(
            f'{_file(folder)}: no time of a step of {missing[0]}, so its minutes are no steps'
        )
    return {arm: max(1, round(minutes * 60 / (seconds * ratios[arm]))) for arm in digests}


def make_step(cfg: Config) -> Callable[[], None]:
    """An optimizer step of a config on its first batch, as training would make it; no data."""
    torch.manual_seed(build.seed(cfg))
    options = step_options(cfg)
    dataset = build.build_dataset(cfg, 'train_dataloader')
    batch_size = min(build.loader_options(cfg, 'train_dataloader')['batch_size'], len(dataset))
    loader = PoseDataLoader(dataset, batch_size, train=True, seed=build.seed(cfg))
    batch = PoseBatch(*(field.to(options.device) for field in next(iter(loader))))
    model = build.build_model(cfg, dataset.info).to(options.device)
    model = model.use_channels_last(options.channels_last).train()
    loss = model.loss
    if options.compile is not None:
        loss = torch.compile(loss, **{'dynamic': False, **options.compile})
    arguments, _, _ = scaled_optimizer(cfg, batch_size * options.accumulate, options)
    optimizer = make_optimizer(arguments, model.parameters())
    dtype = getattr(torch, options.dtype)
    scaler = torch.amp.GradScaler(options.device, enabled=dtype == torch.float16)
    benchmark = options.trainer_arguments()['benchmark']

    def step() -> None:
        torch.backends.cudnn.benchmark = benchmark
        for _ in range(options.accumulate):
            mixed: Any = nullcontext()
            if dtype != torch.float32:
                mixed = torch.autocast(options.device, dtype)
            with mixed:
                value = loss(batch)
            scaler.scale(value).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        if options.device == 'cuda':
            torch.cuda.synchronize()

    return step


def _measure(study: Study) -> Times:
    """By the digest of an arm."""
    steps: dict[str, Callable[[], None]] = {}
    _compile_all(study)
    for arm, cfg in study.configs.items():
        try:
            step = make_step(cfg)
            for _ in range(WARM_UP):
                step()
            steps[arm] = step
        except Exception as error:
            if arm == study.baseline:
                raise
            print(f'untimed   {arm}: {type(error).__name__}: {error}', file=sys.stderr)
    measured: list[dict[str, float]] = []
    for number in range(ROUNDS):
        order = random.Random(number).sample(list(steps), len(steps))
        measured.append({arm: _seconds(steps[arm]) for arm in order})
    digests = study.digests()
    times = {
        digests[arm]: {
            'seconds': statistics.median(m[arm] for m in measured),
            'ratio': statistics.median(m[arm] / m[study.baseline] for m in measured),
        }
        for arm in steps
    }
    del step, steps
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()  # the cells need it
    return times


def _compile_all(study: Study) -> None:
    """Lift PyTorch's limit: it compiles 8 models by one `loss`, and leaves the others eager."""
    if any(cfg.get('compile') for cfg in study.configs.values()):
        options = torch._dynamo.config
        options.recompile_limit = max(options.recompile_limit, 2 * len(study.configs))


def _seconds(step: Callable[[], None]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def _known(study: Study, folder: Path, here: Mapping[str, Any]) -> bool:
    """Whether every arm was timed here."""
    arms = set(study.digests().values())
    return any(
        all(entry[key] == value for key, value in here.items()) and arms <= set(entry['times'])
        for entry in _entries(folder)
    )


def _file(folder: Path) -> Path:
    return folder / 'timing' / 'times.json'


def _entries(folder: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads(_file(folder).read_text())
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise ResultError(f'{_file(folder)}: {error}') from None
    return list(content)
