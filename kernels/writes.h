// What the code of a TorchScript method changes in place.
#pragma once
#include <torch/csrc/jit/ir/ir.h>

#include <memory>

struct Writes {
  // Something that is there before the code runs, or may be: its argument, a weight, a buffer.
  bool kept = false;
  // Something of which the code took a view before. Where maps lie otherwise, that view may be a copy, which does not show the change.
  bool viewed = false;
};

// Of code that calls no other: its calls are inlined.
Writes writes_of(const std::shared_ptr<torch::jit::Graph>& graph);
