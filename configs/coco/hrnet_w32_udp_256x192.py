_base_ = './hrnet_w32_256x192.py'
codec = dict(type='UDPHeatmap')
