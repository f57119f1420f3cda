# As lspet_hrnet_tiny.py, in HRNet-W18; the rate is the best of lspet_w18_rate.py.
_base_ = './lspet_hrnet_tiny.py'
title = 'PSA in HRNet-W18 on lspet, 128x96, from scratch'
seeds = (0, 1, 2)
budget = dict(epochs=12)
options = {
    'model.backbone.arch': 'w18',
    'optim_wrapper.optimizer.lr': 4e-3,
}
