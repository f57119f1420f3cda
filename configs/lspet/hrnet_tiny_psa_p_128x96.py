_base_ = [
    '../_base_/runtime/default.py',
    '../_base_/schedules/adamw_cosine.py',
    '../_base_/datasets/lspet.py',
    '../_base_/models/hrnet_tiny.py',
]
codec = dict(type='MSRAHeatmap', input_size=(96, 128), heatmap_size=(24, 32), sigma=1.5)
model = dict(backbone=dict(attention=dict(type='PSA', layout='parallel')))
train_cfg = dict(max_epochs=60, val_interval=10)
