// Batched vector-Jacobian products and the few libtorch services that tch does not bind.
//
// libtorch has no public vmap, but its shared library exports functorch's interpreter stack, which is what
// torch.func runs on: push a Vmap layer, wrap the cotangents as batched tensors, call autograd, unwrap, pop.
#include "derivative.h"
#include "folded.h"
#include "protect.h"
#include "pullback.h"

#include <ATen/Context.h>
#include <ATen/functorch/BatchedTensorImpl.h>
#include <ATen/functorch/DynamicLayer.h>
#include <c10/core/Allocator.h>
#include <c10/util/Flags.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <dlfcn.h>
#include <torch/csrc/autograd/edge.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/variable.h>
#include <ATen/ATen.h>

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

C10_DECLARE_int(caffe2_log_level);

namespace {

const at::Tensor& tensor(const void* p) { return *static_cast<const at::Tensor*>(p); }

// A Vmap layer that is popped on every way out.
class VmapLayer {
 public:
  explicit VmapLayer(int64_t size)
      : level_(at::functorch::initAndPushDynamicLayer(at::functorch::TransformType::Vmap, c10::SymInt(size),
                                                      at::functorch::RandomnessType::Error)) {}
  ~VmapLayer() { at::functorch::popDynamicLayerAndDeleteMetadata(); }
  VmapLayer(const VmapLayer&) = delete;
  VmapLayer& operator=(const VmapLayer&) = delete;
  int64_t level() const { return level_; }

 private:
  int64_t level_;
};

// One backward pass: the gradient at `target`, undefined where `out` does not depend on it. The graph is kept.
at::Tensor pulled(const at::Tensor& out, const torch::autograd::Edge& target, const at::Tensor& cotangent,
                  bool create_graph) {
  auto& engine = torch::autograd::Engine::get_default_engine();
  return engine.execute({torch::autograd::impl::gradient_edge(out)}, {cotangent}, /*keep_graph=*/true, create_graph,
                        /*accumulate_grad=*/false, {target})[0];
}

at::Tensor vjp_vmapped(const at::Tensor& out, const torch::autograd::Edge& target, const at::Tensor& cotangents,
                       bool create_graph) {
  const int64_t k = cotangents.size(0);
  VmapLayer layer(k);
  auto batched = at::functorch::makeBatched(cotangents, 0, layer.level());
  auto grad = pulled(out, target, batched, create_graph);
  if (!grad.defined()) return {};
  auto* impl = at::functorch::maybeGetBatchedImpl(grad);
  // A gradient that does not depend on the cotangent comes back unbatched: the same for every k.
  if (impl == nullptr || impl->level() != layer.level()) {
    auto sizes = grad.sizes().vec();
    sizes.insert(sizes.begin(), k);
    return grad.unsqueeze(0).expand(sizes);
  }
  return impl->value().movedim(impl->bdim(), 0);
}

at::Tensor vjp_looped(const at::Tensor& out, const torch::autograd::Edge& target, const at::Tensor& cotangents,
                      bool create_graph) {
  std::vector<at::Tensor> rows;
  rows.reserve(cotangents.size(0));
  for (const auto& c : cotangents.unbind(0)) {
    auto grad = pulled(out, target, c, create_graph);
    if (!grad.defined()) return {};
    rows.push_back(std::move(grad));
  }
  return rows.size() == 1 ? rows[0].unsqueeze(0) : at::stack(rows);
}

// Adds up live bytes; c10's allocators report to it through the thread's debug info. Backward passes on CUDA run on
// autograd's own thread, which inherits the debug info, hence the lock.
class MemoryCounter : public c10::MemoryReportingInfoBase {
 public:
  void reportMemoryUsage(void*, int64_t size, size_t, size_t, c10::Device) override {
    std::lock_guard<std::mutex> lock(mutex_);
    live_ += size;
    peak_ = std::max(peak_, live_);
  }
  bool memoryProfilingEnabled() const override { return true; }
  int64_t peak() const { return peak_; }

