// Batched vector-Jacobian products.
//
// libtorch has no public vmap, but its shared library exports functorch's interpreter stack, which torch.func uses: push a Vmap layer, wrap
// the cotangents as batched tensors, call autograd, unwrap, pop.
#include "derivative.h"
#include "folded.h"
#include "protect.h"
#include "pullback.h"

#include <ATen/ATen.h>
#include <ATen/functorch/BatchedTensorImpl.h>
#include <ATen/functorch/DynamicLayer.h>
#include <torch/csrc/autograd/edge.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/variable.h>

#include <cctype>
#include <string>
#include <unordered_set>
#include <vector>

namespace {

const at::Tensor& tensor(const void* p) { return *static_cast<const at::Tensor*>(p); }

// A Vmap layer that is popped whenever the scope ends.
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

// One backward pass: the gradient at `target`, undefined if `out` does not depend on it. The graph is kept.
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
  // A gradient that does not depend on the cotangent has no batch axis: it is the same for every k.
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

}  // namespace

extern "C" {

const char* pb_vjp(void** result, const void* out, const void* in, const void* cotangents, int way,
                   int create_graph, int at_stem, int (*stops)()) {
  return protect([&] {
    const auto &y = tensor(out), &x = tensor(in);
    const at::Tensor c = cotangents == nullptr ? at::Tensor() : tensor(cotangents);
    TORCH_CHECK(c.defined() || way == 2, "only folded passes know unit vectors");
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
      sizes.insert(sizes.begin(), c.defined() ? c.size(0) : y.size(1));
      g = at::zeros(sizes, x.options().requires_grad(false));
    }
    *result = new at::Tensor(std::move(g));
  });
}

const char* pb_has_custom(int* found, const void* out) {
  return protect([&] {
    *found = 0;
    std::vector<torch::autograd::Node*> open;
    std::unordered_set<torch::autograd::Node*> seen;
    const auto meet = [&](torch::autograd::Node* node) {
      if (node != nullptr && seen.insert(node).second) open.push_back(node);
    };
    meet(tensor(out).grad_fn().get());
    while (!open.empty()) {
      auto* node = open.back();
      open.pop_back();
      // libtorch's own end in a number, as ReluBackward0 does, or are in its namespace. A Python function has its class's name.
      const std::string name = node->name();
      const bool own = !name.empty() && (std::isdigit(static_cast<unsigned char>(name.back())) != 0 ||
                                         (name.rfind("torch::autograd::", 0) == 0 && name.find("CppNode") == std::string::npos));
      if (!own) {
        *found = 1;
        return;
      }
      for (size_t i = 0; i < node->num_outputs(); ++i) meet(node->next_edge(i).function.get());
    }
  });
}

const char* pb_grams(void** grams, const void* out, const void* in, int (*stops)()) {
  return protect([&] {
    const auto &y = tensor(out), &x = tensor(in);
    at::Tensor found;
    if (y.requires_grad()) {
      TORCH_CHECK(x.requires_grad(), "the input of a Jacobian requires no gradient");
      found = grams_folded(y, torch::autograd::impl::gradient_edge(x), stops);
    } else {
      found = at::zeros({y.size(0), y.size(1), y.size(1)}, y.options().dtype(at::kDouble));
    }
    *grams = new at::Tensor(std::move(found));
  });
}
}
