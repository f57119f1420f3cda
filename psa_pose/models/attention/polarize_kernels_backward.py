"""The backward half of `polarize_kernels`, which says how; `dname` is the gradient of `name`."""
# ruff: noqa: N803, N806 -- compile-time constants in capitals, as Triton has them
# mypy: ignore-errors

import triton
import triton.language as tl

from psa_pose.models.attention.polarize_kernels import (
    G_CH,
    MEAN,
    P_SUM,
    P_TOP,
    SCALARS,
    SUM,
    TOP,
    V_L,
    VECTORS,
    Z_MEAN,
    Z_RSTD,
    T,
    U,
    Z,
    _load,
    _offsets,
    _sigmoid,
    _tiles,
)

# A row of `dvectors`
DT = tl.constexpr(0)
DMEAN = tl.constexpr(1)  # divided by N, as every pixel gets it
DU = tl.constexpr(2)
DZ = tl.constexpr(3)
DNORM_WEIGHT = tl.constexpr(4)
DNORM_BIAS = tl.constexpr(5)
M = tl.constexpr(6)  # of what p's logits are taken: mean(x), or g_ch*mean(x)
DV_DL = tl.constexpr(7)  # the gradients of v and of p's logits
P = tl.constexpr(8)  # C/2 values
DU_U = tl.constexpr(0)  # du^T u
DVECTORS = tl.constexpr(9)


@triton.jit
def _back_to_pixels(pixels, dy, t, g_ch, scale, SEQUENTIAL: tl.constexpr):
    """g_sp and the gradient of its logits."""
    s = _sigmoid(tl.sum(pixels * t[None, :], 1))
    products = pixels * dy
    if SEQUENTIAL:
        products *= g_ch[None, :]
    dg_sp = tl.sum(products, 1)
    return scale * s, scale * dg_sp * s * (1.0 - s)


@triton.jit
def _reduce(
    x,
    dy,
    vectors,
    parts,
    N,
    scale,
    C: tl.constexpr,
    SEQUENTIAL: tl.constexpr,
    LAST: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_N: tl.constexpr,
    STAGES: tl.constexpr,
):
    """A part: dt and dg_ch, the latter through the product of gate and x only."""
    image, split = tl.program_id(0), tl.program_id(1)
    x += image.to(tl.int64) * C * N
    dy += image.to(tl.int64) * C * N
    row = vectors + image * (VECTORS * C + SCALARS)
    c = tl.arange(0, BLOCK_C)
    in_c = c < C
    g_ch, t = _load(row + G_CH * C + c, in_c), _load(row + T * C + c, in_c)
    if SEQUENTIAL:
        t *= g_ch
    dt = tl.zeros([BLOCK_C], tl.float32)
    dg_ch = tl.zeros([BLOCK_C], tl.float32)
    first, end = _tiles(N, BLOCK_N)
    for tile in tl.range(first, end, num_stages=STAGES):
        n = tile * BLOCK_N + tl.arange(0, BLOCK_N)
        inside = (n < N)[:, None] & in_c[None, :]
        at = _offsets(n, c, N, C, LAST)
        pixels, grad = _load(x + at, inside), _load(dy + at, inside)
        g_sp, dlogits = _back_to_pixels(pixels, grad, t, g_ch, scale, SEQUENTIAL)
        dt += tl.sum(pixels * dlogits[:, None], 0)
        if SEQUENTIAL:
            dg_ch += tl.sum(pixels * grad * g_sp[:, None], 0)
        else:
            dg_ch += tl.sum(pixels * grad, 0)
    parts += (image * tl.num_programs(1) + split) * (2 * C)
    tl.store(parts + c, dt, in_c)
    tl.store(parts + C + c, dg_ch, in_c)


@triton.jit
def _channel_dvectors(
    dg_ch, row, drow, v_right, up, norm_weight, scale, c, C: tl.constexpr, ROWS: tl.constexpr
):
    """dg_ch -> dz, dv, du."""
    HALF: tl.constexpr = C // 2
    in_c = c < C
    s = _load(row + G_CH * C + c, in_c) / scale
    dh = scale * dg_ch * s * (1.0 - s)
    z_rstd = tl.load(row + VECTORS * C + Z_RSTD)
    z = (_load(row + Z * C + c, in_c) - tl.load(row + VECTORS * C + Z_MEAN)) * z_rstd
    tl.store(drow + DNORM_WEIGHT * C + c, dh * z, in_c)
    tl.store(drow + DNORM_BIAS * C + c, dh, in_c)
    dh *= _load(norm_weight + c, in_c)  # zero beyond C, and so are the sums' terms
    dz = z_rstd * (dh - tl.sum(dh, 0) / C - z * (tl.sum(dh * z, 0) / C))
    dz = tl.where(in_c, dz, 0.0)
    tl.store(drow + DZ * C + c, dz, in_c)
    du = tl.zeros_like(dz)
    for start in range(0, HALF, ROWS):
        k = start + tl.arange(0, ROWS)
        inside = (k < HALF)[:, None] & in_c[None, :]
        w_z = _load(up + c[None, :] * HALF + k[:, None], inside)
        w_v = _load(v_right + k[:, None] * C + c[None, :], inside)
        dv = tl.sum(w_z * dz[None, :], 1)
        tl.store(drow + DV_DL * C + k, dv, k < HALF)
        du += tl.sum(w_v * dv[:, None], 0)
    tl.store(drow + DU * C + c, du, in_c)
    tl.store(drow + DVECTORS * C + DU_U, tl.sum(du * _load(row + U * C + c, in_c), 0))


