# The best of recipe_hrnet_tiny.py, with seeds that the choice has not seen.
_base_ = './recipe_hrnet_tiny.py'
title = 'PSA in the first stage of HRNet-tiny on lspet, 128x96, equal time, fresh seeds'
factors = dict(
    _delete_=True,
    recipe={
        'none': {'model.backbone.attention': None},
        'stage1': {'model.backbone.attention_stages': (1,)},
    },
)
seeds = (3, 4, 5, 6, 7, 8, 9, 10, 11, 12)
