_base_ = './simplebaseline_r101_psa_s_256x192.py'
codec = dict(unbiased=True)
