# lspet_rate.py for HRNet-W18.
_base_ = './lspet_rate.py'
title = 'Learning rate of HRNet-W18 without attention: lspet, 128x96, from scratch'
factors = dict(backbone=['hrnet_w18'])
