// Backward passes with all cotangents of a few samples in one batch (folded.h): the walk through the graph.
//
// K backward passes of B samples are K B rows of one product, if they share only the graph's saved tensors. One slice of the samples is
// processed at a time, so that the rows of a pass stay in the processor's cache from one operation to the next.
#include "folded.h"
#include "products.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <unordered_set>

namespace {

using torch::autograd::Edge;
using torch::autograd::Node;

// Bytes of a pass's largest map, and its least rows, where each thread takes passes of its own: they stay in its part of the cache.
constexpr int64_t kOwnBytes = 512 << 10, kOwnRows = 32;
// Its least rows where a core's cache does not hold the weights: each pass reads them again.
constexpr int64_t kWideRows = 64, kCoreWeights = 2 << 20;
// The same where all threads share a pass. With fewer rows each pass would read the weights of wide layers again for little work.
constexpr int64_t kSharedPassBytes = 6 << 20, kSharedPassRows = 256;
// Bytes of weights up to which threads take separate slices; larger weights are better read once, for all threads.
constexpr int64_t kOwnWeights = 8 << 20;

// From an input of a node on to the output number `place` of a later one.
struct Onward {
  size_t input, to, place;
  // Of the tensor there, [B, ...].
  std::vector<int64_t> sizes;
};

struct Stop {
  Node* node;
  Rule rule;
  std::vector<Onward> onward;
};

struct Walk {
  // From the root to the target; each comes after all that lead to it.
  std::vector<Stop> stops;
  std::unordered_map<Node*, int> consumers;
  // Numbers for each sample in the largest map on the way.
  int64_t largest = 1;
  // Bytes of the weights on the way.
  int64_t weights = 0;
};

// A pass: these samples and cotangents.
struct Job {
  int64_t sample = 0, samples = 0, row = 0, rows = 0;
};

// What is made once for all passes of a thread: weights in the layout of the rules, and scales that wait for a convolution.
struct Prepared {
  std::unordered_map<Node*, at::Tensor> weights, scales;
};

// The part of the graph between `root` and `target`; empty where there is none.
Walk walk(Node* root, Node* target) {
  // Depth first, without recursion: a node is done when all nodes below it are done.
  std::unordered_map<Node*, bool> leads;
  std::vector<std::pair<Node*, size_t>> open{{root, 0}};
  std::unordered_set<Node*> seen{root};
  std::vector<Node*> done;
  while (!open.empty()) {
    auto& [node, next] = open.back();
    if (node == target || next == node->num_outputs()) {
      bool reaches = node == target;
      for (size_t i = 0; i < node->num_outputs() && !reaches; ++i) {
        Node* below = node->next_edge(i).function.get();
        reaches = below != nullptr && leads[below];
      }
      leads[node] = reaches;
      if (reaches) done.push_back(node);
      open.pop_back();
      continue;
    }
    Node* below = node->next_edge(next++).function.get();
    if (below != nullptr && seen.insert(below).second) open.emplace_back(below, 0);
  }
  Walk found;
  std::unordered_map<Node*, size_t> places;
  for (auto it = done.rbegin(); it != done.rend(); ++it) {
    places.emplace(*it, found.stops.size());
    found.stops.push_back({*it, {}, {}});
  }
  for (auto& [node, rule, onward] : found.stops) {
    // What somebody's hook does to a derivative is not known.
    TORCH_CHECK(node->tensor_pre_hooks().empty() && node->pre_hooks().empty() && node->post_hooks().empty(), "folded: ", node->name(), " has a hook");
    if (node == target) continue;
    found.weights += weight_bytes(node);
    for (size_t i = 0; i < node->num_outputs(); ++i) {
      const auto& edge = node->next_edge(i);
      if (edge.function == nullptr || !leads[edge.function.get()]) continue;
      ++found.consumers[edge.function.get()];
      onward.push_back({i, places.at(edge.function.get()), edge.input_nr, sizes_behind(node, i)});
      const auto& sizes = onward.back().sizes;
      int64_t numbers = 1;
      for (size_t d = 1; d < sizes.size(); ++d) numbers *= sizes[d];
      found.largest = std::max(found.largest, numbers);
    }
  }
  for (auto& stop : found.stops) {
    if (stop.node != target) stop.rule = rule_of(stop.node, found.consumers);
  }
  return found;
}

// All passes; those over one block of samples, `chunks` of them, follow one another.
struct Cut {
  std::vector<Job> jobs;
  int64_t chunks = 1;
};

// K cotangents of `batch` samples as passes of about `rows` rows, as many for each thread, of equal sizes: all cotangents of some samples,
// or, where one sample has too many or there are fewer samples than threads, a part of the cotangents of one.
Cut divided(int64_t k, int64_t batch, int64_t rows, int64_t threads) {
  const auto up = [](int64_t n, int64_t by) { return (n + by - 1) / by; };
  const int64_t samples = std::clamp<int64_t>(rows / k, 1, batch);
  const int64_t blocks = std::min(batch, up(up(batch, samples), threads) * threads);
  const int64_t chunks = std::min(k, std::max(up(k, std::max<int64_t>(rows, 1)), up(threads, blocks)));
  Cut cut{{}, chunks};
  for (int64_t b = 0; b < blocks; ++b) {
    const int64_t sample = batch * b / blocks, samples_here = batch * (b + 1) / blocks - sample;
    for (int64_t c = 0; c < chunks; ++c) cut.jobs.push_back({sample, samples_here, k * c / chunks, k * (c + 1) / chunks - k * c / chunks});
  }
  return cut;
}

// `a` plus `b`, for the same place of the graph.
Rows sum(Rows a, Rows b) {
  if (a.first > b.first) std::swap(a, b);
  const int64_t end_a = a.first + a.values.size(0), end_b = b.first + b.values.size(0);
  if (end_a == b.first) return {a.first, at::cat({a.values, b.values}, 0), true};
  if (a.first == b.first && end_a == end_b) {
    // Rows that all samples share must not be overwritten.
    if (a.own && (a.values.size(1) == 1 || a.values.stride(1) != 0)) return {a.first, a.values.add_(b.values), true};
    return {a.first, a.values.add(b.values), true};
  }
  auto sizes = a.values.sizes().vec();
  sizes[0] = std::max(end_a, end_b) - a.first;
  auto values = at::zeros(sizes, a.values.options());
  values.narrow(0, 0, a.values.size(0)).copy_(a.values);
  values.narrow(0, b.first - a.first, b.values.size(0)).add_(b.values);
  return {a.first, values, true};
}

// One slice of the samples and the cotangents: the rows at the target, or none if nothing arrives.
Rows pull(const Walk& way, size_t output, const Edge& target, Rows given, const Slice& slice) {
  std::vector<std::vector<Rows>> waiting(way.stops.size());
  auto put = [&](size_t to, size_t place, Rows rows) {
    auto& places = waiting[to];
    if (places.size() <= place) places.resize(place + 1);
    Rows& held = places[place];
    if (held.arrive()) {
      const Node* node = way.stops[to].node;
      held = sum(there(std::move(held), node, place, slice), there(std::move(rows), node, place, slice));
    } else {
      held = std::move(rows);
    }
  };
  put(0, output, std::move(given));
  for (size_t at = 0; at < way.stops.size(); ++at) {
    const auto& [node, rule, onward] = way.stops[at];
    auto rows = std::move(waiting[at]);
    if (rows.empty()) continue;
    if (node == target.function.get()) {
      return rows.size() > target.input_nr ? there(std::move(rows[target.input_nr]), node, target.input_nr, slice) : Rows{};
    }
    auto below = rule(std::move(rows), slice);
    for (const auto& [input, to, place, sizes] : onward) {
      // Such as a weight that is computed from the image: its part of the derivative must not be left out.
      TORCH_CHECK(input < below.size(), "folded: ", node->name(), " depends on the image in several ways");
      Rows& part = below[input];
      if (!part.arrive()) continue;
      TORCH_CHECK(part.units > 0 || (part.values.dim() == static_cast<int64_t>(sizes.size()) + 1 &&
                                     std::equal(sizes.begin() + 1, sizes.end(), part.values.sizes().begin() + 2)),
                  "folded: ", node->name(), " spreads its input");
      put(to, place, std::move(part));
    }
  }
  return {};
}

// All rows at `place` [n, b, ...]: those that arrived, and zeros.
void write(const Rows& arrived, const at::Tensor& place) {
  if (!arrived.values.defined()) {
    place.zero_();
    return;
  }
  const int64_t n = place.size(0), end = arrived.first + arrived.values.size(0);
  if (arrived.first > 0) place.narrow(0, 0, arrived.first).zero_();
  if (end < n) place.narrow(0, end, n - end).zero_();
  place.narrow(0, arrived.first, arrived.values.size(0)).copy_(arrived.values);
}

}  // namespace

