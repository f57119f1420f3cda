_base_ = './simplebaseline_r50_psa_s_256x192.py'
codec = dict(type='UDPHeatmap')
