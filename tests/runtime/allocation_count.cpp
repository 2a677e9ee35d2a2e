// Counting replacements of the global allocator. In a file of their own, so that the compiler does
// not look through them and take malloc and delete for a mismatched pair.
#include "tests/runtime/allocation_count.h"

#include <atomic>
#include <cstdlib>
#include <new>

namespace {

std::atomic<int64_t> count{0};

void* checked(void* p) {
  count.fetch_add(1, std::memory_order_relaxed);
  if (!p) throw std::bad_alloc();
  return p;
}

}  // namespace

void* operator new(size_t size) { return checked(std::malloc(size ? size : 1)); }
void* operator new(size_t size, std::align_val_t alignment) {
  const size_t step = static_cast<size_t>(alignment);
  return checked(std::aligned_alloc(step, (size + step - 1) / step * step));
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, size_t, std::align_val_t) noexcept { std::free(p); }

namespace lapidary {
int64_t allocation_count() { return count.load(); }
}  // namespace lapidary