std::vector<int64_t> sizes_behind(const Node* node, size_t i) {
  const auto& edge = node->next_edge(i);
  std::vector<int64_t> sizes;
  for (const auto& size : edge.function->input_metadata(edge.input_nr).shape_as_dim_vector()) sizes.push_back(size.expect_int());
  return sizes;
}

Rows there(Rows rows, const Node* node, size_t i, const Slice& slice) {
  if (rows.units == 0) return rows;
  const auto& metadata = node->input_metadata(i);
  const int64_t width = metadata.shape_as_dim_vector()[1].expect_int();
  const at::Tensor values = at::zeros({rows.units, 1, width}, metadata.options());
  values.select(1, 0).diagonal(rows.unit).narrow(0, 0, rows.units).fill_(1);
  return {rows.first, values.expand({rows.units, slice.count, width}), false};
}

namespace {

// The passes of `cotangents` [K, B, R] of `out` or, if they are undefined, of its R unit vectors for each sample.
class Passes {
 public:
  Passes(const at::Tensor& out, const Edge& target, const at::Tensor& cotangents, int (*stops)())
      : way_(walk(out.grad_fn().get(), target.function.get())), target_(target), cotangents_(cotangents), output_(out.output_nr()), stops_(stops),
        batch_(out.size(0)), k_(cotangents.defined() ? cotangents.size(0) : out.size(1)), apart_(way_.weights <= kOwnWeights),
        // Where the caller is one of several threads already, there is only its own.
        threads_(at::in_parallel_region() ? 1 : at::get_num_threads()) {
    const int64_t bytes = way_.largest * static_cast<int64_t>(out.element_size());
    const int64_t least = way_.weights <= kCoreWeights ? kOwnRows : kWideRows;
    cut_ = apart_ ? divided(k_, batch_, std::max(kOwnBytes / bytes, least), threads_)
                  : divided(k_, batch_, std::max(kSharedPassBytes / bytes, kSharedPassRows), 1);
  }

