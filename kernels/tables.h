// The kernel tables that this build contains, one per instruction set. dispatch.cpp chooses.
#pragma once

#include "kernels/kernels.h"

namespace lapidary {

extern const KernelTable kReferenceKernels;  // reference.cpp
#if defined(LAPIDARY_X86)                    // set by kernels/CMakeLists.txt
extern const KernelTable kAvx2Kernels;       // avx2.cpp
extern const KernelTable kAvx2VnniKernels;   // avx2vnni.cpp
extern const KernelTable kAvx512Kernels;     // avx512.cpp
const KernelTable& amx_kernels();            // amx.cpp
#endif

}  // namespace lapidary
