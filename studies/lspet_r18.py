# PSA on real people, from scratch; the rate is lspet_rate.py's.
_base_ = './_base_/cpu.py'
title = 'PSA in SimpleBaseline-R18 on lspet, 128x96, from scratch'
base = 'configs/lspet/hrnet_tiny_psa_p_128x96.py'
factors = dict(backbone=['r18'], attention=['none', 'psa_parallel', 'psa_sequential'])
seeds = (0, 1, 2)
budget = dict(epochs=20)
also = ('tPCK',)
options = {
    'val_evaluator': [
        dict(type='CocoMetric'),
        dict(type='PCKAccuracy', thr=0.2, norm_item='torso'),
    ],
}
