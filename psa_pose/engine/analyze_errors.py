"""Error diagnosis of a results file: tables, JSON and plots."""

from pathlib import Path

from psa_pose.evaluation.diagnosis import (
    Diagnosis,
    Options,
    diagnose,
    read_ground_truth,
    read_results,
)
from psa_pose.evaluation.diagnosis.tables import print_diagnosis
from psa_pose.files import write_json
from psa_pose.visualization.overlay import contact_sheet, save
from psa_pose.visualization.worst import worst_panels


def analyze_errors(
    results: Path,
    ann_file: Path,
    out: Path | None = None,
    options: Options | None = None,
    images: Path | None = None,
    worst: int = 12,
) -> Diagnosis:
    """Say which errors a results file has and what they cost.

    Args:
        results: predictions in COCO's format, as `tools/test.py --out` writes them.
        ann_file: the ground truth, any COCO-style JSON.
        out: folder for `diagnosis.json` and the plots.
        options: thresholds.
        images: folder of the images, for `worst.jpg`, the persons with the lowest OKS.
        worst: how many of them.

    Raises:
        DataError: an image or the ground truth cannot be used.
        ResultError: the results cannot be used, or are not about this ground truth.
    """
    truth = read_ground_truth(ann_file)
    detections = read_results(results, truth)
    diagnosis = diagnose(truth, detections, options)
    print_diagnosis(diagnosis, str(results))
    if out:
        from psa_pose.visualization.diagnosis import plot_diagnosis  # matplotlib, slow to load

        out.mkdir(parents=True, exist_ok=True)
        content = {'results': str(results), **diagnosis.to_json()}
        write_json(out / 'diagnosis.json', content)
        written = [out / 'diagnosis.json', *plot_diagnosis(diagnosis, out)]
        if images:
            captions, panels = zip(
                *worst_panels(truth, detections, images, worst, options), strict=True
            )
            written.append(out / 'worst.jpg')
            save(written[-1], contact_sheet(panels, 3, captions))
        for path in written:
            print(f'written   {path}')
    return diagnosis
