# Is there a setting in which PSA clearly beats the network without it, in the same time? Layout,
# the gates' scale at the start, their learning rate and weight decay, and the stages with PSA.
_base_ = './lspet_hrnet_tiny.py'
title = 'Recipes for PSA in HRNet-tiny on lspet, 128x96, equal time'
_psa = 'model.backbone.attention'
_stages = 'model.backbone.attention_stages'
_gates = 'optim_wrapper.paramwise_cfg.custom_keys.attention'
_sequential = dict(type='PSA', layout='sequential')
factors = dict(
    _delete_=True,
    recipe={
        'none': {_psa: None},
        'parallel': {},
        'sequential': {_psa: _sequential},
        'parallel_identity': {f'{_psa}.identity_init': True},
        'sequential_identity': {_psa: dict(**_sequential, identity_init=True)},
        'rate_x0.3': {_gates: dict(lr_mult=0.3)},
        'rate_x3': {_gates: dict(lr_mult=3.0)},
        'rate_x10': {_gates: dict(lr_mult=10.0)},
        'decay_0': {_gates: dict(decay_mult=0.0)},
        'decay_x100': {_gates: dict(decay_mult=100.0)},
        'stage1': {_stages: (1,)},
        'stage4': {_stages: (4,)},
        'stages3_4': {_stages: (3, 4)},
    },
)
seeds = (0, 1, 2)
budget = dict(_delete_=True, minutes=3)
