#include "recurrent.h"

#include <torch/csrc/jit/ir/constants.h>
#include <torch/library.h>

#include <string_view>

namespace {

using torch::jit::Node;
using torch::jit::Value;

bool is_recurrent(const Node* node) {
  const std::string_view name = node->kind().toQualString();
  return name == "aten::lstm" || name == "aten::gru" || name == "aten::rnn_tanh" || name == "aten::rnn_relu";
}

// aten::zeros(size, dtype, layout, device, pin_memory), where the dtype is a constant of floating point.
void begin_as(Node* zeros, at::ScalarType kind, at::Device device) {
  if (zeros->kind() != at::aten::zeros || zeros->inputs().size() != 5) return;
  const auto named = torch::jit::toIValue(zeros->input(1));
  if (!named.has_value() || !named->isInt() || !at::isFloatingType(static_cast<at::ScalarType>(named->toInt()))) return;
  torch::jit::WithInsertPoint before(zeros);
  zeros->replaceInput(1, zeros->owningGraph()->insertConstant(static_cast<int64_t>(kind)));
  zeros->replaceInput(3, zeros->owningGraph()->insertConstant(device));
  zeros->output()->setType(c10::TensorType::get());
}

}  // namespace

void mend_recurrent(torch::jit::Block* block, at::ScalarType kind, at::Device device) {
  for (auto* node : block->nodes()) {
    for (auto* inner : node->blocks()) mend_recurrent(inner, kind, device);
    if (!is_recurrent(node)) continue;
    auto* sequence = node->input(0);
    auto* checked = node->owningGraph()->create(c10::Symbol::fromQualString("pullback::sequence"), {sequence}, 1);
    checked->insertBefore(node);
    checked->copyMetadata(node);
    checked->output()->setType(sequence->type());
    node->replaceInput(0, checked->output());
    auto* first = node->input(1)->node();
    if (first->kind() == torch::jit::prim::ListConstruct) {
      for (Value* state : first->inputs()) begin_as(state->node(), kind, device);
    } else {
      begin_as(first, kind, device);
    }
  }
}

TORCH_LIBRARY_FRAGMENT(pullback, m) {
  m.def("sequence(Tensor(a) x) -> Tensor(a)", [](const at::Tensor& x) {
    TORCH_CHECK(x.dim() <= 3, "a recurrent layer takes sequences of vectors, [B, T, C] or [T, B, C], and was given ", x.sizes());
    return x;
  });
}
