_base_ = './hrnet_w32_384x288.py'
codec = dict(type='UDPHeatmap', blur_kernel_size=17)
