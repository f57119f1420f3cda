"""Triton kernels of the paper's PSA; `polarize_triton` launches them and says when.

Names are those of `polarize`. A map is read in tiles of BLOCK_N pixels with all of their channels,
because every sum over channels that a pixel needs (Wq x, t^T x, the gates' gradients) is then at
hand in the same pass. What belongs to a pixel is never stored: the backward computes it anew from
the x that it reads anyway. Vectors and sums are float32.

    forward    _pool     reads x      Wq x, its online softmax, the sums u and mean, in parts
               _vectors  small        both gates' vectors, one row of `vectors` for each image
               _gate     reads x      g_sp, writes the output
    backward   (`polarize_kernels_backward`)
               _reduce   reads x, dy  dg_sp, and the sums dg_ch and dt, in parts
               _dvectors small        back through both gates, one row of `dvectors` for each image
               _dx       reads x, dy  writes dx; the sum for Wq, in parts
               _dweights small        sums over the images

Two softmaxes need no pass of their own in the backward: sum_n q_n dq_n = du^T u, because u = x q
and dq_n = du^T x_n; and sum_k p_k dp_k = dt^T t in the same way.
"""
# ruff: noqa: N803, N806 -- compile-time constants in capitals, as Triton has them
# mypy: ignore-errors

import triton
import triton.language as tl

# A row of `vectors`: these, each of C values, then scalars
U = tl.constexpr(0)
Z = tl.constexpr(1)
G_CH = tl.constexpr(2)
MEAN = tl.constexpr(3)
T = tl.constexpr(4)
V_L = tl.constexpr(5)  # v, and Wq' mean(x), the logits of p: C/2 values each
TOP, SUM, Z_MEAN, Z_RSTD, P_TOP, P_SUM = (tl.constexpr(i) for i in range(6))
VECTORS = tl.constexpr(6)
SCALARS = tl.constexpr(8)  # of a row, padded


@triton.jit
def _offsets(n, c, N, C: tl.constexpr, LAST: tl.constexpr):
    """Of pixels n and channels c in an image that is channels-last, or else contiguous."""
    if LAST:
        return n[:, None] * C + c[None, :]
    else:
        return c[None, :] * N + n[:, None]


@triton.jit
def _tiles(N, BLOCK_N: tl.constexpr):
    """This program's share of an image: a tile less or more than another's."""
    count = tl.cdiv(N, BLOCK_N)
    split, splits = tl.program_id(1), tl.num_programs(1)
    return split * count // splits, (split + 1) * count // splits


@triton.jit
def _load(at, inside):
    return tl.load(at, inside, 0.0).to(tl.float32)


@triton.jit
def _sigmoid(x):
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
def _pool(
    x,
    q_right,
    parts,
    N,
    C: tl.constexpr,
    LAST: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_N: tl.constexpr,
    STAGES: tl.constexpr,
):
    """A part: u before its division, the sum of x, the largest logit, the sum of exponentials."""
    image, split = tl.program_id(0), tl.program_id(1)
    x += image.to(tl.int64) * C * N
    c = tl.arange(0, BLOCK_C)
    in_c = c < C
    w_q = _load(q_right + c, in_c)
    top, total = float('-inf'), 0.0
    u = tl.zeros([BLOCK_C], tl.float32)
    x_sum = tl.zeros([BLOCK_C], tl.float32)
    first, end = _tiles(N, BLOCK_N)
    for tile in tl.range(first, end, num_stages=STAGES):
        n = tile * BLOCK_N + tl.arange(0, BLOCK_N)
        inside = (n < N)[:, None] & in_c[None, :]
        pixels = _load(x + _offsets(n, c, N, C, LAST), inside)
        logits = tl.where(n < N, tl.sum(pixels * w_q[None, :], 1), float('-inf'))
        new_top = tl.maximum(top, tl.max(logits, 0))
        e = tl.exp(logits - new_top)
        shrink = tl.exp(top - new_top)
        total = total * shrink + tl.sum(e, 0)
        u = u * shrink + tl.sum(pixels * e[:, None], 0)
        x_sum += tl.sum(pixels, 0)
        top = new_top
    parts += (image * tl.num_programs(1) + split) * (2 * C + 2)
    tl.store(parts + c, u, in_c)
    tl.store(parts + C + c, x_sum, in_c)
    tl.store(parts + 2 * C, top)
    tl.store(parts + 2 * C + 1, total)


@triton.jit
def _channel_vectors(
    u, row, v_right, up, norm_weight, norm_bias, scale, eps, c, C: tl.constexpr, ROWS: tl.constexpr
):
    """u -> v, z, g_ch; v goes from one product into the next without being gathered."""
    HALF: tl.constexpr = C // 2
    in_c = c < C
    z = tl.zeros_like(u)
    for start in range(0, HALF, ROWS):
        k = start + tl.arange(0, ROWS)
        inside = (k < HALF)[:, None] & in_c[None, :]
        w_v = _load(v_right + k[:, None] * C + c[None, :], inside)
        w_z = _load(up + c[None, :] * HALF + k[:, None], inside)
        v = tl.sum(w_v * u[None, :], 1)
        tl.store(row + V_L * C + k, v, k < HALF)
        z += tl.sum(w_z * v[:, None], 0)
    z_mean = tl.sum(z, 0) / C
    centred = tl.where(in_c, z - z_mean, 0.0)
    z_rstd = 1.0 / tl.sqrt(tl.sum(centred * centred, 0) / C + eps)
    gamma, beta = _load(norm_weight + c, in_c), _load(norm_bias + c, in_c)
    g_ch = scale * _sigmoid(centred * z_rstd * gamma + beta)
    tl.store(row + U * C + c, u, in_c)
    tl.store(row + Z * C + c, z, in_c)
    tl.store(row + G_CH * C + c, g_ch, in_c)
    tl.store(row + VECTORS * C + Z_MEAN, z_mean)
    tl.store(row + VECTORS * C + Z_RSTD, z_rstd)
    return g_ch


