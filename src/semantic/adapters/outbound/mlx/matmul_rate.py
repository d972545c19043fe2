"""How fast this machine multiplies matrices, through MLX as the server uses it."""

import time

import mlx.core as mx

_SIZE = 1024
_SECONDS = 0.5
_GIGA = 1e9


def measure() -> float:
    """GFLOP/s of float32 products of square matrices; takes about a second."""
    left = mx.random.normal((_SIZE, _SIZE))
    right = mx.random.normal((_SIZE, _SIZE))
    mx.eval(left, right)
    mx.eval(left @ right)  # the first product wakes threads or builds kernels
    products, start = 0, time.perf_counter()
    while (spent := time.perf_counter() - start) < _SECONDS:
        mx.eval(left @ right)
        products += 1
    return products * 2 * _SIZE**3 / spent / _GIGA
