# From the demo's rendered people (`make demo`) to real athletes, 17 keypoints to 14, in a tenth of
# the steps. Drawings are far from photographs: all of the network moves at the full rate.
_base_ = './hrnet_tiny_psa_p_128x96.py'
load_from = 'work_dirs/demo/checkpoints/last.ckpt'
train_cfg = dict(max_epochs=6, val_interval=6)