 private:
  std::mutex mutex_;
  int64_t live_ = 0, peak_ = 0;
};

struct MemoryScope {
  std::shared_ptr<MemoryCounter> counter = std::make_shared<MemoryCounter>();
  c10::DebugInfoGuard guard{c10::DebugInfoKind::PROFILER_STATE, counter};
};
thread_local std::unique_ptr<MemoryScope> memory_scope;

std::vector<at::Tensor> list(void** p, int64_t n) {
  std::vector<at::Tensor> v;
  v.reserve(n);
  for (int64_t i = 0; i < n; ++i) v.push_back(tensor(p[i]));
  return v;
}

}  // namespace

extern "C" {

const char* pb_vjp(void** result, const void* out, const void* in, const void* cotangents, int way,
                   int create_graph, int at_stem, int (*stops)()) {
  return protect([&] {
    const auto &y = tensor(out), &x = tensor(in), &c = tensor(cotangents);
    const auto stem = at_stem ? find_stem(y, x) : std::nullopt;
    TORCH_CHECK(stem || !at_stem, "the graph does not begin with a linear map");
    at::Tensor g;
    if (y.requires_grad()) {
      TORCH_CHECK(x.requires_grad(), "the input of a vector-Jacobian product requires no gradient");
      const auto target = stem ? stem->edge : torch::autograd::impl::gradient_edge(x);
      TORCH_CHECK(way != 2 || !create_graph, "folded: no graph of the products");
      g = way == 2   ? vjp_folded(y, target, c, stops)
          : way == 1 ? vjp_vmapped(y, target, c, create_graph)
                     : vjp_looped(y, target, c, create_graph);
    }
    if (!g.defined()) {
      auto sizes = stem ? std::vector<int64_t>{x.size(0), stem->map.size(1)} : x.sizes().vec();
      sizes.insert(sizes.begin(), c.size(0));
      g = at::zeros(sizes, x.options().requires_grad(false));
    }
    *result = new at::Tensor(std::move(g));
  });
}

const char* pb_memory_begin() {
  return protect([&] {
    // libtorch's counter warns, once and to stderr, of every block that was allocated before the count began; that is
    // as meant here.
    FLAGS_caffe2_log_level = std::max<int>(FLAGS_caffe2_log_level, 2 /* errors only */);
    TORCH_CHECK(!memory_scope, "memory is being counted on this thread already");
    memory_scope = std::make_unique<MemoryScope>();
  });
}

const char* pb_memory_end(int64_t* peak) {
  return protect([&] {
    TORCH_CHECK(memory_scope, "memory is not being counted on this thread");
    *peak = memory_scope->counter->peak();
    memory_scope.reset();
  });
}

const char* pb_exact_math() {
  return protect([&] {
    auto& context = at::globalContext();
    // Only the math backend of attention can be differentiated twice and vmapped.
    context.setSDPUseFlash(false);
    context.setSDPUseMemEfficient(false);
    context.setSDPUseCuDNN(false);
    context.setSDPUseMath(true);
    context.setAllowTF32CuDNN(false);
    context.setAllowTF32CuBLAS(false);
  });
}

const char* pb_allow_tf32(int allow) {
  return protect([&] {
    at::globalContext().setAllowTF32CuDNN(allow != 0);
    at::globalContext().setAllowTF32CuBLAS(allow != 0);
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

const char* pb_fused_adam(void** params, void** grads, void** exp_avgs, void** exp_avg_sqs, void** steps, int64_t n,
                          const void* lr, double beta1, double beta2, double weight_decay, double eps) {
  return protect([&] {
    at::NoGradGuard no_grad;
    auto p = list(params, n), g = list(grads, n), m = list(exp_avgs, n), v = list(exp_avg_sqs, n), s = list(steps, n);
    // The operator reads each step after it was raised, as torch.optim does.
    at::_foreach_add_(s, 1);
    at::_fused_adam_(p, g, m, v, /*max_exp_avg_sqs=*/{}, s, tensor(lr), beta1, beta2, weight_decay, eps, /*amsgrad=*/false,
                     /*maximize=*/false);
  });
}

int pb_has_cuda_build() { return at::hasCUDA() || dlsym(RTLD_DEFAULT, "cudaMemGetInfo") != nullptr; }
}
