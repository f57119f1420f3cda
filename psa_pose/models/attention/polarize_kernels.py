"""Triton kernels of the paper's PSA; `polarize_triton` launches them and says when.

Names are those of `polarize`. A map is read in tiles of BLOCK_N pixels with all of their channels,
because every sum over channels that a pixel needs (Wq x, t^T x, the gates' gradients) is then at
hand in the same pass. What belongs to a pixel is never stored: the backward computes it anew from
the x that it reads anyway. Vectors and sums are float32.

    forward    _pool     reads x      Wq x, its online softmax, the sums u and mean, in parts
               _vectors  small        both gates' vectors, one row of `vectors` for each image
               _gate     reads x      g_sp, writes the output
    backward   _reduce   reads x, dy  dg_sp, and the sums dg_ch and dt, in parts
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
