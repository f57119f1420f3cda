# As lspet_hrnet_tiny.py, in SimpleBaseline-R18.
_base_ = './lspet_hrnet_tiny.py'
title = 'PSA in SimpleBaseline-R18 on lspet, 128x96, from scratch'
seeds = (0, 1, 2)
budget = dict(epochs=20)
options = {
    'model.backbone': dict(type='ResNet', depth=18),
    'model.head': dict(type='HeatmapHead'),
    'optim_wrapper.optimizer.lr': 2e-3,
}
