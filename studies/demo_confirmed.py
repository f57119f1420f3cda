# The parallel layout, above the baseline in demo_hrnet_tiny.py, with seeds that it has not seen.
_base_ = './demo_hrnet_tiny.py'
title = 'PSA, parallel, in HRNet-tiny on rendered people, 128x96, fresh seeds'
factors = dict(_delete_=True, attention=['none', 'psa_parallel'])
seeds = tuple(range(5, 25))