@triton.jit
def _spatial_vectors(mean, row, q_left, v_left, c, C: tl.constexpr, ROWS: tl.constexpr):
    """mean -> the logits of p, t; the softmax is online, so that one loop does."""
    HALF: tl.constexpr = C // 2
    in_c = c < C
    top, total = float('-inf'), 0.0
    t = tl.zeros_like(mean)
    for start in range(0, HALF, ROWS):
        k = start + tl.arange(0, ROWS)
        inside = (k < HALF)[:, None] & in_c[None, :]
        w_q = _load(q_left + k[:, None] * C + c[None, :], inside)
        w_v = _load(v_left + k[:, None] * C + c[None, :], inside)
        logits = tl.sum(w_q * mean[None, :], 1)
        tl.store(row + V_L * C + HALF + k, logits, k < HALF)
        logits = tl.where(k < HALF, logits, float('-inf'))
        new_top = tl.maximum(top, tl.max(logits, 0))
        e = tl.exp(logits - new_top)
        shrink = tl.exp(top - new_top)
        total = total * shrink + tl.sum(e, 0)
        t = t * shrink + tl.sum(w_v * e[:, None], 0)
        top = new_top
    tl.store(row + T * C + c, t / total, in_c)
    tl.store(row + VECTORS * C + P_TOP, top)
    tl.store(row + VECTORS * C + P_SUM, total)


@triton.jit(do_not_specialize=['splits'])
def _vectors(
    parts,
    vectors,
    v_right,
    up,
    norm_weight,
    norm_bias,
    q_left,
    v_left,
    N,
    splits,
    scale,
    eps,
    C: tl.constexpr,
    SEQUENTIAL: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
    ROWS: tl.constexpr,
):
    """One program for each image, or in parallel two, because its gates do not wait for another."""
    image, gate = tl.program_id(0), tl.program_id(1)
    row = vectors + image * (VECTORS * C + SCALARS)
    c = tl.arange(0, BLOCK_C)
    in_c = c < C
    i = tl.arange(0, BLOCK_P)
    part = parts + (image * splits + i) * (2 * C + 2)
    inside = (i < splits)[:, None] & in_c[None, :]
    if gate == 0:
        tops = tl.load(part + 2 * C, i < splits, float('-inf'))
        top = tl.max(tops, 0)
        weights = tl.exp(tops - top)
        total = tl.sum(weights * _load(part + 2 * C + 1, i < splits), 0)
        u = tl.sum(_load(part[:, None] + c[None, :], inside) * weights[:, None], 0) / total
        tl.store(row + VECTORS * C + TOP, top)
        tl.store(row + VECTORS * C + SUM, total)
        g_ch = _channel_vectors(u, row, v_right, up, norm_weight, norm_bias, scale, eps, c, C, ROWS)
        if SEQUENTIAL:
            mean = tl.sum(_load(part[:, None] + C + c[None, :], inside), 0) / N
            tl.store(row + MEAN * C + c, mean, in_c)
            _spatial_vectors(g_ch * mean, row, q_left, v_left, c, C, ROWS)
    else:
        mean = tl.sum(_load(part[:, None] + C + c[None, :], inside), 0) / N
        tl.store(row + MEAN * C + c, mean, in_c)
        _spatial_vectors(mean, row, q_left, v_left, c, C, ROWS)


@triton.jit
def _gate(
    x,
    out,
    vectors,
    N,
    scale,
    C: tl.constexpr,
    SEQUENTIAL: tl.constexpr,
    LAST: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_N: tl.constexpr,
    STAGES: tl.constexpr,
):
    image = tl.program_id(0)
    x += image.to(tl.int64) * C * N
    out += image.to(tl.int64) * C * N
    row = vectors + image * (VECTORS * C + SCALARS)
    c = tl.arange(0, BLOCK_C)
    in_c = c < C
    g_ch, t = _load(row + G_CH * C + c, in_c), _load(row + T * C + c, in_c)
    if SEQUENTIAL:
        t *= g_ch
    first, end = _tiles(N, BLOCK_N)
    for tile in tl.range(first, end, num_stages=STAGES):
        n = tile * BLOCK_N + tl.arange(0, BLOCK_N)
        inside = (n < N)[:, None] & in_c[None, :]
        at = _offsets(n, c, N, C, LAST)
        pixels = _load(x + at, inside)
        g_sp = scale * _sigmoid(tl.sum(pixels * t[None, :], 1))
        if SEQUENTIAL:
            y = pixels * (g_ch[None, :] * g_sp[:, None])
        else:
            y = pixels * (g_ch[None, :] + g_sp[:, None])
        tl.store(out + at, y.to(out.dtype.element_ty), inside)
