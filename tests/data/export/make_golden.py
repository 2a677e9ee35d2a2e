#!/usr/bin/env python3
"""Writes integer_groups.txt beside itself: the bytes that other runtimes store for known weights.

Made with compressed-tensors 0.20.0 (PackedQuantizationCompressor, torch 2.11.0) and mlx 0.32.4
(mlx.core.quantize). One line per case: package, bits, group (0: the row), rows, k, then in hexadecimal
the packed bytes, the scales and (mlx) biases as float32, and as float32 the weights that the package
makes of them again.
"""
import os

import mlx.core as mx
import numpy as np
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme


def weights(bits, rows, k):
    i, row = np.arange(k), np.arange(rows)[:, None]
    return (((37 * i + 11 * row + i * i) % 2**bits - 2**(bits - 1)) / 8).astype(np.float32)


def compressed_tensors(bits, group, rows, k):
    strategy = "group" if group else "channel"
    args = QuantizationArgs(num_bits=bits, type="int", symmetric=True, strategy=strategy,
                            group_size=group or None)
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    scale = torch.full((rows, k // group if group else 1), 0.125)
    state = BaseCompressor.get_value_from_registry("pack-quantized").compress(
        {"weight": torch.from_numpy(weights(bits, rows, k)), "weight_scale": scale}, scheme)
    assert state["weight_shape"].tolist() == [rows, k]
    assert state["weight_packed"].dtype == torch.int32 and state["weight_shape"].dtype == torch.int64
    packed = state["weight_packed"].numpy()
    back = BaseCompressor.get_value_from_registry("pack-quantized").decompress(state, scheme)
    return packed, scale.numpy(), np.zeros(0, np.float32), back["weight"].numpy()


def mlx(bits, group, rows, k):
    packed, scales, biases = mx.quantize(mx.array(weights(bits, rows, k)), group, bits)
    back = mx.dequantize(packed, scales, biases, group, bits)
    return np.array(packed), np.array(scales), np.array(biases), np.array(back)


with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "integer_groups.txt"), "w",
          encoding="ascii") as out:
    for name, make, bits, group in [("compressed-tensors", compressed_tensors, 4, 32),
                                    ("compressed-tensors", compressed_tensors, 8, 32),
                                    ("compressed-tensors", compressed_tensors, 8, 0),
                                    ("mlx", mlx, 4, 32), ("mlx", mlx, 8, 64)]:
        arrays = make(bits, group, 3, 128)
        print(name, bits, group, 3, 128, *(a.tobytes().hex() or "-" for a in arrays), file=out)
