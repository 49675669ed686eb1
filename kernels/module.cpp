// TorchScript models. tch binds them too, but its conversion turns integer buffers into floating-point ones, misses plain tensor
// attributes, and aborts if it fails; and it cannot ask whether a method exists.
#include "protect.h"
#include "pullback.h"
#include "recurrent.h"
#include "weights.h"
#include "writes.h"

#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/script.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace {

using torch::jit::Module;

Module& module_of(void* p) { return *static_cast<Module*>(p); }

// Parameters, buffers and plain attributes: every floating-point tensor of the module.
template <class F> void each_floating_tensor(const Module& module, F&& body) {
  for (const auto& attribute : module.named_attributes(/*recurse=*/true)) {
    if (!attribute.value.isTensor()) continue;
    at::Tensor tensor = attribute.value.toTensor();
    if (tensor.defined() && tensor.is_floating_point()) body(attribute.name, tensor);
  }
}

// Tracing records the global flags of the moment: a traced convolution may be rounded to TF32 on a GPU, whatever is set later. The last
// argument of aten::_convolution holds that flag; it is made false, wherever its value comes from. Counts the changes.
int64_t forbid_tf32(torch::jit::Block* block) {
  int64_t changed = 0;
  for (auto* node : block->nodes()) {
    for (auto* inner : node->blocks()) changed += forbid_tf32(inner);
    if (node->hasAttribute(torch::jit::attr::Subgraph)) changed += forbid_tf32(node->g(torch::jit::attr::Subgraph)->block());
    if (node->kind() != at::aten::_convolution || node->inputs().size() != 13) continue;
    const auto allowed = torch::jit::toIValue(node->input(12));
    if (allowed.has_value() && allowed->isBool() && !allowed->toBool()) continue;
    torch::jit::WithInsertPoint before(node);
    node->replaceInput(12, node->owningGraph()->insertConstant(false));
    ++changed;
  }
  return changed;
}

// The weights of frozen code, which are constants of it: those of another floating-point kind become `kind`. Single numbers decide no kind.
void convert_constants(torch::jit::Block* block, at::ScalarType kind) {
  for (auto* node : block->nodes()) {
    for (auto* inner : node->blocks()) convert_constants(inner, kind);
    if (node->kind() != torch::jit::prim::Constant || !node->hasAttribute(torch::jit::attr::value)) continue;
    if (node->kindOf(torch::jit::attr::value) != torch::jit::AttributeKind::t) continue;
    const at::Tensor value = node->t(torch::jit::attr::value);
    if (!value.defined() || !value.is_floating_point() || value.dim() == 0 || value.scalar_type() == kind) continue;
    node->t_(torch::jit::attr::value, value.to(kind));
    node->output()->setType(c10::TensorType::get());
  }
}

// Whether a block's code asks how maps lie (channels last).
bool minds_layout(const torch::jit::Block* block) {
  for (const auto* node : block->nodes()) {
    for (const auto* inner : node->blocks()) {
      if (minds_layout(inner)) return true;
    }
    const std::string_view name = node->kind().toQualString();
    for (const char* asks : {"aten::as_strided", "aten::stride", "aten::is_contiguous", "aten::view_as_complex"}) {
      if (name == asks) return true;
    }
    // As numbers of another kind.
    if (name == "aten::view" && node->inputs().size() == 2 && node->input(1)->type()->kind() != c10::TypeKind::ListType) return true;
  }
  return false;
}

// The length of a list, if it is known. In a traced file even a constant list is put together at run time.
std::optional<size_t> length(const torch::jit::Value* list) {
  if (list->node()->kind() == torch::jit::prim::ListConstruct) return list->node()->inputs().size();
  const auto constant = torch::jit::toIValue(list);
  if (constant.has_value() && constant->isIntList()) return constant->toIntVector().size();
  return std::nullopt;
}

// Whether a value is there before the code runs: a weight that the code computes is another one in each call.
bool is_kept(const torch::jit::Value* value) {
  const auto kind = value->node()->kind();
  return kind == torch::jit::prim::GetAttr || kind == torch::jit::prim::Constant;
}

