# The rate of lspet_*.py's networks, chosen without attention before anything is compared.
_base_ = './_base_/cpu.py'
title = 'Learning rate without attention: lspet, 128x96, from scratch'
base = 'configs/lspet/hrnet_tiny_psa_p_128x96.py'
factors = dict(
    backbone=['hrnet_tiny', 'r18'],
    attention=['none'],
    rate={
        '5e-4': {'optim_wrapper.optimizer.lr': 5e-4},
        '1e-3': {'optim_wrapper.optimizer.lr': 1e-3},
        '2e-3': {'optim_wrapper.optimizer.lr': 2e-3},
        '4e-3': {'optim_wrapper.optimizer.lr': 4e-3},
    },
)
baseline = dict(rate='2e-3')
seeds = (0,)
budget = dict(epochs=5)
also = ('tPCK',)
options = {
    'val_evaluator': [
        dict(type='CocoMetric'),
        dict(type='PCKAccuracy', thr=0.2, norm_item='torso'),
    ],
}
