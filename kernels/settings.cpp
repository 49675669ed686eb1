// Settings of the process: which arithmetic libtorch may use.
#include "protect.h"
#include "pullback.h"

#include <ATen/Context.h>
#include <dlfcn.h>

namespace {

// libtorch tells why it finds no device in a warning of several lines; src/ffi/cuda.rs tells it in one.
struct Silent final : c10::WarningHandler {
  void process(const c10::Warning&) override {}
};

// No f32 product in fewer bits: TF32 on CUDA devices, and BF16 by oneDNN on processors that have it. Set for each operation, because a
// precision that is not set (as setAllowTF32CuDNN(false) leaves it) is taken from those for all.
void full_precision(at::Context& context) {
  context.setAllowTF32CuDNN(false);
  context.setAllowTF32CuBLAS(false);
  for (const auto backend : {at::Float32Backend::CUDA, at::Float32Backend::MKLDNN}) {
    for (const auto op : {at::Float32Op::CONV, at::Float32Op::RNN, at::Float32Op::MATMUL}) {
      context.setFloat32Precision(backend, op, at::Float32Precision::IEEE);
    }
  }
}

}  // namespace

extern "C" {

const char* pb_exact_math() {
  return protect([&] {
    auto& context = at::globalContext();
    // Only the math backend of attention can be differentiated twice and vmapped.
    context.setSDPUseFlash(false);
    context.setSDPUseMemEfficient(false);
    context.setSDPUseCuDNN(false);
    context.setSDPUseMath(true);
    full_precision(context);
  });
}

const char* pb_allow_tf32(int allow) {
  return protect([&] {
    auto& context = at::globalContext();
    full_precision(context);
    if (allow != 0) {
      context.setAllowTF32CuDNN(true);
      context.setAllowTF32CuBLAS(true);
    }
  });
}

const char* pb_deterministic(int always) {
  return protect([&] { at::globalContext().setDeterministicCuDNN(always != 0); });
}

const char* pb_settings(int* tf32, int* deterministic) {
  return protect([&] {
    const auto& context = at::globalContext();
    *tf32 = context.allowTF32CuDNN() || context.allowTF32CuBLAS();
    *deterministic = context.deterministicCuDNN();
  });
}

int pb_has_cuda_build() {
  Silent silent;
  // The first call in a process counts the devices, and warns.
  const c10::WarningUtils::WarningHandlerGuard guard(&silent);
  return at::hasCUDA() || dlsym(RTLD_DEFAULT, "cudaMemGetInfo") != nullptr;
}
}
