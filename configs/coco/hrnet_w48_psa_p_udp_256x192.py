_base_ = './hrnet_w48_psa_p_256x192.py'
codec = dict(type='UDPHeatmap')
