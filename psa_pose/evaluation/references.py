"""Published numbers that a result may be compared with, each with the boxes it was measured with.

Sources: Xiao et al. 2018 (SimpleBaseline), Sun et al. 2019 (HRNet), Zhang et al. 2020 (DARK), the
model zoo of MMPose 1.x, Liu et al. 2021 (PSA, and for UDP by layout the table of their repository,
github.com/DeLightCMU/PSA). All with flip test.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

COCO_VAL = 'person_keypoints_val2017.json'
DETECTOR_FILE = 'COCO_val2017_detections_AP_H_56_person.json'
DETECTOR, GROUND_TRUTH = "the 56.4-AP detector's boxes", 'ground-truth boxes (by their signature)'


class Model(NamedTuple):
    """What distinguishes the rows: a config's, or a published one's."""

    backbone: str
    """'r50', 'r101', 'r152', 'w32' or 'w48'."""
    size: str
    """Height x width of the crop, pixels."""
    codec: str = 'msra'
    """'msra', 'dark' or 'udp'."""
    psa: str = ''
    """Its layout, 'parallel' or 'sequential'; 'either' in a published row that does not say."""


class Reference(NamedTuple):
    """A published row."""

    model: Model
    source: str
    ap: float
    ar: float | None
    boxes: str

    def is_of(self, model: Model) -> bool:
        """Whether a model is the row's."""
        either = self.model.psa == 'either' and model.psa
        return self.model == (model._replace(psa='either') if either else model)

    @property
    def name(self) -> str:
        """For people."""
        return f'{self.source} (with PSA)' if self.model.psa else self.source


REFERENCES: tuple[Reference, ...] = (
    Reference(Model('r50', '256x192'), 'SimpleBaseline paper', 70.4, 76.3, DETECTOR),
    Reference(Model('r50', '256x192'), 'MMPose', 71.8, 77.4, DETECTOR),
    Reference(Model('r101', '256x192'), 'SimpleBaseline paper', 71.4, 77.1, DETECTOR),
    Reference(Model('r152', '256x192'), 'SimpleBaseline paper', 72.0, 77.8, DETECTOR),
    Reference(Model('w32', '256x192'), 'HRNet paper', 74.4, 79.8, DETECTOR),
    Reference(Model('w32', '256x192'), 'MMPose', 74.9, 80.4, DETECTOR),
    Reference(Model('w48', '256x192'), 'HRNet paper', 75.1, 80.4, DETECTOR),
    Reference(Model('w48', '256x192'), 'MMPose', 75.6, 80.9, DETECTOR),
    Reference(Model('w32', '256x192', 'dark'), 'DARK paper', 75.6, None, DETECTOR),
    Reference(Model('w32', '256x192', 'udp'), 'MMPose', 76.2, None, DETECTOR),
    Reference(Model('r50', '384x288'), 'SimpleBaseline paper', 72.2, None, DETECTOR),
    Reference(Model('r152', '384x288'), 'SimpleBaseline paper', 74.3, None, DETECTOR),
    Reference(Model('w32', '384x288'), 'HRNet paper', 75.8, None, DETECTOR),
    Reference(Model('w48', '384x288'), 'HRNet paper', 76.3, None, DETECTOR),
    Reference(Model('r50', '384x288', psa='either'), 'PSA paper', 76.5, None, GROUND_TRUTH),
    Reference(Model('r152', '384x288', psa='either'), 'PSA paper', 78.0, None, GROUND_TRUTH),
    Reference(Model('w32', '384x288', psa='either'), 'PSA paper', 78.7, None, GROUND_TRUTH),
    Reference(Model('w48', '384x288', psa='either'), 'PSA paper', 78.9, None, GROUND_TRUTH),
    Reference(Model('w48', '256x192', 'udp', 'parallel'), 'PSA paper', 78.9, None, GROUND_TRUTH),
    Reference(Model('w48', '384x288', 'udp', 'parallel'), 'PSA paper', 79.5, None, GROUND_TRUTH),
    Reference(Model('w48', '384x288', 'udp', 'sequential'), 'PSA paper', 79.4, None, GROUND_TRUTH),
)

# MPII val, mean PCKh@0.5 in percent, 256x256 with flip test; boxes are the annotation's.
MPII_REFERENCES: dict[tuple[str, str], tuple[str, float]] = {
    ('r50', 'msra'): ('SimpleBaseline paper', 88.5),
    ('r101', 'msra'): ('SimpleBaseline paper', 89.1),
    ('r152', 'msra'): ('SimpleBaseline paper', 89.6),
    ('w32', 'msra'): ('HRNet paper', 90.3),
    ('w32', 'dark'): ('DARK paper', 90.6),
}


def model_of(cfg: Mapping[str, Any]) -> Model | None:
    """What a config's model is in the words of the table, or None where it has none for it."""
    backbone = cfg['model'].get('backbone', {})
    if backbone.get('type') == 'ResNet' and 'depth' in backbone:
        name = f'r{backbone["depth"]}'
    elif backbone.get('type') == 'HRNet' and not backbone.get('extra'):
        name = str(backbone.get('arch', 'w32'))
    else:
        return None
    attention = backbone.get('attention') or {}
    codec = cfg['codec']
    kinds = {'MSRAHeatmap': 'dark' if codec.get('unbiased') else 'msra', 'UDPHeatmap': 'udp'}
    if codec.get('heatmap_type') == 'combined':
        return None  # the UDP row is the Gaussian one's
    if codec.get('type') not in kinds or (attention and attention.get('type') != 'PSA'):
        return None
    default = 'sequential' if attention.get('variant') == 'official_s' else 'parallel'
    psa = (attention.get('layout') or default) if attention else ''
    width, height = codec['input_size']
    return Model(name, f'{height}x{width}', kinds[codec['type']], psa)


def comparison(
    model: Model | None, ann_file: str, ap: float, boxes: str, flip_test: bool
) -> tuple[list[str], list[str]]:
    """A result on COCO val2017 beside the rows of the same model and of its baseline without PSA.

    Args:
        model: see `model_of`.
        ann_file: name of the ground truth's file; on any but val2017's there is nothing to say.
        ap: in [0, 1].
        boxes: where the result's come from, 'ground truth' or a text that names the detections.
        flip_test: whether the result was made with it.

    Returns:
        Lines of the comparison, and warnings where the two are not like for like.
    """
    if model is None or ann_file != COCO_VAL:
        return [], []
    rows = [r for r in REFERENCES if r.is_of(model) or r.is_of(model._replace(psa=''))]
    if not rows:
        return [], []
    mine = 'ground-truth boxes' if boxes == 'ground truth' else f'boxes: {boxes}'
    lines, warnings = [f'this run: AP {100 * ap:.1f}, {mine}'], []
    for row in rows:
        ar = '' if row.ar is None else f', AR {row.ar:.1f}'
        lines.append(f'{row.name}: AP {row.ap:.1f}{ar}, {row.boxes}')
    for kind in (DETECTOR, GROUND_TRUTH):
        names = ', '.join(row.name for row in rows if row.boxes == kind)
        if names and (boxes == 'ground truth') != (kind == GROUND_TRUTH):
            warnings.append(f'not comparable: {names}: {kind}; this run: {mine}')
        elif names and kind == DETECTOR and DETECTOR_FILE not in boxes:
            warnings.append(f'comparable with {names} only if these are {kind}')
    if not flip_test:
        warnings.append('not comparable: published rows are with flip test, this run is without')
    return lines, warnings
