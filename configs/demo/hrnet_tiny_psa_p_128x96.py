# People rendered by this project (psa-pose demo-data data/demo): a few minutes on 2 CPU cores.
_base_ = [
    '../_base_/runtime/default.py',
    '../_base_/schedules/adamw_cosine.py',
    '../_base_/datasets/topdown.py',
    '../_base_/models/hrnet_tiny.py',
]
codec = dict(type='MSRAHeatmap', input_size=(96, 128), heatmap_size=(24, 32), sigma=1.5)
model = dict(
    backbone=dict(attention=dict(type='PSA', layout='parallel')),
    test_cfg=dict(flip_test=False),
)
# Rendered people stand mostly upright and whole: the field's augmentation, by half.
_pipeline = [
    dict(type='LoadImage'),
    dict(type='RandomBBoxTransform', scale_factor=(0.8, 1.2), rotate_factor=30),
    dict(type='TopdownAffine'),
]
train_dataloader = dict(
    dataset=dict(
        pipeline=_pipeline,
        data_root='data/demo/',
        ann_file='annotations/person_keypoints_train.json',
        data_prefix=dict(img='images/train/'),
    ),
)
val_dataloader = dict(
    batch_size=64,
    dataset=dict(
        data_root='data/demo/',
        ann_file='annotations/person_keypoints_val.json',
        data_prefix=dict(img='images/val/'),
    ),
)
train_cfg = dict(max_epochs=24, val_interval=6)
