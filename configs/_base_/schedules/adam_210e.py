# The field's schedule (Xiao et al. 2018, Sun et al. 2019; warm-up as MMPose's).
optim_wrapper = dict(optimizer=dict(type='Adam', lr=5e-4))
auto_scale_lr = dict(base_batch_size=512)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, begin=0, end=500, by_epoch=False),
    dict(type='MultiStepLR', milestones=[170, 200], gamma=0.1),
]
train_cfg = dict(max_epochs=210, val_interval=10)
