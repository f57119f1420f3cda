# SimpleBaseline-R18, whatever network the base config has.
options = {
    'model.backbone': dict(type='ResNet', depth=18),
    'model.head': dict(type='HeatmapHead'),
}
