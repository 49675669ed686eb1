// What lanes.h asks the processor.
#include "lanes.h"

#include <ATen/Version.h>

namespace pb {

namespace {

// What such a cache holds: processors with AVX-512 have a larger one.
constexpr int64_t kShortBytes = 128 << 10, kLongBytes = 512 << 10;

}  // namespace

#ifdef PB_WITH_512_BITS
int64_t lanes() {
  static const bool is_long = __builtin_cpu_supports("x86-64-v4") && at::get_cpu_capability() == "AVX512";
  return is_long ? kLong : kShort;
}

bool has_256_bits() {
  static const bool has = __builtin_cpu_supports("x86-64-v3") && at::get_cpu_capability() != "DEFAULT";
  return has;
}
#else
int64_t lanes() { return kShort; }
// Not measured.
bool has_256_bits() { return false; }
#endif

bool suits(int64_t channels, int64_t bytes) {
  return has_256_bits() && channels % lanes() == 0 && bytes <= (lanes() == kLong ? kLongBytes : kShortBytes);
}

}  // namespace pb
