# PSA on real people, from scratch; the rate is the best of lspet_rate.py.
_base_ = './_base_/cpu.py'
title = 'PSA in HRNet-tiny on lspet, 128x96, from scratch'
base = 'configs/lspet/hrnet_tiny_psa_p_128x96.py'
factors = dict(attention=['none', 'psa_parallel', 'psa_sequential'])
seeds = (0, 1, 2, 3, 4)
budget = dict(epochs=30)
also = ('tPCK',)
options = {
    'optim_wrapper.optimizer.lr': 4e-3,
    'val_evaluator': [
        dict(type='CocoMetric'),
        dict(type='PCKAccuracy', thr=0.2, norm_item='torso'),
    ],
}
