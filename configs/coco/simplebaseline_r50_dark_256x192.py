_base_ = './simplebaseline_r50_256x192.py'
codec = dict(unbiased=True)
