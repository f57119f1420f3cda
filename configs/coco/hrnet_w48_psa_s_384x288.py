_base_ = './hrnet_w48_384x288.py'
model = dict(backbone=dict(attention=dict(type='PSA', layout='sequential')))
