_base_ = './hrnet_w32_256x256.py'
model = dict(backbone=dict(attention=dict(type='PSA', layout='parallel')))
