"""Why a file's weights do not fit: the likeliest cause, for an error's last words."""

import re
from collections import Counter
from collections.abc import Collection, Mapping

from torch import Tensor

_DEPTHS: dict[tuple[tuple[int, ...], bool], int] = {
    ((2, 2, 2, 2), False): 18,
    ((3, 4, 6, 3), False): 34,
    ((3, 4, 6, 3), True): 50,
    ((3, 4, 23, 3), True): 101,
    ((3, 8, 36, 3), True): 152,
}
_FOREIGN = {
    'TensorFlow': r'/|moving_mean|:0$',
    'Keras or Flax': r'kernel$|gamma$|_mean$',
    'Detectron': r'^(res\d|stem\.|bottom_up\.|.*branch2[abc])',
    'a transformer': r'(^|\.)(blocks|encoder\.layers|patch_embed)\.',
    'an old EMA hook, flattened': r'^ema_\w+$',
}


def architecture(state: Mapping[str, Tensor]) -> str:
    """What the backbone is, as its names and shapes have it: 'ResNet-50', 'HRNet-W32' or ''."""
    branch = state.get('backbone.stage4.0.branches.0.0.conv1.weight')
    if branch is not None:
        return f'HRNet-W{branch.shape[0]}'
    counts = tuple(_blocks(state, stage) for stage in range(1, 5))
    depth = _DEPTHS.get((counts, 'backbone.layer1.0.conv3.weight' in state))
    return f'ResNet-{depth}' if depth else ''


def _blocks(state: Mapping[str, Tensor], stage: int) -> int:
    pattern = re.compile(rf'backbone\.layer{stage}\.(\d+)\.')
    return len({match.group(1) for name in state if (match := pattern.match(name))})


def likeliest_cause(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """One sentence.

    Args:
        state: the file's, in the estimator's names where it has them.
        wanted: the model's.
    """
    backbone = [name for name in wanted if name.startswith('backbone.')]
    theirs, ours = architecture(state), architecture(wanted)
    if theirs and theirs != ours:
        return f'the file is a {theirs}, the model a {ours or "network of its own"}'
    if state and all(name.startswith('head.') for name in state):
        return 'the file is only a head'
    if prefix := _hiding_prefix(state, backbone):
        return f"its names would fit without '{prefix}': take that off, and save the rest"
    fitting = sum(name in state for name in backbone)
    if 2 * fitting >= len(backbone):
        return 'its names fit and its shapes do not, so it is of another width'
    for framework, pattern in _FOREIGN.items():
        if sum(bool(re.search(pattern, _tail(name))) for name in state) * 2 > len(state):
            return f'its names look like those of {framework}'
    return 'it is of another architecture'


def _hiding_prefix(state: Mapping[str, Tensor], backbone: Collection[str]) -> str:
    """What stands before the names of most of the backbone ('student.encoder.'), or ''."""
    tails = {name.removeprefix('backbone.') for name in backbone}
    prefixes: Counter[str] = Counter()
    for name in state:
        parts = _tail(name).split('.')
        for i in range(1, len(parts)):
            if '.'.join(parts[i:]) in tails:
                prefixes['.'.join(parts[:i]) + '.'] += 1
                break
    best = prefixes.most_common(1)
    return best[0][0] if best and 2 * best[0][1] >= len(tails) else ''


def _tail(name: str) -> str:
    """The file's own name again: what has no known place was put under the backbone."""
    return name.removeprefix('backbone.')


def psa_variant(names: Collection[str]) -> str:
    """Which attention has parameters of these names, for people."""
    if 'conv_q_right.weight' not in names:
        return 'no PSA'
    if 'norm.weight' in names:
        return "PSA, variant='paper'"
    return f"PSA, variant='official_{'s' if 'conv_up.0.weight' in names else 'p'}'"
