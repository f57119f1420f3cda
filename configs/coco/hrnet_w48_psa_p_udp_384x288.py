_base_ = './hrnet_w48_psa_p_384x288.py'
codec = dict(type='UDPHeatmap', blur_kernel_size=17)
