_base_ = './simplebaseline_r50_psa_s_384x288.py'
codec = dict(unbiased=True, blur_kernel_size=17)