// Linear layers become ours (linear.cpp), and convolutions (convolution.cpp) if maps may be channels last (`ours`); views of these may need
// a copy. Traced ones become those of scripted code, whose node in the graph is the one that folded passes know.
void choose_operations(torch::jit::Block* block, bool ours) {
  for (auto it = block->nodes().begin(); it != block->nodes().end();) {
    auto* node = *it++;
    for (auto* inner : node->blocks()) choose_operations(inner, ours);
    auto& graph = *node->owningGraph();
    const auto replace = [&](const char* name, at::ArrayRef<torch::jit::Value*> inputs) {
      auto* fresh = graph.create(c10::Symbol::fromQualString(name), inputs, 1);
      fresh->insertBefore(node);
      fresh->copyMetadata(node);
      fresh->output()->copyMetadata(node->output());
      node->output()->replaceAllUsesWith(fresh->output());
      node->destroy();
    };
    const auto is_list = [](const torch::jit::Value* value) { return value->type()->kind() == c10::TypeKind::ListType; };
    const auto in = node->inputs();
    if (node->kind() == at::aten::_convolution && in.size() >= 12) {
      const auto transposed = torch::jit::toIValue(in[6]);
      const bool plain = transposed.has_value() && transposed->isBool() && !transposed->toBool();
      // A convolution of images has two strides.
      if (ours && plain && length(in[3]) == size_t{2}) {
        replace("pullback::conv2d", {in[0], in[1], in[2], in[3], in[4], in[5], in[8]});
      } else {
        replace("aten::convolution", in.slice(0, 9));
      }
    } else if (node->kind() == at::aten::linear && in.size() == 3 && is_kept(in[1])) {
      replace("pullback::linear", in);
    } else if (!ours) {
      continue;
    } else if (node->kind() == at::aten::view && in.size() == 2 && is_list(in[1])) {
      replace("aten::reshape", in);
    } else if (node->kind() == at::aten::view_as) {
      replace("aten::reshape_as", in);
    } else if (node->kind() == at::aten::conv2d && in.size() == 7 && is_list(in[4])) {
      replace("pullback::conv2d", in);
    }
  }
}

// A linear layer or a convolution and the ReLU that alone reads it become one operation.
void join_rectified(torch::jit::Block* block) {
  for (auto it = block->nodes().begin(); it != block->nodes().end();) {
    auto* node = *it++;
    for (auto* inner : node->blocks()) join_rectified(inner);
    const std::string_view name = node->kind().toQualString();
    if (name != "aten::relu" && name != "aten::relu_") continue;
    auto* before = node->input(0)->node();
    const std::string_view first = before->kind().toQualString();
    if ((first != "pullback::linear" && first != "pullback::conv2d") || before->output()->uses().size() != 1) continue;
    auto* joined = node->owningGraph()->create(c10::Symbol::fromQualString(std::string(first) + "_relu"), before->inputs(), 1);
    joined->insertBefore(before);
    joined->copyMetadata(before);
    joined->output()->copyMetadata(node->output());
    node->output()->replaceAllUsesWith(joined->output());
    node->destroy();
    before->destroy();
  }
}

// A module, and its methods as they are run: with the code of their layers in one place.
struct Loaded : Module {
  explicit Loaded(const Module& module) : Module(module) {}
  std::map<std::string, std::unique_ptr<torch::jit::GraphExecutor>, std::less<>> plans;
  // Methods that change their argument, or what the module holds.
  std::set<std::string, std::less<>> writing;

  torch::jit::GraphExecutor& plan_of(const torch::jit::Method& method) {
    const std::string name = method.name();
    const auto found = plans.find(name);
    if (found != plans.end()) return *found->second;
    std::shared_ptr<torch::jit::Graph> graph;
    {
      // With all calls inlined, however deep, and without branches that are never taken: with the optimiser off, one level would be.
      torch::jit::GraphOptimizerEnabledGuard on(true);
      graph = torch::jit::toGraphFunction(method.function()).optimized_graph()->copy();
    }
    join_rectified(graph->block());
    return *plans.emplace(name, std::make_unique<torch::jit::GraphExecutor>(graph, name)).first->second;
  }
};

Loaded& loaded(void* p) { return static_cast<Loaded&>(module_of(p)); }

// Whether code keeps state from one call to the next.
bool assigns(const torch::jit::Block* block) {
  for (const auto* node : block->nodes()) {
    if (node->kind() == torch::jit::prim::SetAttr) return true;
    for (const auto* inner : node->blocks()) {
      if (assigns(inner)) return true;
    }
  }
  return false;
}

