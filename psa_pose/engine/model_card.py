"""What a published model says of itself: for people, and for MMPose."""

from collections.abc import Mapping
from typing import Any

from psa_pose.structures import KeypointInfo


def as_markdown(name: str, card: Mapping[str, Any]) -> str:
    """A page about a model.

    Args:
        name: of its file.
        card: see `psa_pose.engine.publish`.
    """
    metrics = card['metrics']
    rows = {
        'from': card['source'],
        'trained': _joined(epochs=card['epochs'], steps=card['steps']),
        'parameters': f'{card["parameters"]:,}',
        'attention': card['attention'] or 'none',
        'keypoints': ', '.join(card['keypoint_names']) or 'unknown',
        'training data': card['data']['train'] or 'unknown',
        'evaluation data': card['data']['val'] or 'unknown',
        'person boxes': card['boxes'] or 'unknown',
        'metrics': ', '.join(f'{n} {_number(v)}' for n, v in metrics.items()) or 'unknown',
        'versions': _joined(**card['versions']),
    }
    lines = [f'# {name}', '', '| | |', '|---|---|']
    lines += [f'| {title} | {text} |' for title, text in rows.items()]
    if card['config']:
        lines += ['', '```python', card['config'].strip(), '```']
    return '\n'.join(lines) + '\n'


def _joined(**values: Any) -> str:
    return ', '.join(f'{k} {v}' for k, v in values.items() if v is not None) or 'unknown'


def _number(value: Any) -> str:
    return f'{value:.4f}' if isinstance(value, float) else str(value)


def mmpose_dataset_meta(info: KeypointInfo) -> dict[str, Any]:
    """Keypoints in the words of MMPose's `dataset_meta`, without arrays: safe to unpickle."""
    names, k = info.names, info.num_keypoints
    lower = [i for i in range(k) if info.lower_body[i]]
    flip = info.flip_indices
    links = [list(bone) for bone in info.skeleton]
    return {
        'dataset_name': 'psa_pose',
        'num_keypoints': k,
        'keypoint_id2name': dict(enumerate(names)),
        'keypoint_name2id': {name: i for i, name in enumerate(names)},
        'upper_body_ids': [i for i in range(k) if i not in lower],
        'lower_body_ids': lower,
        'flip_indices': list(flip),
        'flip_pairs': [[i, j] for i, j in enumerate(flip) if i < j],
        'keypoint_colors': [[51, 153, 255]] * k,
        'num_skeleton_links': len(links),
        'skeleton_links': links,
        'skeleton_link_colors': [[0, 255, 0]] * len(links),
        'dataset_keypoint_weights': [1.0] * k,
        'sigmas': list(info.sigmas),
    }
