"""What `psa-pose predict` does: files in, pictures, videos and JSON out."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

from psa_pose.errors import ConfigError
from psa_pose.inference.box_files import KnownBoxes
from psa_pose.inference.boxes import BoxSource
from psa_pose.inference.frames import Source
from psa_pose.inference.image_table import ImageTable
from psa_pose.inference.inferencer import Inferencer
from psa_pose.inference.progress import FrameProgress
from psa_pose.inference.smoothing import Smoothing
from psa_pose.inference.sources import open_sources
from psa_pose.inference.writing import JsonWriter, PictureWriter, output_files


def predict(
    inferencer: Inferencer,
    inputs: Sequence[str],
    *,
    out: Path | None = None,
    json_file: Path | None = None,
    pictures: bool = True,
    boxes: str | None = None,
    box_thr: float | None = None,
    ann_file: Path | None = None,
    smooth: bool | Smoothing = False,
    upright: bool = False,
    score_thr: float = 0.2,
    max_frames: int | None = None,
) -> int:
    """Predict and write.

    Args:
        inferencer: the model.
        inputs: files, folders, patterns, videos, cameras; see `Inferencer`.
        out: folder of pictures, videos and `results.json`.
        json_file: another place for the results.
        pictures: whether to write pictures and videos.
        boxes: see `Inferencer`.
        box_thr: likewise.
        ann_file: COCO-style JSON whose image ids `boxes` uses and the results get.
        smooth: likewise.
        upright: likewise.
        score_thr: keypoints with a lower score are not drawn.
        max_frames: to stop after, of all inputs together.

    Returns:
        An exit status: 1 where an image or frame could not be used.
    """
    if out is None and json_file is None:
        raise ConfigError('nothing would be kept: name a folder with --out, or a file with --json')
    json_file = json_file or Path(out or '', 'results.json')
    sources = list(
        open_sources(list(inputs), upright=upright, max_megapixels=inferencer.max_megapixels)
    )
    read = {Path(p).resolve() for p in (boxes, ann_file, *(s.path for s in sources)) if p}
    if json_file.resolve() in read:
        raise ConfigError(f'{json_file} is an input, and would be overwritten')
    if json_file.is_dir():
        raise ConfigError(f'--json {json_file} is a folder; name a file in it')
    files = output_files(sources, out) if out and pictures else None
    box_source = inferencer.box_source(boxes, box_thr, ann_file)
    table = _image_table(box_source, ann_file, sources)
    ids = (table.image_id, table.category_id) if table else ()
    pairs = inferencer.predict(
        sources, box_source, smooth, on_error='skip', keep_images=files is not None
    )
    print(inferencer.report)
    print(f'boxes     {box_source.text}', flush=True)
    if files and not inferencer.info.skeleton:
        print('warning   nothing says which keypoints are connected: pictures show points alone')

    persons, errors, turned, interrupted = 0, 0, 0, False
    lengths = [source.length for source in sources]
    total = sum(lengths) if all(lengths) else 0
    with ExitStack() as stack:
        results = stack.enter_context(JsonWriter(json_file, *ids))
        drawn = (
            stack.enter_context(PictureWriter(files, inferencer.info, score_thr)) if files else None
        )
        progress = stack.enter_context(FrameProgress(min(total, max_frames or total)))
        try:
            for frame, result in islice(pairs, max_frames):
                if result.error:
                    errors += 1
                    print(f'error: {result.error}', file=sys.stderr)
                    continue
                persons += len(result)
                turned += frame.turned
                results.write(frame, result)
                if drawn:
                    drawn.write(frame, result)
                progress.step()
        except KeyboardInterrupt:  # the way to end a camera: what is there is kept
            interrupted = True
    print(f'persons   {persons} in {progress.count} images ({progress.rate})')
    if drawn and drawn.pictures:
        print(f'pictures  {out} ({drawn.pictures})')
    for file, count in (drawn.videos if drawn else {}).items():
        print(f'video     {file} ({count} frames)')
    print(f'results   {json_file}')
    if turned:
        print(
            f'warning   {turned} images say (EXIF) that they are to be turned, and were read as '
            'they are stored, as in training; --upright turns them'
        )
    if errors:
        print(f'error: {errors} images or videos could not be used; see above', file=sys.stderr)
    return 130 if interrupted else int(errors > 0)


def _image_table(
    boxes: BoxSource, ann_file: Path | None, sources: Sequence[Source]
) -> ImageTable | None:
    """The annotations whose ids the results get."""
    if isinstance(boxes, KnownBoxes):
        return boxes.table
    if ann_file is None:
        return None
    table = ImageTable(ann_file)
    for source in sources:
        table.names.find(source)
    return table
