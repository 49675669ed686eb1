// Factorisations of batches of small matrices on the CPU, shared among libtorch's own threads: libtorch calls LAPACK for one matrix after
// another, and threads of another pool would compete for the cores with libtorch's, which wait busily.
#include "protect.h"
#include "pullback.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/native/BatchLinearAlgebra.h>
#include <ATen/record_function.h>
#include <dlfcn.h>
#include <torch/csrc/autograd/grad_mode.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <exception>
#include <limits>
#include <vector>

namespace {

const at::Tensor& tensor(const void* p) { return *static_cast<const at::Tensor*>(p); }

// While this value lives, LAPACK itself uses one thread on this thread. MKL shares large factorisations among its own threads. Inside a
// parallel region it gets no further thread, and because libtorch switches off its adaptation to that, its only thread waits for the others
// for ever.
class Alone {
 public:
  Alone() {
    // libtorch sets a thread's number of threads at its first call there; that must have happened before.
    at::get_num_threads();
    if (set() != nullptr) before_ = set()(1);
  }
  ~Alone() {
    if (set() != nullptr) set()(before_);
  }
  Alone(const Alone&) = delete;
  Alone& operator=(const Alone&) = delete;

 private:
  using Set = int (*)(int);
  // MKL's function, if LAPACK is MKL; OpenBLAS asks OpenMP whether it is inside a parallel region.
  static Set set() {
    static const auto found = reinterpret_cast<Set>(dlsym(RTLD_DEFAULT, "MKL_Set_Num_Threads_Local"));
    return found;
  }
  int before_ = 0;
};

// libtorch's pool belongs to its OpenMP library, whose file name is unknown: the loader looks up its entry points, so that no second OpenMP
// library is linked. The names are GNU's; LLVM's and Intel's libraries have them as well.
class Pool {
 public:
  static const Pool& get() {
    static const Pool pool;
    return pool;
  }
  // Calls job(0), job(1), ... job(parts - 1), each once, on up to `parts` threads.
  template <class F> void run(int64_t parts, const F& job) const {
    if (parallel_ == nullptr || parts < 2 || at::in_parallel_region()) {
      for (int64_t i = 0; i < parts; ++i) job(i);
      return;
    }
    struct Shared {
      const F& job;
      int64_t parts;
      std::atomic<int64_t> next{0};
      std::atomic_flag failed = ATOMIC_FLAG_INIT;
      std::exception_ptr error;
    } all{.job = job, .parts = parts, .error = nullptr};
    parallel_(
        [](void* p) {
          auto& all = *static_cast<Shared*>(p);
          torch::autograd::AutoGradMode off(false);
          Alone alone;
          for (int64_t i = all.next++; i < all.parts; i = all.next++) {
            try {
              all.job(i);
            } catch (...) {
              if (!all.failed.test_and_set()) all.error = std::current_exception();
            }
          }
        },
        &all, static_cast<unsigned>(parts), 0);
    if (all.error) std::rethrow_exception(all.error);
  }

 private:
  using Parallel = void (*)(void (*)(void*), void*, unsigned, unsigned);
  Pool() : parallel_(reinterpret_cast<Parallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"))) {}
  Parallel parallel_;
};

// With fewer matrices than this, waking a thread is not worth its cost.
constexpr int64_t kLeast = 2;

// Fills `outputs`, each [B, ...], with the results of `factor` for parts of the batch `a`.
template <class F> void shared(const at::Tensor& a, const std::vector<at::Tensor>& outputs, const F& factor) {
  const int64_t batch = a.size(0);
  const int64_t parts = std::clamp<int64_t>(batch / kLeast, 1, at::get_num_threads());
  Pool::get().run(parts, [&](int64_t i) {
    const int64_t begin = batch * i / parts, end = batch * (i + 1) / parts;
    const auto made = factor(a.slice(0, begin, end));
    for (size_t k = 0; k < outputs.size(); ++k) outputs[k].slice(0, begin, end).copy_(made[k]);
  });
}

// Ascending eigenvalues of symmetric matrices of one order, whose lower triangles are read, by LAPACK itself: around it libtorch's operation
// takes longer than a small matrix.
class Eigenvalues {
 public:
  explicit Eigenvalues(int64_t order) : order_(order), matrix_(order * order) {
#if AT_BUILD_WITH_LAPACK()
    double numbers = 0;
    int integers = 0;
    call(nullptr, &numbers, -1, &integers, -1);
    numbers_.resize(static_cast<size_t>(numbers));
    integers_.resize(std::max(1, integers));
#endif
  }
  // Of the next one, [R, R] in f64.
  void find(const at::Tensor& matrix, double* values) {
#if AT_BUILD_WITH_LAPACK()
    // LAPACK stores columns.
    const double* from = matrix.const_data_ptr<double>();
    for (int64_t i = 0; i < order_; ++i) {
      for (int64_t j = 0; j <= i; ++j) matrix_[j * order_ + i] = from[i * order_ + j];
    }
    if (call(values, numbers_.data(), static_cast<int>(numbers_.size()), integers_.data(), static_cast<int>(integers_.size())) == 0) return;
#endif
    // Raises what is wrong.
    const auto found = at::linalg_eigvalsh(matrix, "L");
    std::copy_n(found.const_data_ptr<double>(), order_, values);
  }

