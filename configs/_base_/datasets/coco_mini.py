# Real people of COCO, few enough to learn by heart: trained on and evaluated on the same images.
_base_ = './topdown.py'
train_dataloader = dict(
    dataset=dict(
        type='CocoDataset',
        data_root='data/coco_mini/',
        ann_file='annotations/person_keypoints_train.json',
        data_prefix=dict(img='images/'),
    ),
)
val_dataloader = dict(
    dataset=dict(
        type='CocoDataset',
        data_root='data/coco_mini/',
        ann_file='annotations/person_keypoints_train.json',
        data_prefix=dict(img='images/'),
    ),
)
