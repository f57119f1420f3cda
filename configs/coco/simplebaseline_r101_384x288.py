_base_ = [
    '../_base_/runtime/default.py',
    '../_base_/schedules/adam_210e.py',
    '../_base_/datasets/coco.py',
    '../_base_/models/simplebaseline_r101.py',
]
codec = dict(type='MSRAHeatmap', input_size=(288, 384), heatmap_size=(72, 96), sigma=3)
