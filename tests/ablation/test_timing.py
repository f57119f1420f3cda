"""Step times of arms side by side."""

from types import SimpleNamespace

import torch
from torch import Tensor, nn

from psa_pose.ablation import timing


class Network(nn.Module):
    def __init__(self, depth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Linear(2, 2) for _ in range(depth)))

    def loss(self, x: Tensor) -> Tensor:
        return self.layers(x).sum()


def test_every_arm_of_a_large_study_is_compiled(monkeypatch) -> None:
    """PyTorch compiles 8 variants of a function; the others would be timed as they are."""
    compiled = []

    def backend(graph, _):
        compiled.append(graph)
        return graph.forward

    def make_step(cfg):
        loss = torch.compile(Network(cfg['depth']).loss, dynamic=False, backend=backend)
        return lambda: loss(torch.zeros(1, 2))

    arms = {str(depth): {'compile': True, 'depth': depth} for depth in range(1, 11)}
    digests = {arm: arm for arm in arms}
    study = SimpleNamespace(configs=arms, baseline='1', digests=lambda: digests)
    monkeypatch.setattr(timing, 'make_step', make_step)
    with torch._dynamo.config.patch(recompile_limit=8):  # and as it was for other tests
        assert timing._measure(study).keys() == arms.keys()
    assert len(compiled) == len(arms)