  bool lead() const { return !way_.stops.empty(); }
  const Cut& cut() const { return cut_; }
  int64_t threads() const { return threads_; }

  Rows run(const Job& job, Prepared& prepared) const {
    TORCH_CHECK(stops_() == 0, "folded: stopped");
    const Slice slice{batch_, job.sample, job.samples, k_ * batch_, &way_.consumers, &prepared.weights, &prepared.scales};
    Rows given = cotangents_.defined() ? Rows{0, cotangents_.narrow(0, job.row, job.rows).narrow(1, job.sample, job.samples)}
                                       : units_of(0, job.row, job.rows);
    return pull(way_, output_, target_, std::move(given), slice);
  }

  // Calls one(i, prepared) for each i < count. A thread with its own passes waits for no other until all are done.
  template <class F> void each(size_t count, const F& one) const {
    if (!apart_) {
      Prepared prepared;
      for (size_t i = 0; i < count; ++i) one(i, prepared);
      return;
    }
    std::atomic<size_t> next{0};
    at::parallel_for(0, std::min<int64_t>(threads_, count), 1, [&](int64_t, int64_t) {
      at::NoGradGuard no_grad_here;
      Prepared own;
      for (size_t i = next++; i < count; i = next++) one(i, own);
    });
  }

 private:
  Walk way_;
  const Edge& target_;
  const at::Tensor& cotangents_;
  size_t output_;
  int (*stops_)();
  int64_t batch_, k_;
  bool apart_;
  int64_t threads_;
  Cut cut_;
};

// Rows [n, b, ...] as [b, n, D], with the numbers of each in whatever order takes no copy.
at::Tensor flat(const at::Tensor& rows) {
  const bool last = rows.dim() == 5 && !rows.is_contiguous() && rows.permute({0, 1, 3, 4, 2}).is_contiguous();
  return (last ? rows.permute({0, 1, 3, 4, 2}) : rows).flatten(2).transpose(0, 1);
}

// [k, samples, ...] of rows at `target`.
std::vector<int64_t> sizes_at(const Edge& target, int64_t k, int64_t samples) {
  const auto& metadata = target.function->input_metadata(target.input_nr);
  std::vector<int64_t> sizes{k, samples};
  for (size_t d = 1; d < metadata.shape_as_dim_vector().size(); ++d) sizes.push_back(metadata.shape_as_dim_vector()[d].expect_int());
  return sizes;
}

// All rows of all passes, [k, B, ...].
at::Tensor rows_of(const Passes& passes, const at::Tensor& out, const Edge& target, int64_t k) {
  const auto& jobs = passes.cut().jobs;
  const auto sizes = sizes_at(target, k, out.size(0));
  const auto fresh = [&] { return at::empty(sizes, out.options().requires_grad(false)); };
  if (jobs.size() == 1) {
    Prepared prepared;
    const Rows arrived = passes.run(jobs[0], prepared);
    // Mostly it is the result itself.
    const auto& values = arrived.values;
    if (values.defined() && arrived.own && values.sizes() == at::IntArrayRef(sizes) && values.is_contiguous()) return values;
    const at::Tensor result = fresh();
    write(arrived, result);
    return result;
  }
  const at::Tensor result = fresh();
  passes.each(jobs.size(), [&](size_t i, Prepared& prepared) {
    const Job& job = jobs[i];
    write(passes.run(job, prepared), result.narrow(0, job.row, job.rows).narrow(1, job.sample, job.samples));
  });
  return result;
}

}  // namespace

