_base_ = './hrnet_w32_udp_256x192.py'
codec = dict(heatmap_type='combined')
model = dict(head=dict(loss=dict(type='CombinedTargetMSELoss')))
