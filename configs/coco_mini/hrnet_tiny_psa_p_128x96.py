# A check that the path can learn real people: few, without augmentation, learnt by heart.
_base_ = [
    '../_base_/runtime/default.py',
    '../_base_/schedules/adamw_cosine.py',
    '../_base_/datasets/coco_mini.py',
    '../_base_/models/hrnet_tiny.py',
]
codec = dict(type='MSRAHeatmap', input_size=(96, 128), heatmap_size=(24, 32), sigma=1.5)
model = dict(
    backbone=dict(attention=dict(type='PSA', layout='parallel')),
    test_cfg=dict(flip_test=False),
)
train_dataloader = dict(
    dataset=dict(pipeline=[dict(type='LoadImage'), dict(type='TopdownAffine')]),
)
train_cfg = dict(max_epochs=150, val_interval=25)
