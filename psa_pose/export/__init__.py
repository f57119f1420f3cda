"""Models for use elsewhere: ONNX files and PyTorch programs, compared with the original."""

from psa_pose.export.run import export_model

__all__ = ['export_model']