@triton.jit
def _spatial_dvectors(dt, t, row, drow, q_left, v_left, c, C: tl.constexpr, ROWS: tl.constexpr):
    """dt -> p, the gradient of its logits, and of the mean they were taken from."""
    HALF: tl.constexpr = C // 2
    in_c = c < C
    tl.store(drow + DT * C + c, dt, in_c)
    dt_t = tl.sum(dt * t, 0)
    top = tl.load(row + VECTORS * C + P_TOP)
    total = tl.load(row + VECTORS * C + P_SUM)
    dmean = tl.zeros_like(dt)
    for start in range(0, HALF, ROWS):
        k = start + tl.arange(0, ROWS)
        inside = (k < HALF)[:, None] & in_c[None, :]
        w_v = _load(v_left + k[:, None] * C + c[None, :], inside)
        w_q = _load(q_left + k[:, None] * C + c[None, :], inside)
        p = tl.exp(tl.load(row + V_L * C + HALF + k, k < HALF, float('-inf')) - top) / total
        dlogits = p * (tl.sum(w_v * dt[None, :], 1) - dt_t)
        tl.store(drow + P * C + k, p, k < HALF)
        tl.store(drow + DV_DL * C + HALF + k, dlogits, k < HALF)
        dmean += tl.sum(w_q * dlogits[:, None], 0)
    return dmean


@triton.jit(do_not_specialize=['splits'])
def _dvectors(
    parts,
    vectors,
    dvectors,
    v_right,
    up,
    norm_weight,
    q_left,
    v_left,
    N,
    splits,
    scale,
    C: tl.constexpr,
    SEQUENTIAL: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
    ROWS: tl.constexpr,
):
    """As `_vectors`: one program for each image, or in parallel two."""
    image, gate = tl.program_id(0), tl.program_id(1)
    row = vectors + image * (VECTORS * C + SCALARS)
    drow = dvectors + image * (DVECTORS * C + SCALARS)
    c = tl.arange(0, BLOCK_C)
    in_c = c < C
    i = tl.arange(0, BLOCK_P)
    part = parts + (image * splits + i) * (2 * C)
    inside = (i < splits)[:, None] & in_c[None, :]
    if SEQUENTIAL or gate == 1:
        dt = tl.sum(_load(part[:, None] + c[None, :], inside), 0)
        t, mean = _load(row + T * C + c, in_c), _load(row + MEAN * C + c, in_c)
        if SEQUENTIAL:
            dg_ch = tl.sum(_load(part[:, None] + C + c[None, :], inside), 0)
            g_ch = _load(row + G_CH * C + c, in_c)
            tl.store(drow + M * C + c, g_ch * mean, in_c)
            dmean = _spatial_dvectors(g_ch * dt, t, row, drow, q_left, v_left, c, C, ROWS)
            tl.store(drow + DMEAN * C + c, g_ch * dmean / N, in_c)
            dg_ch += dt * t + dmean * mean
            _channel_dvectors(dg_ch, row, drow, v_right, up, norm_weight, scale, c, C, ROWS)
        else:
            tl.store(drow + M * C + c, mean, in_c)
            dmean = _spatial_dvectors(dt, t, row, drow, q_left, v_left, c, C, ROWS)
            tl.store(drow + DMEAN * C + c, dmean / N, in_c)
    else:
        dg_ch = tl.sum(_load(part[:, None] + C + c[None, :], inside), 0)
        _channel_dvectors(dg_ch, row, drow, v_right, up, norm_weight, scale, c, C, ROWS)


