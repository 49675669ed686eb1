// TorchScript models. tch binds them too, but its conversion turns integer buffers into floating-point ones, misses
// plain tensor attributes, and aborts where it fails; and it cannot ask whether a method is there.
#include "protect.h"
#include "pullback.h"

#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/script.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace {

using torch::jit::Module;

Module& module_of(void* p) { return *static_cast<Module*>(p); }

// Parameters, buffers and plain attributes: everything of the module that is a floating-point tensor.
template <class F> void each_floating_tensor(const Module& module, F&& body) {
  for (const auto& attribute : module.named_attributes(/*recurse=*/true)) {
    if (!attribute.value.isTensor()) continue;
    at::Tensor tensor = attribute.value.toTensor();
    if (tensor.defined() && tensor.is_floating_point()) body(attribute.name, tensor);
  }
}

// Tracing writes down the global flags of the moment: a convolution would be rounded to TF32 on a GPU whatever is asked of it
// later. The last argument of aten::_convolution says so; it is made false. Counts what was changed.
int64_t forbid_tf32(torch::jit::Block* block) {
  int64_t changed = 0;
  for (auto* node : block->nodes()) {
    for (auto* inner : node->blocks()) changed += forbid_tf32(inner);
    if (node->kind() != at::aten::_convolution || node->inputs().size() != 13) continue;
    const auto allowed = torch::jit::toIValue(node->input(12));
    if (!allowed.has_value() || !allowed->isBool() || !allowed->toBool()) continue;
    torch::jit::WithInsertPoint before(node);
    node->replaceInput(12, node->owningGraph()->insertConstant(false));
    ++changed;
  }
  return changed;
}

}  // namespace

extern "C" {

const char* pb_module_load(void** result, int64_t* tf32, const char* path, int64_t cuda_device, int use_double) {
  return protect([&] {
    // Both rewrite backward passes; the guard of pb_module_call does the rest.
    torch::jit::getProfilingMode() = false;
    const auto device = cuda_device < 0 ? at::Device(at::kCPU) : at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(cuda_device));
    auto module = std::make_unique<Module>(torch::jit::load(path, device));
    const auto kind = use_double ? at::kDouble : at::kFloat;
    each_floating_tensor(*module, [&](const std::string&, at::Tensor& tensor) {
      tensor.set_requires_grad(false);
      if (tensor.scalar_type() != kind) tensor.set_data(tensor.to(kind));
    });
    *tf32 = 0;
    for (const auto& part : module->modules()) {
      for (const auto& method : part.get_methods()) *tf32 += forbid_tf32(method.graph()->block());
    }
    *result = module.release();
  });
}

void pb_module_free(void* module) { delete static_cast<Module*>(module); }

const char* pb_module_has(int* result, void* module, const char* method) {
  return protect([&] { *result = module_of(module).find_method(method).has_value(); });
}

const char* pb_module_non_finite(const char** name, void* module) {
  return protect([&] {
    thread_local std::string found;
    *name = nullptr;
    each_floating_tensor(module_of(module), [&](const std::string& attribute, at::Tensor& tensor) {
      if (*name == nullptr && !at::isfinite(tensor).all().item<bool>()) {
        found = attribute;
        *name = found.c_str();
      }
    });
  });
}

const char* pb_module_call(void** results, int64_t capacity, int64_t* count, const char** kind, void* module,
                           const char* method, const void* input) {
  return protect([&] {
    thread_local std::string type;
    *kind = nullptr;
    *count = 0;
    torch::jit::GraphOptimizerEnabledGuard off(false);
    const auto value = module_of(module).get_method(method)({*static_cast<const at::Tensor*>(input)});
    std::vector<at::Tensor> tensors;
    bool all_tensors = true;
    if (value.isTensor()) {
      tensors.push_back(value.toTensor());
    } else if (value.isTuple()) {
      for (const auto& element : value.toTupleRef().elements()) {
        all_tensors = all_tensors && element.isTensor();
        if (element.isTensor()) tensors.push_back(element.toTensor());
      }
    } else {
      all_tensors = false;
    }
    if (!all_tensors || static_cast<int64_t>(tensors.size()) > capacity) {
      type = value.isTuple() ? "a tuple of " + std::to_string(value.toTupleRef().elements().size()) + " (" +
                                   value.type()->repr_str() + ")"
                             : "a " + value.tagKind();
      *kind = type.c_str();
      return;
    }
    *count = static_cast<int64_t>(tensors.size());
    for (size_t i = 0; i < tensors.size(); ++i) results[i] = new at::Tensor(std::move(tensors[i]));
  });
}
}
