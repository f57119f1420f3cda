_base_ = './simplebaseline_r152_psa_p_256x192.py'
codec = dict(type='UDPHeatmap')
