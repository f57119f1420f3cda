_base_ = [
    '../_base_/runtime/default.py',
    '../_base_/schedules/adam_210e.py',
    '../_base_/datasets/mpii.py',
    '../_base_/models/simplebaseline_r152.py',
]
codec = dict(type='MSRAHeatmap', input_size=(256, 256), heatmap_size=(64, 64), sigma=2)
default_hooks = dict(checkpoint=dict(save_best='PCKh'))
