_base_ = [
    '../_base_/runtime/default.py',
    '../_base_/schedules/adam_210e.py',
    '../_base_/datasets/coco.py',
    '../_base_/models/simplebaseline_r152.py',
]
codec = dict(type='MSRAHeatmap', input_size=(192, 256), heatmap_size=(48, 64), sigma=2)
