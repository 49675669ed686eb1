// Work on ATen's own threads: there is no second pool, and nested operators know that they have a thread to themselves.
#include "protect.h"
#include "pullback.h"

#include <ATen/Parallel.h>

extern "C" {

const char* pb_parallel(int64_t count, void (*work)(void*, int64_t), void* context) {
  return protect([&] {
    at::parallel_for(0, count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) work(context, i);
    });
  });
}
}