at::Tensor vjp_folded(const at::Tensor& out, const Edge& target, const at::Tensor& cotangents, int (*stops)()) {
  TORCH_CHECK(out.is_cpu(), "folded: not on the CPU");
  at::NoGradGuard no_grad;
  const Passes passes(out, target, cotangents, stops);
  if (!passes.lead()) return {};
  return rows_of(passes, out, target, cotangents.defined() ? cotangents.size(0) : out.size(1));
}

at::Tensor grams_folded(const at::Tensor& out, const Edge& target, int (*stops)()) {
  TORCH_CHECK(out.is_cpu() && out.scalar_type() == at::kFloat, "folded: not in f32 on the CPU");
  at::NoGradGuard no_grad;
  const int64_t k = out.size(1), batch = out.size(0);
  const at::Tensor units;
  const Passes passes(out, target, units, stops);
  const at::Tensor result = at::zeros({batch, k, k}, out.options().dtype(at::kDouble).requires_grad(false));
  if (!passes.lead()) return result;
  const auto& cut = passes.cut();
  const int64_t blocks = static_cast<int64_t>(cut.jobs.size()) / cut.chunks;
  // The threads share one sample's cotangents.
  if (blocks < passes.threads() && cut.chunks > 1) {
    gram_into(rows_of(passes, out, target, k).flatten(2).transpose(0, 1), result.mutable_data_ptr<double>());
    return result;
  }
  passes.each(blocks, [&](size_t block, Prepared& prepared) {
    const Job* jobs = &cut.jobs[block * cut.chunks];
    at::Tensor rows;
    for (int64_t c = 0; c < cut.chunks; ++c) {
      Rows arrived = passes.run(jobs[c], prepared);
      if (cut.chunks == 1 && arrived.values.defined() && arrived.values.size(0) == k) {
        rows = std::move(arrived.values);
        break;
      }
      if (!rows.defined()) rows = at::empty(sizes_at(target, k, jobs[c].samples), out.options().requires_grad(false));
      write(arrived, rows.narrow(0, jobs[c].row, jobs[c].rows));
    }
    gram_into(flat(rows), result.mutable_data_ptr<double>() + jobs[0].sample * k * k);
  });
  return result;
}
