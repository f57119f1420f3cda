# As demo_hrnet_tiny.py, in SimpleBaseline-R18, whose step takes longer.
_base_ = ['./demo_hrnet_tiny.py', './_base_/r18.py']
title = 'PSA in SimpleBaseline-R18 on rendered people, 128x96'
seeds = (0, 1, 2)
budget = dict(epochs=8)