// All functions that came with a module: the methods of all its parts, and the functions that they call.
std::vector<torch::jit::GraphFunction*> functions_of(const Module& module) {
  std::vector<torch::jit::GraphFunction*> functions;
  for (auto* function : module._ivalue()->compilation_unit()->get_functions()) {
    auto* compiled = torch::jit::tryToGraphFunction(*function);
    if (compiled == nullptr) continue;
    compiled->ensure_defined();
    functions.push_back(compiled);
  }
  return functions;
}

// Whether maps may lie in another order than libtorch's own, without a difference to what the code says.
bool may_turn(const std::vector<torch::jit::GraphFunction*>& functions) {
  return std::none_of(functions.begin(), functions.end(), [](const auto* function) {
    return minds_layout(function->graph()->block()) || writes_of(function->optimized_graph()).viewed;
  });
}

// The methods of a module that change their argument, or what the module holds.
std::set<std::string, std::less<>> writing_of(const Module& module) {
  std::set<std::string, std::less<>> found;
  for (const auto& method : module.get_methods()) {
    if (writes_of(torch::jit::toGraphFunction(method.function()).optimized_graph()).kept) found.insert(method.name());
  }
  return found;
}

}  // namespace

extern "C" {

const char* pb_module_load(void** result, int64_t* tf32, const char* path, int64_t cuda_device, int use_double) {
  return protect([&] {
    // Both rewrite backward passes; the guard of pb_module_call switches off the rest.
    torch::jit::getProfilingMode() = false;
    const auto device = cuda_device < 0 ? at::Device(at::kCPU) : at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(cuda_device));
    auto module = std::make_unique<Loaded>(torch::jit::load(path, device));
    const auto kind = use_double ? at::kDouble : at::kFloat;
    each_floating_tensor(*module, [&](const std::string&, at::Tensor& tensor) {
      tensor.set_requires_grad(false);
      if (tensor.scalar_type() != kind) tensor.set_data(tensor.to(kind));
    });
    const auto functions = functions_of(*module);
    *tf32 = 0;
    for (auto* function : functions) {
      *tf32 += forbid_tf32(function->graph()->block());
      convert_constants(function->graph()->block(), kind);
      mend_recurrent(function->graph()->block(), kind, device);
    }
    {
      // With all calls inlined, and without branches that are never taken.
      torch::jit::GraphOptimizerEnabledGuard on(true);
      module->writing = writing_of(*module);
      const bool ours = device.is_cpu() && may_turn(functions);
      // They are kept as they were, and are about to change.
      for (auto* function : functions) function->clear_optimized_graphs();
      if (device.is_cpu()) {
        for (auto* function : functions) choose_operations(function->graph()->block(), ours);
      }
    }
    *result = static_cast<Module*>(module.release());
  });
}

const char* pb_module_share(void** result, void* module) {
  return protect([&] {
    for (const auto* function : functions_of(module_of(module))) {
      TORCH_CHECK(!assigns(function->graph()->block()), "its code assigns to an attribute");
    }
    TORCH_CHECK(loaded(module).writing.empty(), "its code writes to what it holds");
    *result = static_cast<Module*>(new Loaded(module_of(module)));
  });
}

void pb_module_free(void* module) {
  delete &loaded(module);
  forget_lost_weights();
}

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
    const auto called = module_of(module).get_method(method);
    const bool keeps = loaded(module).writing.count(called.name()) == 0;
    // The caller's tensors are not to change, neither this one nor those of a call before.
    const auto& given = *static_cast<const at::Tensor*>(input);
    torch::jit::Stack stack{module_of(module)._ivalue(), keeps ? given : given.clone()};
    called.function().getSchema().checkAndNormalizeInputs(stack, {});
    loaded(module).plan_of(called).run(stack);
    const auto value = stack.front();
    std::vector<at::Tensor> tensors;
    bool all_tensors = true;
    if (value.isTensor()) {
      tensors.push_back(value.toTensor());
    } else if (value.isTuple()) {
      for (const auto& element : value.toTupleRef().elements()) {
        all_tensors = all_tensors && element.isTensor();
        if (element.isTensor()) tensors.push_back(element.toTensor());
      }
    } else if (value.isTensorList()) {
      tensors = value.toTensorVector();
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
    for (size_t i = 0; i < tensors.size(); ++i) results[i] = new at::Tensor(keeps ? std::move(tensors[i]) : tensors[i].clone());
  });
}
}
