// What lanes.h asks the processor.
#include "lanes.h"

#include <ATen/Version.h>

namespace pb {

namespace {

// What such a cache holds: processors with AVX-512 have a larger one.
constexpr int64_t kShortBytes = 128 << 10, kLongBytes = 512 << 10;

}  // namespace

#ifdef PB_LONG
int64_t lanes() {
  static const bool is_long = __builtin_cpu_supports("x86-64-v4") && at::get_cpu_capability() == "AVX512";
  return is_long ? kLong : kShort;
}

bool suits(int64_t channels, int64_t bytes) {
  static const bool is_fast = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && at::get_cpu_capability() != "DEFAULT";
  return is_fast && channels % lanes() == 0 && bytes <= (lanes() == kLong ? kLongBytes : kShortBytes);
}
#else
int64_t lanes() { return kShort; }
// Not measured.
bool suits(int64_t, int64_t) { return false; }
#endif

}  // namespace pb
