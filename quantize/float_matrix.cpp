// mmap and munmap.
#include "quantize/float_matrix.h"

#include <sys/mman.h>

#include "formats/error.h"

namespace lapidary {

FloatMatrix::FloatMatrix(int64_t rows, int64_t width) : rows_(rows), width_(width) {
  const uint64_t bytes = static_cast<uint64_t>(rows) * static_cast<uint64_t>(width) * sizeof(float);
  if (bytes == 0) return;
  void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED)
    fail(ErrorCode::kOutOfMemory, "calibration: the system refuses {} bytes for a [{}, {}] matrix",
         bytes, rows, width);
  constexpr uint64_t kWorthLargePages = 8 << 20;
  if (bytes >= kWorthLargePages) madvise(p, bytes, MADV_HUGEPAGE);
  data_ = {static_cast<float*>(p), Unmap{bytes}};
}

void FloatMatrix::reserve(int64_t rows, int64_t width) {
  if (data_ && rows * width <= rows_ * width_) return;
  data_.reset();
  *this = FloatMatrix(rows, width);
}

void FloatMatrix::Unmap::operator()(float* p) const { munmap(p, bytes); }

}  // namespace lapidary
