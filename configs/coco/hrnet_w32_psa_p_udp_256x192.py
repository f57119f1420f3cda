_base_ = './hrnet_w32_psa_p_256x192.py'
codec = dict(type='UDPHeatmap')
