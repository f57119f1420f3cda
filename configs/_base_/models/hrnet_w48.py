_base_ = './hrnet_w32.py'
model = dict(backbone=dict(arch='w48'))
