# For a machine without a GPU: two thirds of the time in bfloat16, and cells share few cores.
options = {
    'optim_wrapper.type': 'AmpOptimWrapper',
    'optim_wrapper.dtype': 'bfloat16',
    'train_dataloader.num_workers': 1,
    'val_dataloader.num_workers': 1,
}
