# The field's training augmentation, and none in evaluation; a dataset names its files.
train_dataloader = dict(
    batch_size=32,
    num_workers=2,
    dataset=dict(
        type='CocoStyleDataset',
        pipeline=[
            dict(type='LoadImage'),
            dict(type='RandomFlip'),
            dict(type='RandomHalfBody'),
            dict(type='RandomBBoxTransform'),
            dict(type='TopdownAffine'),
        ],
    ),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=2,
    dataset=dict(
        type='CocoStyleDataset',
        pipeline=[dict(type='LoadImage'), dict(type='TopdownAffine')],
    ),
)
val_evaluator = dict(type='CocoMetric')
