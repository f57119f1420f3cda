_base_ = './simplebaseline_r50_384x288.py'
codec = dict(type='UDPHeatmap', blur_kernel_size=17)
