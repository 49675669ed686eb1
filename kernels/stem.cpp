// Finds in the graph itself whether it begins with a linear map of its whole input, so it works for models from any front end. A derivative
// by h = x M + c is smaller than one by x, and J_x = J_h M^T.
#include "derivative.h"
#include "protect.h"
#include "pullback.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/generated/Functions.h>
#include <torch/csrc/autograd/variable.h>

#include <string>
#include <unordered_set>
#include <vector>

namespace {

using torch::autograd::Edge;
using torch::autograd::Node;
namespace generated = torch::autograd::generated;

// An edge from the place `input` of a node.
struct Consumer {
  Node* node = nullptr;
  size_t input = 0;
  int count = 0;
};

// The nodes that take the output of `target`, in the graph below `root`.
Consumer consumer_of(const Node* target, Node* root) {
  Consumer found;
  std::vector<Node*> open{root};
  std::unordered_set<Node*> seen{root};
  while (!open.empty()) {
    Node* node = open.back();
    open.pop_back();
    for (size_t i = 0; i < node->num_outputs(); ++i) {
      Node* next = node->next_edge(i).function.get();
      if (next == target) found = {node, i, found.count + 1};
      if (next != nullptr && seen.insert(next).second) open.push_back(next);
    }
  }
  return found;
}

// The operation keeps the same numbers in the same order.
bool is_view(const std::string& name) {
  return name == "ViewBackward0" || name == "ReshapeAliasBackward0" || name == "UnsafeViewBackward0";
}

// M of a node that multiplies its first matrix from the right, [B, D] x [D, H]; undefined for other nodes.
at::Tensor right_factor(Node* node, size_t input) {
  if (auto* addmm = dynamic_cast<generated::AddmmBackward0*>(node); addmm != nullptr && input == 1) {
    return addmm->alpha.equal(1) ? addmm->mat2_.unpack() : at::Tensor();
  }
  if (auto* mm = dynamic_cast<generated::MmBackward0*>(node); mm != nullptr && input == 0) return mm->mat2_.unpack();
  return {};
}

}  // namespace

std::optional<Stem> find_stem(const at::Tensor& out, const at::Tensor& in) {
  const auto root = out.grad_fn();
  if (!root || !in.requires_grad() || in.grad_fn() || in.dim() < 1 || in.size(0) == 0) return {};
  const auto leaf = torch::autograd::impl::gradient_edge(in);
  auto at = consumer_of(leaf.function.get(), root.get());
  while (at.count == 1 && is_view(at.node->name())) at = consumer_of(at.node, root.get());
  if (at.count != 1) return {};
  auto map = right_factor(at.node, at.input);
  // There are fewer rows than numbers in an image: batch and pixels were mixed on the way.
  if (!map.defined() || map.dim() != 2 || map.size(0) * in.size(0) != in.numel() || map.requires_grad()) return {};
  return Stem{Edge(at.node->getptr(), 0), map};
}

extern "C" const char* pb_stem(void** map, int64_t* version, const void* out, const void* in) {
  return protect([&] {
    const auto stem = find_stem(*static_cast<const at::Tensor*>(out), *static_cast<const at::Tensor*>(in));
    if (!stem) return;
    *version = stem->map.is_inference() ? 0 : static_cast<int64_t>(stem->map._version());
    *map = new at::Tensor(stem->map.detach());
  });
}
