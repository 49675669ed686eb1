// The kernels on tensors: libtorch's allocator gives outputs and workspace; the host's instance or the device's launcher runs, wherever the
// input lies, on libtorch's current stream. src/ffi/kernels.rs has checked shapes, kinds and contiguity.
#include "jobs.h"
#include "library.h"
#include "protect.h"
#include "pullback.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#ifdef PULLBACK_KERNELS
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#endif

#include <tuple>

namespace {

const at::Tensor& tensor(const void* p) { return *static_cast<const at::Tensor*>(p); }
void* own(at::Tensor t) { return new at::Tensor(std::move(t)); }

// The address of the job's global memory; jobs that need none have none.
template <class Job> concept HasRoom = requires(Job job) { job.room; };

template <class Job> void carry_out(Job job, const at::Tensor& like) {
  if (!like.is_cuda()) {
    pb::run_on_host(job);
    return;
  }
#ifdef PULLBACK_KERNELS
  const c10::cuda::CUDAGuard guard(like.device());
  at::Tensor room;
  if constexpr (HasRoom<Job>) {
    using Number = std::remove_pointer_t<decltype(job.room)>;
    room = at::empty({pb::device_room(job)}, like.options().dtype(c10::CppTypeToScalarType<Number>::value));
    job.room = room.template data_ptr<Number>();
  }
  const char* error = pb::launch(job, c10::cuda::getCurrentCUDAStream(like.get_device()).stream());
  TORCH_CHECK(error == nullptr, "CUDA: ", error);
#else
  TORCH_CHECK(false, "this build has no CUDA kernels");
#endif
}

template <class T> auto eigh(pb::Way way, int sweeps, const at::Tensor& gram, int64_t k) {
  const int64_t batch = gram.size(0), n = gram.size(1);
  auto values = at::empty({batch, n}, gram.options()), vectors = at::empty({batch, k, n}, gram.options());
  auto outcome = at::empty({batch}, gram.options().dtype(at::kInt));
  carry_out(pb::Eigh<T>{way, sweeps, batch, static_cast<int>(n), static_cast<int>(k), gram.const_data_ptr<T>(),
                        values.data_ptr<T>(), vectors.data_ptr<T>(), outcome.data_ptr<int>(), nullptr},
            gram);
  return std::tuple(values, vectors, outcome);
}

template <class F> auto factor_eigh(pb::Way way, const at::Tensor& factor, int64_t k) {
  const int64_t batch = factor.size(0), n = factor.size(1);
  const auto wide = factor.options().dtype(at::kDouble);
  auto values = at::empty({batch, n}, wide), vectors = at::empty({batch, k, n}, wide);
  auto outcome = at::empty({batch}, factor.options().dtype(at::kInt));
  carry_out(pb::FactorEigh<F>{way, batch, static_cast<int>(n), static_cast<int>(k), static_cast<int>(factor.size(2)),
                              factor.const_data_ptr<F>(), values.data_ptr<double>(), vectors.data_ptr<double>(),
                              outcome.data_ptr<int>(), nullptr},
            factor);
  return std::tuple(values, vectors, outcome);
}

template <class F> at::Tensor gram(const at::Tensor& factor) {
  const int64_t batch = factor.size(0), n = factor.size(1);
  auto result = at::empty({batch, n, n}, factor.options().dtype(at::kDouble));
  carry_out(pb::Gram<F>{batch, static_cast<int>(n), static_cast<int>(factor.size(2)), factor.const_data_ptr<F>(),
                        result.data_ptr<double>()},
            factor);
  return result;
}

template <class T>
void take_step(const at::Tensor& x, const at::Tensor& damage, const at::Tensor& best, const at::Tensor& x0,
             const at::Tensor& gradient, const at::Tensor& value, const at::Tensor& stalled, const at::Tensor& lengths,
             pb::Step<double> m) {
  const int64_t batch = x.size(0);
  const pb::Step<T> move{m.ball, static_cast<T>(m.low), static_cast<T>(m.high), T(0), T(0)};
  carry_out(pb::StepJob<T>{batch, static_cast<int>(batch == 0 ? 0 : x.numel() / batch), move,
                          lengths.const_data_ptr<double>(), value.const_data_ptr<double>(), x0.const_data_ptr<T>(),
                          gradient.const_data_ptr<T>(), x.data_ptr<T>(), best.data_ptr<T>(), damage.data_ptr<double>(),
                          stalled.data_ptr<bool>()},
            x);
}

// The library's results in the kernels' form: descending, k rows.
std::tuple<at::Tensor, at::Tensor, at::Tensor> library(const at::Tensor& gram, int64_t k) {
  auto [values, vectors, outcome] = pb::library_eigh(gram.clone(at::MemoryFormat::Contiguous), k > 0);
  auto failed = outcome.ne(0).unsqueeze(1).logical_or(values.isnan());
  auto leading = k > 0 ? vectors.narrow(1, vectors.size(1) - k, k).flip({1}) : at::empty({values.size(0), 0, values.size(1)}, values.options());
  // Its code is the number of off-diagonal entries that did not vanish; ours is 1 if the matrix was not finite, otherwise 2.
  auto finite = gram.tril().sum({1, 2}).isfinite();
  auto code = at::where(failed.any(1), at::where(finite, 2, 1), 0).to(at::kInt);
  return {values.flip({1}).contiguous(), leading.contiguous(), code};
}

}  // namespace

