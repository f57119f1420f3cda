# MPII with MMPose's augmentation for it: as COCO's, without half bodies and shifts.
_base_ = './topdown.py'
train_dataloader = dict(
    num_workers=4,
    dataset=dict(
        type='MpiiDataset',
        data_root='data/mpii/',
        ann_file='annotations/mpii_train.json',
        data_prefix=dict(img='images/'),
        pipeline=[
            dict(type='LoadImage'),
            dict(type='RandomFlip'),
            dict(type='RandomBBoxTransform', shift_prob=0),
            dict(type='TopdownAffine'),
        ],
    ),
)
val_dataloader = dict(
    num_workers=4,
    dataset=dict(
        type='MpiiDataset',
        data_root='data/mpii/',
        ann_file='annotations/mpii_val.json',
        data_prefix=dict(img='images/'),
    ),
)
val_evaluator = dict(
    _delete_=True,
    type='MpiiPCKAccuracy',
    gt_file='annotations/mpii_gt_val.mat',  # below data_root
)
