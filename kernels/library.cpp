// cusolverDnXsyevBatched. libcusolver lies beside the CUDA runtime that libtorch ships; it is opened at its first use, so that nothing is
// linked and a machine without it still works.
#include "library.h"

#include <ATen/ATen.h>

#ifdef PULLBACK_KERNELS
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cusolverDn.h>
#include <dlfcn.h>

#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>
#endif

namespace pb {

#ifdef PULLBACK_KERNELS

namespace {

struct Library {
  decltype(&cusolverDnCreate) create = nullptr;
  decltype(&cusolverDnCreateParams) create_params = nullptr;
  decltype(&cusolverDnSetStream) set_stream = nullptr;
  decltype(&cusolverDnXsyevBatched_bufferSize) sizes = nullptr;
  decltype(&cusolverDnXsyevBatched) solve = nullptr;

  Library() {
    void* handle = dlopen("libcusolver.so.12", RTLD_NOW | RTLD_GLOBAL);
    Dl_info runtime;
    // libtorch finds it by its own rpath, which we do not have: look beside its CUDA runtime.
    if (handle == nullptr && dladdr(dlsym(RTLD_DEFAULT, "cudaMemGetInfo"), &runtime) != 0 && runtime.dli_fname != nullptr) {
      const std::string path = runtime.dli_fname;
      const auto folder = path.substr(0, path.rfind('/') + 1);
      handle = dlopen((folder + "libcusolver.so.12").c_str(), RTLD_NOW | RTLD_GLOBAL);
    }
    if (handle == nullptr) return;
    const auto find = [&](auto& function, const char* name) {
      function = reinterpret_cast<std::decay_t<decltype(function)>>(dlsym(handle, name));
    };
    find(create, "cusolverDnCreate");
    find(create_params, "cusolverDnCreateParams");
    find(set_stream, "cusolverDnSetStream");
    find(sizes, "cusolverDnXsyevBatched_bufferSize");
    find(solve, "cusolverDnXsyevBatched");
  }

  bool complete() const { return create && create_params && set_stream && sizes && solve; }
};

const Library& library() {
  static const Library loaded;
  return loaded;
}

void succeed(cusolverStatus_t status, const char* what) {
  TORCH_CHECK(status == CUSOLVER_STATUS_SUCCESS, what, " failed with status ", static_cast<int>(status));
}

struct Context {
  cusolverDnHandle_t handle = nullptr;
  cusolverDnParams_t params = nullptr;
};

// One for each thread and device, kept until the process ends: creating one takes milliseconds.
Context& context(int device) {
  static thread_local std::unordered_map<int, Context> contexts;
  auto& c = contexts[device];
  if (c.handle == nullptr) succeed(library().create(&c.handle), "cusolverDnCreate");
  if (c.params == nullptr) succeed(library().create_params(&c.params), "cusolverDnCreateParams");
  return c;
}

}  // namespace

bool has_library_eigh() { return library().complete(); }

std::tuple<at::Tensor, at::Tensor, at::Tensor> library_eigh(at::Tensor matrices, bool want_vectors) {
  TORCH_CHECK(has_library_eigh(), "libcusolver.so.12 with cusolverDnXsyevBatched was not found");
  const c10::cuda::CUDAGuard guard(matrices.device());
  auto& c = context(matrices.get_device());
  succeed(library().set_stream(c.handle, c10::cuda::getCurrentCUDAStream(matrices.get_device())), "cusolverDnSetStream");
  const int64_t batch = matrices.size(0), n = matrices.size(1);
  const auto kind = matrices.scalar_type() == at::kDouble ? CUDA_R_64F : CUDA_R_32F;
  const auto mode = want_vectors ? CUSOLVER_EIG_MODE_VECTOR : CUSOLVER_EIG_MODE_NOVECTOR;
  auto values = at::empty({batch, n}, matrices.options());
  auto outcome = at::empty({batch}, matrices.options().dtype(at::kInt));
  size_t on_device = 0, on_host = 0;
  // The library's columns are our rows: its upper triangle is our lower one, and its eigenvectors are rows here.
  succeed(library().sizes(c.handle, c.params, mode, CUBLAS_FILL_MODE_UPPER, n, kind, matrices.data_ptr(), n, kind,
                          values.data_ptr(), kind, &on_device, &on_host, batch),
          "cusolverDnXsyevBatched_bufferSize");
  auto room = at::empty({static_cast<int64_t>(on_device)}, matrices.options().dtype(at::kByte));
  std::vector<char> host_room(on_host);
  succeed(library().solve(c.handle, c.params, mode, CUBLAS_FILL_MODE_UPPER, n, kind, matrices.data_ptr(), n, kind,
                          values.data_ptr(), kind, room.data_ptr(), on_device, host_room.data(), on_host,
                          outcome.data_ptr<int>(), batch),
          "cusolverDnXsyevBatched");
  return {values, matrices, outcome};
}

#else

bool has_library_eigh() { return false; }

std::tuple<at::Tensor, at::Tensor, at::Tensor> library_eigh(at::Tensor, bool) {
  TORCH_CHECK(false, "this build has no CUDA kernels");
}

#endif

}  // namespace pb
