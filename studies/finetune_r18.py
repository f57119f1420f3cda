# lspet_r18.py's network without attention (14 keypoints) learns COCO's people (17): as it is, and
# with PSA put in, as the identity or with random gates.
_base_ = './_base_/cpu.py'
title = 'PSA put into a trained R18: from lspet to coco_mini, 128x96'
base = 'configs/coco_mini/hrnet_tiny_psa_p_128x96.py'
factors = dict(
    attention=dict(
        none={'model.backbone.attention': None},
        **{
            f'psa_{layout}_{start}': {
                'model.backbone.attention': dict(
                    type='PSA', layout=layout, identity_init=start == 'identity'
                )
            }
            for layout in ('parallel', 'sequential')
            for start in ('identity', 'random')
        },
    )
)
seeds = (0, 1, 2, 3, 4)
budget = dict(epochs=40)
also = ('PCK',)
options = {
    'model.backbone': dict(type='ResNet', depth=18),
    'model.head': dict(type='HeatmapHead'),
    'load_from': 'work_dirs/studies/lspet_r18/none/seed0/run/checkpoints/last.ckpt',
    'train_dataloader.dataset.pipeline': [
        dict(type='LoadImage'),
        dict(type='RandomFlip'),
        dict(type='RandomHalfBody'),
        dict(type='RandomBBoxTransform'),
        dict(type='TopdownAffine'),
    ],
    'val_dataloader.dataset.ann_file': 'annotations/person_keypoints_dev.json',
    'val_evaluator': [dict(type='CocoMetric'), dict(type='PCKAccuracy', thr=0.2)],
    'model.test_cfg.flip_test': True,
}
