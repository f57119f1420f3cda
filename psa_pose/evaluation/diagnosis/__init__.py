"""Why a model loses AP: errors by kind, after Ronchi and Perona (ICCV 2017)."""

from psa_pose.evaluation.diagnosis.detections import Detections, read_results
from psa_pose.evaluation.diagnosis.diagnose import Diagnosis, diagnose
from psa_pose.evaluation.diagnosis.options import Options
from psa_pose.evaluation.diagnosis.truth import GroundTruth, read_ground_truth

__all__ = [
    'Detections',
    'Diagnosis',
    'GroundTruth',
    'Options',
    'diagnose',
    'read_ground_truth',
    'read_results',
]
