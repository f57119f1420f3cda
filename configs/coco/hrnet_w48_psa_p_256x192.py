_base_ = './hrnet_w48_256x192.py'
model = dict(backbone=dict(attention=dict(type='PSA', layout='parallel')))
