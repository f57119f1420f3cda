"""Error diagnosis of a results file: tables, JSON and plots."""

import json
from pathlib import Path

from psa_pose.evaluation.diagnosis import (
    Diagnosis,
    Options,
    diagnose,
    read_ground_truth,
    read_results,
)
from psa_pose.evaluation.diagnosis.tables import print_diagnosis


def analyze_errors(
    results: Path, ann_file: Path, out: Path | None = None, options: Options | None = None
) -> Diagnosis:
    """Say which errors a results file has and what they cost.

    Args:
        results: predictions in COCO's format, as `tools/test.py --out` writes them.
        ann_file: the ground truth, any COCO-style JSON.
        out: folder for `diagnosis.json` and the plots.
        options: thresholds.

    Raises:
        DataError: the ground truth cannot be used.
        ResultError: the results cannot be used, or are not about this ground truth.
    """
    truth = read_ground_truth(ann_file)
    diagnosis = diagnose(truth, read_results(results, truth), options)
    print_diagnosis(diagnosis, str(results))
    if out:
        from psa_pose.visualization.diagnosis import plot_diagnosis  # matplotlib, slow to load

        out.mkdir(parents=True, exist_ok=True)
        content = {'results': str(results), **diagnosis.to_json()}
        (out / 'diagnosis.json').write_text(json.dumps(content, indent=1) + '\n')
        for path in [out / 'diagnosis.json', *plot_diagnosis(diagnosis, out)]:
            print(f'written   {path}')
    return diagnosis
