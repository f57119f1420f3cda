"""The Python API: a config and a checkpoint, then images in and keypoints out."""

from collections.abc import Iterable, Iterator, Sequence
from math import isfinite
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config

from psa_pose.datasets.collate import collate
from psa_pose.engine.build import build_model
from psa_pose.engine.config import load_config
from psa_pose.engine.environment import gpus
from psa_pose.engine.step import step_options
from psa_pose.errors import ConfigError, ResultError
from psa_pose.inference.batching import predict_frames
from psa_pose.inference.box_files import box_file
from psa_pose.inference.boxes import Boxes, BoxSource, Called, GivenBoxes, WholeImage
from psa_pose.inference.crops import Cropper
from psa_pose.inference.detector import DETECTOR, PersonDetector
from psa_pose.inference.frames import Frame, Source
from psa_pose.inference.keypoints import model_keypoints
from psa_pose.inference.result import PoseResult
from psa_pose.inference.smoothing import Smoothing
from psa_pose.inference.sources import Inputs, open_sources
from psa_pose.inference.tracking import check_videos, smoothed
from psa_pose.models.checkpoints import load_checkpoint
from psa_pose.structures import PoseBatch


class Inferencer:
    """Predicts keypoints with a trained model.

    Persons are cut out, looked at and moved back to the image by the code of `psa-pose test`.

    Args:
        config: a config, its file or its name (`coco/hrnet_w32_psa_p_256x192.py`).
        checkpoint: a file of weights that fits it, whole; see `load_checkpoint`.
        device: 'cuda', 'cuda:1', 'mps', 'cpu'; default: the best that is there.
        batch_size: persons that the network sees at once, of several images where there are.
        detector: torchvision's model for `boxes='detector'`; see `PersonDetector`.
        detector_weights: its file; None downloads it when it is first needed.

    Attributes:
        info: the keypoints' names, skeleton and sigmas.
        report: what was loaded.

    Raises:
        ConfigError, CheckpointError, DataError: config, checkpoint, or what its keypoints are.

    Example:
        >>> inferencer = Inferencer('my.py', 'last.ckpt')
        >>> for result in inferencer('photos/', boxes='detector'):
        ...     print(result.source, result.keypoints.shape)
    """

    def __init__(
        self,
        config: str | Path | Config,
        checkpoint: str | Path,
        *,
        device: str | torch.device | None = None,
        batch_size: int = 32,
        detector: str = DETECTOR,
        detector_weights: str | Path | None = None,
    ) -> None:
        if batch_size < 1:
            raise ConfigError(f'batch_size must be 1 or more, got {batch_size}')
        cfg = config if isinstance(config, Config) else load_config(config)
        self.device, self.batch_size = find_device(device), batch_size
        self.info = model_keypoints(cfg, checkpoint)
        step = step_options(cfg, training=False)
        model = build_model(cfg, self.info)
        self.report = load_checkpoint(model, checkpoint, strict=True)
        self.model = model.use_channels_last(step.channels_last).to(self.device).eval()
        half = torch.float16 if self.device.type == 'cuda' else torch.bfloat16
        self._dtype = torch.float32 if step.eval_dtype == 'float32' else half
        self._crop = Cropper(cfg, model.codec, self.info)
        self._detector_name = detector
        self._detector_weights = Path(detector_weights) if detector_weights else None
        self._detector: PersonDetector | None = None

    def __call__(
        self,
        inputs: Inputs,
        boxes: Boxes = None,
        *,
        box_thr: float | None = None,
        ann_file: str | Path | None = None,
        smooth: bool | Smoothing = False,
        channel_order: str = 'rgb',
        upright: bool = False,
        on_error: str = 'raise',
    ) -> Iterator[PoseResult]:
        """Results one by one, in the order of the inputs; `list(...)` for all at once.

        An iterator over images and frames that holds a batch at a time, whatever a video's length.

        Args:
            inputs: an image file, an array (H, W, 3) uint8 (in **RGB**, see `channel_order`), a
                folder (its images by name, not those of folders in it), a pattern
                (`'photos/**/*.jpg'`), a video file, a camera (`'webcam:0'` or 0), or a list or
                iterator of these.
            boxes: where persons are. None: one, in the whole image. 'detector': torchvision's.
                A path: a JSON of boxes, see `box_file`. An array (N, 4), x1, y1, x2, y2 in pixels,
                or (N, 5) with a score: for the one image or all frames of the one video; a list of
                arrays: one for each input. A function: given the image, returns such an array.
            box_thr: boxes with a score above are used; default: 0.5 of 'detector', else 0.
            ann_file: annotations that say the images of `boxes` in COCO's result format.
            smooth: follow persons through each video and smooth their keypoints; True or a
                `Smoothing`. Scores stay as they are.
            channel_order: 'rgb' or 'bgr' (OpenCV's), of arrays.
            upright: turn image files as EXIF says; keypoints are then those of the turned image.
                Otherwise files are read as a dataset's are, which ignores it.
            on_error: 'raise' at an image or frame that cannot be read, or whose boxes cannot be
                right, or 'skip': its result has no person and an `error`.

        Raises:
            DataError: inputs or boxes that cannot be used.
            ConfigError: unknown options.
            CheckpointError: no weights for the detector.
            ResultError: the network's numbers are not finite.
        """
        sources = open_sources(inputs, channel_order, upright, self._crop.max_megapixels)
        box_source = self.box_source(boxes, box_thr, ann_file)
        pairs = self.predict(sources, box_source, smooth, on_error, keep_images=False)
        return (result for _, result in pairs)

    @property
    def max_megapixels(self) -> float:
        """That the config allows of an image file."""
        return self._crop.max_megapixels

    def box_source(
        self, boxes: Boxes, box_thr: float | None = None, ann_file: str | Path | None = None
    ) -> BoxSource:
        """What `boxes` means; see `__call__`."""
        if box_thr is not None and not isfinite(box_thr):
            raise ConfigError(f'box_thr must be a number, got {box_thr}')
        if boxes is None:
            return WholeImage()
        if isinstance(boxes, str) and boxes == 'detector':
            if self._detector is None:
                self._detector = PersonDetector(
                    self._detector_name, self._detector_weights, self.device
                )
            return Called(self._detector, 0.5 if box_thr is None else box_thr)
        threshold = 0.0 if box_thr is None else box_thr
        if isinstance(boxes, str | Path):
            return box_file(Path(boxes), threshold, Path(ann_file) if ann_file else None)
        return Called(boxes, threshold) if callable(boxes) else GivenBoxes(boxes, threshold)

    def predict(
        self,
        sources: Iterable[Source],
        boxes: BoxSource,
        smooth: bool | Smoothing = False,
        on_error: str = 'raise',
        keep_images: bool = True,
    ) -> Iterator[tuple[Frame, PoseResult]]:
        """Each frame with its result; for those who draw.

        Args:
            sources: from `open_sources`.
            boxes: from `box_source`.
            smooth: see `__call__`.
            on_error: likewise.
            keep_images: whether frames still have theirs.
        """
        if on_error not in ('raise', 'skip'):
            raise ConfigError(f"on_error must be 'raise' or 'skip', got {on_error!r}")
        boxes.check(sources)
        if smooth and isinstance(sources, list):
            check_videos(sources)
        pairs = predict_frames(
            sources,
            boxes,
            self._crop,
            self._poses,
            batch_size=self.batch_size,
            keep_images=keep_images,
            skip_errors=on_error == 'skip',
        )
        if smooth:
            options = smooth if isinstance(smooth, Smoothing) else Smoothing()
            return smoothed(pairs, self.info.sigmas, options)
        return pairs

    @torch.inference_mode()
    def _poses(self, samples: Sequence[PoseBatch]) -> tuple[np.ndarray, np.ndarray]:
        """Keypoints (B, K, 2) and scores (B, K) of persons that were cut out."""
        batch = PoseBatch(*(field.to(self.device) for field in collate(list(samples))))
        half = self._dtype != torch.float32
        with torch.autocast(self.device.type, self._dtype, enabled=half):
            prediction = self.model.predict(batch)
        keypoints, scores = (x.float().cpu().numpy() for x in prediction)
        if not (np.isfinite(keypoints).all() and np.isfinite(scores).all()):
            raise ResultError('predicted keypoints are not finite numbers: has training diverged?')
        return keypoints, scores


def find_device(name: str | torch.device | None) -> torch.device:
    """The device of a name, or the best of this machine.

    Raises:
        ConfigError: it is not there, or cannot be used; says which are.
    """
    if str(name) in ('cpu', 'cpu:0'):  # also where a GPU cannot be used
        return torch.device('cpu')
    there = [f'cuda:{i}' for i in range(gpus())]
    there += ['mps'] if torch.backends.mps.is_available() else []
    there.append('cpu')
    if name is None:
        return torch.device(there[0])
    asked = str(name)
    same = {'cuda': 'cuda:0', 'mps:0': 'mps'}
    if same.get(asked, asked) not in there:
        raise ConfigError(f"device '{asked}' is not on this machine, which has {', '.join(there)}")
    return torch.device(asked)
