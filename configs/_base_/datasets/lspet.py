# Leeds Sports Pose Extended in COCO's format: 14 keypoints, all said by the JSON itself.
_base_ = './topdown.py'
train_dataloader = dict(
    dataset=dict(
        data_root='data/lspet/',
        ann_file='annotations/lspet_train.json',
        data_prefix=dict(img='images/'),
    ),
)
val_dataloader = dict(
    dataset=dict(
        data_root='data/lspet/',
        ann_file='annotations/lspet_dev.json',
        data_prefix=dict(img='images/'),
    ),
)
