default_scope = 'psa_pose'
randomness = dict(seed=0)
default_hooks = dict(
    logger=dict(interval=50),
    checkpoint=dict(interval=1, save_best='AP'),
)
trainer = dict(precision='32-true')  # goes to lightning.Trainer word for word
load_from = None
