_base_ = './simplebaseline_r101_256x192.py'
codec = dict(type='UDPHeatmap')
