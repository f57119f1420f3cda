# The hint of lspet_w18_psa_rate.py, where HRNet-W18 kept up with PSA put in as the identity, after
# five epochs and with one seed: longer, and with seeds that it has not seen.
_base_ = './lspet_w18.py'
title = 'PSA put into HRNet-W18 as the identity: lspet, 128x96, from scratch'
_psa = 'model.backbone.attention'
factors = dict(
    _delete_=True,
    psa={
        'none': {_psa: None},
        'parallel_identity': {_psa: dict(type='PSA', identity_init=True)},
        'sequential_identity': {_psa: dict(type='PSA', layout='sequential', identity_init=True)},
    },
)
seeds = (1, 2, 3)
