// What this machine's arithmetic and memory can do at most, measured: the yardsticks of
// matmul_bench. One thread.
#pragma once

#include "kernels/kernels.h"

namespace lapidary {

// Int8 operations per second, in 1e9, a multiplication and an addition counting as two: the widest
// int8 product of the instruction set on registers alone, nothing loaded. 0 for the reference.
double int8_peak_gops(Isa isa);

// float32 fused multiply-adds on registers, in 1e9 operations per second. 0 for the reference.
double float_peak_gflops(Isa isa);

// Reading memory far beyond the caches, in 1e9 bytes per second, the best of several times.
double read_peak_gbps();

}  // namespace lapidary
