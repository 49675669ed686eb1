// What libtorch keeps of a thread: whether gradients are on, autocast, hooks. A model may leave it otherwise than it found it.
#include <ATen/ThreadLocalState.h>

extern "C" {

// From now on this thread is as it was when this was first called on it, until what is returned is given to pb_thread_as_before; null where
// that fails.
void* pb_thread_as_new() noexcept {
  try {
    thread_local const at::ThreadLocalState fresh;
    return new at::ThreadLocalStateGuard(fresh);
  } catch (...) {
    return nullptr;
  }
}

void pb_thread_as_before(void* guard) noexcept {
  delete static_cast<at::ThreadLocalStateGuard*>(guard);
}
}
