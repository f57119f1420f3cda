# Does HRNet-W18 with PSA want another rate, or another start, than lspet_w18.py gave it? The rate
# was chosen without attention, and the best was the highest tried.
_base_ = './lspet_w18.py'
title = 'Learning rate and start of PSA in HRNet-W18: lspet, 128x96, from scratch'
_psa = 'model.backbone.attention'
_rate = 'optim_wrapper.optimizer.lr'
_identity = dict(type='PSA', identity_init=True)
factors = dict(
    _delete_=True,
    setting={
        'none_4e-3': {_psa: None},
        'none_8e-3': {_psa: None, _rate: 8e-3},
        'parallel_2e-3': {_rate: 2e-3},
        'parallel_4e-3': {},
        'parallel_8e-3': {_rate: 8e-3},
        'identity_4e-3': {_psa: _identity},
        'identity_8e-3': {_psa: _identity, _rate: 8e-3},
        'sequential_identity_4e-3': {_psa: dict(_identity, layout='sequential')},
    },
)
baseline = dict(setting='none_4e-3')
seeds = (0,)
budget = dict(epochs=5)
