// Factorisations of batches of small matrices on the CPU, shared among libtorch's own threads: libtorch calls LAPACK for one matrix after
// another, and threads of another pool would compete for the cores with libtorch's, which wait busily.
#include "protect.h"
#include "pullback.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <dlfcn.h>
#include <torch/csrc/autograd/grad_mode.h>

#include <algorithm>
#include <atomic>
#include <exception>
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

void* kept(at::Tensor t) { return new at::Tensor(std::move(t)); }

}  // namespace

extern "C" {

const char* pb_shared_eigvalsh(void** values, const void* a_) {
  return protect([&] {
    const auto& a = tensor(a_);
    auto out = at::empty({a.size(0), a.size(1)}, a.options());
    shared(a, {out}, [](const at::Tensor& part) { return std::vector<at::Tensor>{at::linalg_eigvalsh(part, "L")}; });
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
