#include "writes.h"

#include <torch/csrc/jit/ir/alias_analysis.h>

#include <algorithm>
#include <vector>

namespace {

using torch::jit::AliasDb;
using torch::jit::Node;
using torch::jit::Value;
using torch::jit::ValueSet;

void gather(torch::jit::Block* block, std::vector<Node*>& nodes) {
  for (auto* node : block->nodes()) {
    nodes.push_back(node);
    for (auto* inner : node->blocks()) gather(inner, nodes);
  }
}

// Whether a node only shows what another holds.
bool shows(const Node* node) {
  const auto* schema = node->maybeSchema();
  if (schema == nullptr || schema->returns().empty()) return false;
  const auto* alias = schema->returns()[0].alias_info();
  return alias != nullptr && !alias->isWrite();
}

// Whether one loop has both.
bool repeated(const Node* a, const Node* b) {
  std::vector<const Node*> around;
  const auto outside = [](const Node* node) -> const Node* { return node->owningBlock() == nullptr ? nullptr : node->owningBlock()->owningNode(); };
  for (const Node* node = outside(a); node != nullptr; node = outside(node)) {
    if (node->kind() == torch::jit::prim::Loop) around.push_back(node);
  }
  for (const Node* node = outside(b); node != nullptr; node = outside(node)) {
    if (std::find(around.begin(), around.end(), node) != around.end()) return true;
  }
  return false;
}

}  // namespace

Writes writes_of(const std::shared_ptr<torch::jit::Graph>& graph) {
  std::vector<Node*> nodes;
  gather(graph->block(), nodes);
  const AliasDb aliases(graph);
  ValueSet kept;
  for (const Value* input : graph->inputs()) kept.insert(input);
  std::vector<const Value*> views;
  for (const Node* node : nodes) {
    if (node->kind() == torch::jit::prim::GetAttr) kept.insert(node->output());
    if (shows(node) && aliases.hasWriters(node->output(0))) views.push_back(node->output(0));
  }
  Writes found;
  for (Node* node : nodes) {
    found.kept = found.kept || aliases.writesToAlias(node, kept);
    for (const Value* view : views) {
      if (found.viewed) break;
      // What was written before, a copy has as well.
      found.viewed = aliases.writesToAlias(node, {view}) && (!node->isBefore(view->node()) || repeated(node, view->node()));
    }
  }
  return found;
}
