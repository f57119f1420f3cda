_base_ = './hrnet_w48_256x192.py'
codec = dict(type='UDPHeatmap')
