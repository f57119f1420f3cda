_base_ = './simplebaseline_r50.py'
model = dict(backbone=dict(depth=152))
