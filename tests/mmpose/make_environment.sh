#!/usr/bin/env bash
# A real MMPose (CPU) in an environment of its own, for the checks of docs/mmpose.md.
# usage: [PYTHON=python3.11] make_environment.sh [DIR]
# DIR is ~/.cache/psa-pose/mmpose unless given; a second run returns at once, a broken one goes on.
set -euo pipefail
python=${PYTHON:-python3}
dir=${1:-$HOME/.cache/psa-pose/mmpose}
stamp=$dir/.ready-1
[ -e "$stamp" ] && { echo "$dir"; exit 0; }
"$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' || {
  echo "MMPose 1.1 needs Python 3.10 to 3.12 (NumPy 1): name one by PYTHON=, $python is another" >&2
  exit 1
}
"$python" -m venv "$dir" >&2
pip=("$dir/bin/python" -m pip --disable-pip-version-check --quiet install)
# setuptools 81 has no pkg_resources, which MMEngine imports
"${pip[@]}" 'setuptools<81' torch==2.13.0 'numpy<2' 'opencv-python<4.12' mmengine==0.10.7 \
  mmcv-lite==2.1.0 json_tricks munkres scipy matplotlib pillow six pycocotools xtcocotools >&2
"${pip[@]}" --no-deps mmpose==1.1.0 >&2  # its metadata asks for chumpy, which no longer builds
"$dir/bin/python" -c 'import cv2' 2>/dev/null ||  # no libGL here: its headless twin takes its place
  "${pip[@]}" --force-reinstall --no-deps 'opencv-python-headless<4.12' >&2
# MMPose needs one name of torchvision, for a plot that nobody draws here; its wheels do not import
# beside every torch.
site=$("$dir/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
mkdir -p "$site/torchvision/transforms"
echo "__version__ = '0.0.0'" > "$site/torchvision/__init__.py"
echo "ToPILImage = None" > "$site/torchvision/transforms/__init__.py"
"$dir/bin/python" -W ignore -c 'from mmpose.utils import register_all_modules; register_all_modules()' >&2
touch "$stamp"
echo "$dir"
