_base_ = './simplebaseline_r101_384x288.py'
model = dict(backbone=dict(attention=dict(type='PSA', layout='sequential')))