 private:
#if AT_BUILD_WITH_LAPACK()
  int call(double* values, double* numbers, int count, int* integers, int integer_count) {
    int info = 0;
    const int order = static_cast<int>(order_);
    double* none = nullptr;
    at::native::lapackSyevd<double>('N', 'L', order, matrix_.data(), std::max(1, order), values, numbers, count, none, 0, integers, integer_count,
                                    &info);
    return info;
  }
#endif
  int64_t order_;
  std::vector<double> matrix_, numbers_;
  std::vector<int> integers_;
};

void* kept(at::Tensor t) { return new at::Tensor(std::move(t)); }

}  // namespace

extern "C" {

const char* pb_spectra(void** values, const void* grams_, int64_t count) {
  return protect([&] {
    RECORD_FUNCTION("pullback::spectra", c10::ArrayRef<const c10::IValue>{});
    const at::Tensor grams = tensor(grams_).detach().contiguous();
    const int64_t batch = grams.size(0), order = grams.size(1);
    TORCH_CHECK(grams.is_cpu() && grams.scalar_type() == at::kDouble && grams.size(2) == order && count <= order, "spectra: [B, R, R] in f64 on a CPU");
    auto out = at::empty({batch, count}, grams.options());
    double* to = out.mutable_data_ptr<double>();
    const int64_t parts = std::clamp<int64_t>(batch / kLeast, 1, at::get_num_threads());
    Pool::get().run(parts, [&](int64_t part) {
      Eigenvalues eigenvalues(order);
      std::vector<double> ascending(order);
      for (int64_t i = batch * part / parts; i < batch * (part + 1) / parts; ++i) {
        const at::Tensor gram = grams[i];
        // The diagonal has the squared length of each row, which bounds every other entry.
        const double* entries = gram.const_data_ptr<double>();
        bool finite = true;
        for (int64_t r = 0; r < order; ++r) finite = finite && std::isfinite(entries[r * (order + 1)]);
        if (!finite) {
          std::fill_n(to + i * count, count, std::numeric_limits<double>::quiet_NaN());
          continue;
        }
        eigenvalues.find(gram, ascending.data());
        for (int64_t r = 0; r < count; ++r) to[i * count + r] = std::max(ascending[order - 1 - r], 0.0);
      }
    });
    *values = kept(std::move(out));
  });
}

const char* pb_shared_eigh(void** values, void** vectors, const void* a_) {
  return protect([&] {
    const auto& a = tensor(a_);
    auto out = at::empty({a.size(0), a.size(1)}, a.options());
    auto columns = at::empty(a.sizes(), a.options());
    shared(a, {out, columns}, [](const at::Tensor& part) {
      auto [w, v] = at::linalg_eigh(part, "L");
      return std::vector<at::Tensor>{w, v};
    });
    *values = kept(std::move(out));
    *vectors = kept(std::move(columns));
  });
}

const char* pb_shared_qr_triangle(void** triangle, const void* a_) {
  return protect([&] {
    const auto& a = tensor(a_);
    auto out = at::empty({a.size(0), std::min(a.size(1), a.size(2)), a.size(2)}, a.options());
    shared(a, {out}, [](const at::Tensor& part) {
      return std::vector<at::Tensor>{std::get<1>(at::linalg_qr(part, "r"))};
    });
    *triangle = kept(std::move(out));
  });
}
}
