"""PSA-Pose: human-pose estimation training with Polarized Self-Attention."""

from typing import Any

from psa_pose import registry  # noqa: F401  (makes the scope `psa_pose` known to mmengine)

__version__ = '0.1.0'
__all__ = ['Inferencer', 'build_model']


def __getattr__(name: str) -> Any:
    # Lazy, so that `import psa_pose` inside a data worker or another framework stays cheap.
    if name == 'build_model':
        from psa_pose.engine.build import build_model

        return build_model
    if name == 'Inferencer':
        from psa_pose.inference import Inferencer

        return Inferencer
    raise AttributeError(f"module 'psa_pose' has no attribute '{name}'")
