default_scope = 'psa_pose'
randomness = dict(seed=0)
default_hooks = dict(
    logger=dict(interval=50),
    checkpoint=dict(interval=1, save_best='AP'),
    visualization=dict(interval=1, persons=8),
)
env_cfg = dict(cudnn_benchmark=True, channels_last=True)
trainer = dict()  # goes to lightning.Trainer word for word
load_from = None
