// What operations of our own leave in autograd's graph: the nodes of libtorch's operations that they stand for.
#pragma once
#include "grain.h"
#include "lanes.h"

#include <ATen/Parallel.h>
#include <ATen/ops/relu.h>
#include <torch/csrc/autograd/functions/utils.h>
#include <torch/csrc/autograd/generated/Functions.h>

#include <memory>
#include <utility>

// `node` as the origin of `result`; if that is rectified already, with the node of ReLU behind.
inline void record(at::Tensor& result, std::shared_ptr<torch::autograd::Node> node, bool rectified) {
  torch::autograd::set_history(result, node);
  if (!rectified) return;
  using torch::autograd::generated::ReluBackward0;
  std::shared_ptr<ReluBackward0> relu(new ReluBackward0(), torch::autograd::deleteNode);
  relu->set_next_edges({torch::autograd::Edge(std::move(node), 0)});
  torch::autograd::set_history(result, relu);
  relu->result_ = torch::autograd::SavedVariable(result, true);
}

// Numbers become 0 where they are negative; NaN stays.
PB_EACH_PROCESSOR inline void rectify(float* numbers, int64_t count) {
  for (int64_t e = 0; e < count; ++e) numbers[e] = numbers[e] < 0 ? 0.0f : numbers[e];
}

// The same of a tensor, in place; dense, in f32, on a CPU, without a graph.
inline void rectify(const at::Tensor& t) {
  float* numbers = t.mutable_data_ptr<float>();
  at::parallel_for(0, t.numel(), pb::rows_worth_a_thread(1), [&](int64_t begin, int64_t end) { rectify(numbers + begin, end - begin); });
}
