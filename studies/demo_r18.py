# As demo_hrnet_tiny.py, in SimpleBaseline-R18, whose step takes longer.
_base_ = './demo_hrnet_tiny.py'
title = 'PSA in SimpleBaseline-R18 on rendered people, 128x96'
seeds = (0, 1, 2)
budget = dict(epochs=8)
options = {
    'model.backbone': dict(type='ResNet', depth=18),
    'model.head': dict(type='HeatmapHead'),
}
