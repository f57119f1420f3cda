# The PSA paper's table on COCO, at its size and with its networks: what would settle it. 12 arms, 3
# seeds, 210 epochs; for GPUs. docs/reproducing_the_paper.md says what it costs and how to read it.
title = 'PSA on COCO val2017, 384x288, ground-truth boxes'
base = 'configs/coco/hrnet_w32_384x288.py'
factors = dict(
    backbone=['r50', 'r152', 'hrnet_w32', 'hrnet_w48'],
    attention=['none', 'psa_parallel', 'psa_sequential'],
)
baseline = dict(attention='none')  # each network is compared with itself
seeds = (0, 1, 2)
budget = dict(epochs=210)