extern "C" {

int pb_kernels_compiled() {
#ifdef PULLBACK_KERNELS
  return 1;
#else
  return 0;
#endif
}

int pb_kernels_run_on(int64_t cuda_device) {
#ifdef PULLBACK_KERNELS
  // Ampere and later: code for 8.0 and 9.0, and PTX for later ones.
  int major = 0;
  const bool there =
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, static_cast<int>(cuda_device)) == cudaSuccess;
  // If there is no such device, the error must not stay for the next call.
  if (!there) static_cast<void>(cudaGetLastError());
  return there && major >= 8;
#else
  (void)cuda_device;
  return 0;
#endif
}

int pb_has_library_eigh() { return pb::has_library_eigh(); }

const char* pb_eigh(void** values, void** vectors, void** outcome, const void* matrices, int64_t top, int way,
                    int sweeps) {
  return protect([&] {
    at::NoGradGuard no_grad;
    const auto& a = tensor(matrices);
    auto [v, u, o] = way == 2                            ? library(a, top)
                     : a.scalar_type() == at::kDouble ? eigh<double>(static_cast<pb::Way>(way), sweeps, a, top)
                                                      : eigh<float>(static_cast<pb::Way>(way), sweeps, a, top);
    *values = own(v), *vectors = own(u), *outcome = own(o);
  });
}

const char* pb_factor_eigh(void** values, void** vectors, void** outcome, const void* factor, int64_t top, int way) {
  return protect([&] {
    at::NoGradGuard no_grad;
    const auto& a = tensor(factor);
    auto [v, u, o] = a.scalar_type() == at::kDouble ? factor_eigh<double>(static_cast<pb::Way>(way), a, top)
                                                    : factor_eigh<float>(static_cast<pb::Way>(way), a, top);
    *values = own(v), *vectors = own(u), *outcome = own(o);
  });
}

const char* pb_gram(void** result, const void* factor) {
  return protect([&] {
    at::NoGradGuard no_grad;
    const auto& a = tensor(factor);
    *result = own(a.scalar_type() == at::kDouble ? gram<double>(a) : gram<float>(a));
  });
}

const char* pb_scores(void** result, const void* values) {
  return protect([&] {
    at::NoGradGuard no_grad;
    const auto& v = tensor(values);
    auto scores = at::empty({v.size(0), 10}, v.options());
    carry_out(pb::Scores{v.size(0), static_cast<int>(v.size(1)), v.const_data_ptr<double>(), scores.data_ptr<double>()}, v);
    *result = own(scores);
  });
}

const char* pb_take_step(void* x, void* damage, void* best, const void* x0, const void* gradient, const void* value, void* stalled,
                       int ball, const void* lengths, double low, double high) {
  return protect([&] {
    at::NoGradGuard no_grad;
    const pb::Step<double> move{static_cast<pb::Ball>(ball), low, high, 0.0, 0.0};
    const auto step = tensor(x).scalar_type() == at::kDouble ? take_step<double> : take_step<float>;
    step(tensor(x), tensor(damage), tensor(best), tensor(x0), tensor(gradient), tensor(value), tensor(stalled),
         tensor(lengths), move);
  });
}
}
