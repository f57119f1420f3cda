"""Compile PSA's Triton kernels for an H100 or H200 where there is none; print what they take.

    python tests/models/attention/compile_kernels.py [C x H x W ...]

Every launch of a forward and backward pass goes as far as machine code, with the blocks that the
GPU would get, and no further: what interpreting cannot find, and what costs no GPU time to read.
Registers beyond 128 leave fewer than four programs of four warps on a multiprocessor; a stack
means registers that did not suffice.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from psa_pose.models.attention import PSA, polarize_triton

DEFAULT = ['32x64x48', '48x12x9', '384x12x9']


class HopperElsewhere:
    """What the jit asks a driver before it launches anything."""

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget('cuda', 90, 32)


def compiled(x: torch.Tensor, layout: str) -> Iterator[tuple[str, triton.compiler.CompiledKernel]]:
    """The kernels of one forward and backward pass over x, in their order."""
    kernels = []
    launch = JITFunction.run

    def compile_only(self, *args, grid, warmup, **options):
        kernel = launch(self, *args, grid=grid, warmup=True, **options)
        kernels.append((self.fn.__name__, kernel))
        return kernel

    JITFunction.run = compile_only
    try:
        y = PSA(x.shape[1], layout)(x)
        y.backward(torch.empty_like(y))
    finally:
        JITFunction.run = launch
    yield from kernels


def resources(kernel: triton.compiler.CompiledKernel) -> tuple[int, int]:
    """Registers and bytes of stack of a thread."""
    tool = Path(triton.__file__).parent / 'backends/nvidia/bin/cuobjdump'
    with tempfile.NamedTemporaryFile(suffix='.cubin') as file:
        file.write(kernel.asm['cubin'])
        file.flush()
        command = [tool, '-res-usage', file.name]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r'REG:(\d+) STACK:(\d+)', said)
    assert found, said
    return int(found[1]), int(found[2])


def main() -> None:
    driver.set_active(HopperElsewhere())
    polarize_triton.INTERPRETED = True  # which is to say: take CPU tensors
    head = f'{"kernel":12}{"registers":>10}{"stack":>6}{"shared":>8}  global loads and stores'
    for shape in sys.argv[1:] or DEFAULT:
        channels, height, width = map(int, shape.split('x'))
        for dtype in (torch.float32, torch.bfloat16):
            for layout, memory_format in (
                ('parallel', torch.channels_last),
                ('sequential', torch.contiguous_format),
            ):
                x = torch.empty(32, channels, height, width, dtype=dtype, requires_grad=True)
                x = x.to(memory_format=memory_format)
                print(f'\n{shape} {dtype} {layout} {memory_format}\n{head}')
                names = []
                for name, kernel in compiled(x, layout):
                    names.append(name)
                    registers, stack = resources(kernel)
                    ptx = kernel.asm['ptx']
                    widths = re.findall(r'(?:ld|st)\.global\.(?:v\d\.)?b\d+', ptx)
                    copies = ptx.count('cp.async.cg') + ptx.count('cp.async.ca')
                    counts = {width: widths.count(width) for width in sorted(set(widths))}
                    text = ', '.join(f'{count} {width}' for width, count in counts.items())
                    text += f', {copies} cp.async' * (copies > 0)
                    print(f'{name:12}{registers:10}{stack:6}{kernel.metadata.shared:8}  {text}')
                    assert stack <= 64, f'{name} spills {stack} bytes'
                assert len(names) == 7, names


if __name__ == '__main__':
    main()