@triton.jit
def _dx(
    x,
    dy,
    dx,
    vectors,
    dvectors,
    q_right,
    parts,
    N,
    scale,
    C: tl.constexpr,
    SEQUENTIAL: tl.constexpr,
    LAST: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_N: tl.constexpr,
    STAGES: tl.constexpr,
):
    """Through the product with the gates, through the mean, and as three outer products."""
    image, split = tl.program_id(0), tl.program_id(1)
    x += image.to(tl.int64) * C * N
    dy += image.to(tl.int64) * C * N
    dx += image.to(tl.int64) * C * N
    row = vectors + image * (VECTORS * C + SCALARS)
    drow = dvectors + image * (DVECTORS * C + SCALARS)
    c = tl.arange(0, BLOCK_C)
    in_c = c < C
    g_ch, t = _load(row + G_CH * C + c, in_c), _load(row + T * C + c, in_c)
    if SEQUENTIAL:
        t *= g_ch
    w_q, du = _load(q_right + c, in_c), _load(drow + DU * C + c, in_c)
    dmean = _load(drow + DMEAN * C + c, in_c)
    top, total = tl.load(row + VECTORS * C + TOP), tl.load(row + VECTORS * C + SUM)
    du_u = tl.load(drow + DVECTORS * C + DU_U)
    dw_q = tl.zeros([BLOCK_C], tl.float32)
    first, end = _tiles(N, BLOCK_N)
    for tile in tl.range(first, end, num_stages=STAGES):
        n = tile * BLOCK_N + tl.arange(0, BLOCK_N)
        inside = (n < N)[:, None] & in_c[None, :]
        at = _offsets(n, c, N, C, LAST)
        pixels, grad = _load(x + at, inside), _load(dy + at, inside)
        g_sp, dlogits = _back_to_pixels(pixels, grad, t, g_ch, scale, SEQUENTIAL)
        logits = tl.where(n < N, tl.sum(pixels * w_q[None, :], 1), float('-inf'))
        q = tl.exp(logits - top) / total
        dlogits_q = q * (tl.sum(pixels * du[None, :], 1) - du_u)
        dw_q += tl.sum(pixels * dlogits_q[:, None], 0)
        if SEQUENTIAL:
            value = grad * (g_ch[None, :] * g_sp[:, None]) + dmean[None, :]
        else:
            value = grad * (g_ch[None, :] + g_sp[:, None]) + dmean[None, :]
        value += t[None, :] * dlogits[:, None]
        value += du[None, :] * q[:, None]
        value += w_q[None, :] * dlogits_q[:, None]
        tl.store(dx + at, value.to(dx.dtype.element_ty), inside)
    parts += (image * tl.num_programs(1) + split) * C
    tl.store(parts + c, dw_q, in_c)


@triton.jit
def _outer(left, right, out, batch, LEFT_ROW, RIGHT_ROW, ROWS, COLUMNS, BLOCK: tl.constexpr):
    """left^T right, summed over the images: a block of ROWS x COLUMNS."""
    r = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    k = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros([BLOCK, BLOCK], tl.float32)
    for start in range(0, batch, BLOCK):
        b = start + tl.arange(0, BLOCK)
        in_left = (b < batch)[None, :] & (r < ROWS)[:, None]
        in_right = (b < batch)[:, None] & (k < COLUMNS)[None, :]
        a = _load(left + b[None, :] * LEFT_ROW + r[:, None], in_left)
        total = tl.dot(
            a,
            _load(right + b[:, None] * RIGHT_ROW + k[None, :], in_right),
            total,
            input_precision='ieee',
        )
    inside = (r < ROWS)[:, None] & (k < COLUMNS)[None, :]
    tl.store(out + r[:, None] * COLUMNS + k[None, :], total, inside)


@triton.jit
def _column_sums(rows, out, count, ROW, c, in_c, BLOCK_R: tl.constexpr, BLOCK: tl.constexpr):
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, count, BLOCK_R):
        i = start + tl.arange(0, BLOCK_R)
        inside = (i < count)[:, None] & in_c[None, :]
        total += tl.sum(_load(rows + i[:, None] * ROW + c[None, :], inside), 0)
    tl.store(out + c, total, in_c)


@triton.jit(do_not_specialize=['batch', 'splits'])
def _dweights(
    vectors,
    dvectors,
    parts,
    dws,
    batch,
    splits,
    C: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_R: tl.constexpr,
):
    """Every weight's gradient, one after another in `dws`: four matrices, then three vectors."""
    HALF: tl.constexpr = C // 2
    ROW: tl.constexpr = VECTORS * C + SCALARS
    DROW: tl.constexpr = DVECTORS * C + SCALARS
    SIZE: tl.constexpr = C * HALF
    which = tl.program_id(2)
    dv, dlogits, p = dvectors + DV_DL * C, dvectors + DV_DL * C + HALF, dvectors + P * C
    if which == 0:
        _outer(dv, vectors + U * C, dws, batch, DROW, ROW, HALF, C, BLOCK)
    elif which == 1:
        _outer(dlogits, dvectors + M * C, dws + SIZE, batch, DROW, DROW, HALF, C, BLOCK)
    elif which == 2:
        _outer(p, dvectors + DT * C, dws + 2 * SIZE, batch, DROW, DROW, HALF, C, BLOCK)
    elif which == 3:
        v = vectors + V_L * C
        _outer(dvectors + DZ * C, v, dws + 3 * SIZE, batch, DROW, ROW, C, HALF, BLOCK)
    elif tl.program_id(1) == 0:
        c = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        dws += 4 * SIZE
        if which == 4:
            _column_sums(parts, dws, batch * splits, C, c, c < C, BLOCK_R, BLOCK)
        elif which == 5:
            rows = dvectors + DNORM_WEIGHT * C
            _column_sums(rows, dws + C, batch, DROW, c, c < C, BLOCK_R, BLOCK)
        else:
            rows = dvectors + DNORM_BIAS * C
            _column_sums(rows, dws + 2 * C, batch, DROW, c, c < C, BLOCK_R, BLOCK)
