// What lanes.h asks the processor.
#include "lanes.h"

#include <ATen/Version.h>

namespace pb {

#ifdef PB_LONG
int64_t lanes() {
  static const bool is_long = __builtin_cpu_supports("x86-64-v4") && at::get_cpu_capability() == "AVX512";
  return is_long ? kLong : kShort;
}

bool has_fast_short() {
  static const bool has = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && at::get_cpu_capability() != "DEFAULT";
  return has;
}
#else
int64_t lanes() { return kShort; }
bool has_fast_short() { return false; }
#endif

}  // namespace pb
