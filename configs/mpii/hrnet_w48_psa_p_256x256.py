_base_ = './hrnet_w48_256x256.py'
model = dict(backbone=dict(attention=dict(type='PSA', layout='parallel')))
