_base_ = './simplebaseline_r152_256x192.py'
codec = dict(unbiased=True)
