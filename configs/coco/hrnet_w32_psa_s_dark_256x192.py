_base_ = './hrnet_w32_psa_s_256x192.py'
codec = dict(unbiased=True)
