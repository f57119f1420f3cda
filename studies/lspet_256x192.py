# lspet_*.py's question at the size that it deserves, for a GPU: 200,000 samples a training.
title = 'PSA on lspet, 256x192, from scratch'
base = 'configs/lspet/hrnet_tiny_psa_p_128x96.py'
factors = dict(
    backbone=['r50', 'hrnet_w32'],
    attention=['none', 'psa_parallel', 'psa_sequential'],
)
baseline = dict(attention='none')
seeds = (0, 1, 2)
budget = dict(epochs=57)
also = ('tPCK',)
options = {
    'codec': dict(type='MSRAHeatmap', input_size=(192, 256), heatmap_size=(48, 64), sigma=2),
    'val_evaluator': [
        dict(type='CocoMetric'),
        dict(type='PCKAccuracy', thr=0.2, norm_item='torso'),
    ],
}
