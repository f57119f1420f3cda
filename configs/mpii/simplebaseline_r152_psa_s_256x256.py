_base_ = './simplebaseline_r152_256x256.py'
model = dict(backbone=dict(attention=dict(type='PSA', layout='sequential')))
