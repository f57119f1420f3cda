# PSA in a tiny HRNet on the demo's rendered people (`make demo` makes them).
_base_ = './_base_/cpu.py'
title = 'PSA in HRNet-tiny on rendered people, 128x96'
base = 'configs/demo/hrnet_tiny_psa_p_128x96.py'
factors = dict(attention=['none', 'psa_parallel', 'psa_sequential'])
seeds = (0, 1, 2, 3, 4)
budget = dict(epochs=24)
also = ('PCK',)
options = {'val_evaluator': [dict(type='CocoMetric'), dict(type='PCKAccuracy', thr=0.2)]}
