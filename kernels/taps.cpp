// Outputs of the layers inside a TorchScript model. A method of a layer that is watched returns its output through an operator that keeps
// it, with its graph, in the thread that called.
#include "protect.h"
#include "pullback.h"

#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/runtime/custom_operator.h>
#include <torch/script.h>

#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace {

using torch::jit::Module;

Module& module_of(void* p) { return *static_cast<Module*>(p); }

// Objects of one class share its methods, so that the object says which layer it was.
using Seen = std::vector<std::pair<const void*, at::Tensor>>;
thread_local std::optional<Seen> seen;

const auto tap = c10::Symbol::fromQualString("pullback::tap");

void keep(torch::jit::Stack& stack) {
  const auto& self = stack[stack.size() - 2];
  if (seen.has_value() && self.isObject()) seen->emplace_back(&self.toObjectRef(), stack.back().toTensor());
  stack.erase(stack.end() - 2);
}

torch::jit::RegisterOperators operators({torch::jit::Operator("pullback::tap(Any self, Tensor(a) x) -> Tensor(a)", keep,
                                                              c10::AliasAnalysisKind::FROM_SCHEMA)});

// The layer at a path of names: "encoder.0".
Module layer_at(const Module& module, const std::string& path) {
  Module found = module;
  std::istringstream names(path);
  for (std::string name; std::getline(names, name, '.');) {
    TORCH_CHECK(found.hasattr(name) && found.attr(name).isModule(), "no layer");
    found = found.attr(name).toModule();
  }
  return found;
}

// Makes the methods of a layer keep what they return; false if it has none that returns one tensor.
bool watch(const Module& layer) {
  bool any = false;
  for (const auto& method : layer.get_methods()) {
    // Tracing calls a layer's further passes forward1, forward2, ...
    if (method.name().rfind("forward", 0) != 0) continue;
    auto* compiled = torch::jit::tryToGraphFunction(method.function());
    if (compiled == nullptr) continue;
    compiled->ensure_defined();
    auto graph = compiled->graph();
    if (graph->outputs().size() != 1 || graph->inputs().empty()) continue;
    auto* output = graph->outputs()[0];
    if (!output->type()->isSubtypeOf(*c10::TensorType::get())) continue;
    any = true;
    if (output->node()->kind() == tap) continue;
    auto* kept = graph->create(tap, {graph->inputs()[0], output}, 1);
    kept->output()->setType(output->type());
    graph->appendNode(kept);
    graph->return_node()->replaceInput(0, kept->output());
  }
  return any;
}

}  // namespace

extern "C" {

const char* pb_module_watch(int* found, void* module, const char* name) {
  return protect([&] {
    *found = 0;
    Module layer = module_of(module);
    try {
      layer = layer_at(module_of(module), name);
    } catch (const c10::Error&) {
      return;
    }
    *found = watch(layer) ? 2 : 1;
  });
}

const char* pb_module_layers(const char** names, void* module) {
  return protect([&] {
    thread_local std::string joined;
    joined.clear();
    for (const auto& part : module_of(module).named_modules()) {
      if (part.name.empty()) continue;
      joined += (joined.empty() ? "" : "\n") + part.name;
    }
    *names = joined.c_str();
  });
}

void pb_taps_open() { seen.emplace(); }

void pb_taps_close() { seen.reset(); }

const char* pb_taps_take(void** result, void* module, const char* name, int64_t number) {
  return protect([&] {
    *result = nullptr;
    if (!seen.has_value()) return;
    const auto object = layer_at(module_of(module), name)._ivalue();
    for (const auto& [layer, output] : *seen) {
      if (layer == object.get() && number-- == 0) {
        *result = new at::Tensor(output);
        return;
      }
    }
  });
}
}
