_base_ = './simplebaseline_r101_256x192.py'
model = dict(backbone=dict(attention=dict(type='PSA', layout='sequential')))
