// The rules of folded backward passes (folded.h), one for each operation. Rows are [n, b, ...]; rows of maps are channels last.
#include "rules.h"

#include "grain.h"
#include "lanes.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <string>

namespace {

using at::Tensor;
using torch::autograd::Node;
namespace generated = torch::autograd::generated;

// Rows times d [b, ...], in the same layout.
Rows times(Rows rows, const Tensor& d) {
  const bool last = rows.values.dim() == 5 && rows.values.stride(2) == 1 && rows.values.size(2) > 1;
  const Tensor factor = (last ? d.contiguous(at::MemoryFormat::ChannelsLast) : d).unsqueeze(0);
  if (rows.own && !is_shared(rows.values)) return {rows.first, rows.values.mul_(factor), true};
  return {rows.first, rows.values * factor, true};
}

// The derivative of an elementwise operation, [b, ...]; undefined if the node is not one.
Tensor pointwise(Node* node, const Slice& slice) {
  const auto self = [&](auto* n) { return slice.of(n->self_.unpack()); };
  const auto result = [&](auto* n) { return slice.of(n->result_.unpack(node->getptr())); };
  if (auto* n = dynamic_cast<generated::LeakyReluBackward0*>(node)) {
    const Tensor x = self(n);
    return at::leaky_relu_backward(at::ones_like(x), x, n->negative_slope, false);
  }
  if (auto* n = dynamic_cast<generated::TanhBackward0*>(node)) {
    const Tensor y = result(n);
    return at::tanh_backward(at::ones_like(y), y);
  }
  if (auto* n = dynamic_cast<generated::SigmoidBackward0*>(node)) {
    const Tensor y = result(n);
    return at::sigmoid_backward(at::ones_like(y), y);
  }
  if (auto* n = dynamic_cast<generated::ExpBackward0*>(node)) return result(n);
  if (auto* n = dynamic_cast<generated::SiluBackward0*>(node)) {
    const Tensor x = self(n);
    return at::silu_backward(at::ones_like(x), x);
  }
  if (auto* n = dynamic_cast<generated::GeluBackward0*>(node)) {
    const Tensor x = self(n);
    return at::gelu_backward(at::ones_like(x), x, n->approximate);
  }
  if (auto* n = dynamic_cast<generated::EluBackward0*>(node)) {
    const Tensor x = self(n);
    return at::elu_backward(at::ones_like(x), n->alpha, n->scale, n->input_scale, false, x);
  }
  if (auto* n = dynamic_cast<generated::SoftplusBackward0*>(node)) {
    const Tensor x = self(n);
    return at::softplus_backward(at::ones_like(x), x, n->beta, n->threshold);
  }
  if (auto* n = dynamic_cast<generated::HardtanhBackward0*>(node)) {
    const Tensor x = self(n);
    return at::hardtanh_backward(at::ones_like(x), x, n->min_val, n->max_val);
  }
  return {};
}

// `from` where `y` is positive, and 0 elsewhere.
PB_EACH_PROCESSOR void keep(const float* y, const float* from, float* to, int64_t count) {
  for (int64_t e = 0; e < count; ++e) to[e] = y[e] > 0 ? from[e] : 0.0f;
}

// Whether samples of both, [n, b, ...] and [b, ...], are dense and have their numbers in one order.
bool is_alike(const Tensor& rows, const Tensor& y) {
  if (rows.scalar_type() != at::kFloat || y.scalar_type() != at::kFloat || rows.dim() != y.dim() + 1 || rows.size(1) != y.size(0)) return false;
  int64_t numbers = 1;
  for (int64_t d = 1; d < y.dim(); ++d) {
    if (rows.size(d + 1) != y.size(d) || (y.size(d) > 1 && rows.stride(d + 1) != y.stride(d))) return false;
    numbers *= y.size(d);
  }
  return y.is_non_overlapping_and_dense() && (y.size(0) == 1 || y.stride(0) == numbers);
}

// Rows where `y` [b, ...] is positive, and 0 elsewhere.
Rows kept_where(Rows rows, const Tensor& y) {
  const Tensor& values = rows.values;
  if (!is_alike(values, y)) return times(std::move(rows), y.sign());
  const int64_t count = values.size(0), batch = values.size(1), numbers = y.numel() / std::max<int64_t>(1, batch);
  Tensor result = values;
  if (!rows.own || is_shared(values)) {
    auto strides = values.strides().vec();
    strides[0] = batch * numbers, strides[1] = numbers;
    result = at::empty_strided(values.sizes(), strides, values.options());
  }
  const float *from = values.const_data_ptr<float>(), *by = y.const_data_ptr<float>();
  float* to = result.mutable_data_ptr<float>();
  const int64_t row = values.stride(0), sample = values.stride(1), own_row = result.stride(0), own_sample = result.stride(1);
  at::parallel_for(0, count * batch, pb::rows_worth_a_thread(numbers), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t n = r / batch, b = r % batch;
      keep(by + b * numbers, from + n * row + b * sample, to + n * own_row + b * own_sample, numbers);
    }
  });
  return {rows.first, result, true};
}

// Rows [n, b, O] times `map` [O, I].
Rows multiplied(Rows rows, const Tensor& map) {
  return {rows.first, on_batch(rows.values, [&](const Tensor& g) { return at::mm(g, map); }), true};
}

// Whether the node to which `node` leads reads its rows alone, and multiplies them by their factor itself.
bool reads_alone(Node* node, const std::unordered_map<Node*, int>& consumers) {
  Node* next = node->next_edge(0).function.get();
  const auto count = consumers.find(next);
  return count != consumers.end() && count->second == 1 && reads_factor(next);
}

// Puts rows that were cut out of a larger tensor [b, ...] back into zeros of its sizes.
Rows put_back(Rows rows, const std::vector<c10::SymInt>& whole, int64_t dim, int64_t start, int64_t end, int64_t step) {
  auto sizes = ints(whole);
  if (dim < 0) dim += static_cast<int64_t>(sizes.size());
  TORCH_CHECK(dim > 0, "folded: samples are taken apart");
  const bool shared = is_shared(rows.values);
  const Tensor own = shared ? rows.values.narrow(1, 0, 1) : rows.values;
  sizes[0] = own.size(1);
  sizes.insert(sizes.begin(), own.size(0));
  Tensor values = at::zeros(sizes, own.options());
  values.slice(dim + 1, start, end, step).copy_(own);
  sizes[1] = rows.values.size(1);
  return {rows.first, shared ? values.expand(sizes) : values, !shared};
}

// Those of `rows` that are not all zero, if all samples share them; otherwise all rows.
Rows trimmed(Rows rows) {
  if (rows.values.size(1) > 1 && !is_shared(rows.values)) return rows;
  const Tensor any = rows.values.select(1, 0).flatten(1).ne(0).any(1).contiguous();
  const bool* is_there = any.const_data_ptr<bool>();
  int64_t first = 0, end = any.size(0);
  while (first < end && !is_there[first]) ++first;
  while (end > first && !is_there[end - 1]) --end;
  if (first == end) return {};
  return {rows.first + first, rows.values.narrow(0, first, end - first), false};
}

Rows reshaped(Rows rows, std::vector<int64_t> sizes, const Slice& slice) {
  TORCH_CHECK(!sizes.empty() && sizes[0] == slice.batch, "folded: samples are mixed by a view");
  const bool shared = is_shared(rows.values);
  const Tensor own = shared ? rows.values.narrow(1, 0, 1) : rows.values;
  sizes[0] = own.size(1);
  sizes.insert(sizes.begin(), own.size(0));
  Tensor values = own.reshape(sizes);
  sizes[1] = rows.values.size(1);
  return {rows.first, shared ? values.expand(sizes) : values, rows.own};
}

// Rows [m, C, h, w] back through max pooling: each goes to the place of its maximum.
Tensor unpooled(generated::MaxPool2DWithIndicesBackward0* n, const Tensor& rows, const Slice& slice) {
  const auto sizes = sizes_behind(n, 0);
  TORCH_CHECK(sizes.size() == 4 && sizes[0] == slice.batch, "folded: pooling that is not of images");
  // The indices are for all samples; rows of one sample are copied for each.
  const Tensor places = slice.of(n->result1_.unpack(n->getptr())).flatten(2).unsqueeze(0).expand({rows.size(0), -1, -1, -1});
  Tensor all = at::zeros({rows.size(0), rows.size(1), sizes[1], sizes[2] * sizes[3]}, rows.options());
  all.scatter_add_(3, places, rows.flatten(3));
  return all.unflatten(3, {sizes[2], sizes[3]});
}

// Rows [m, C, h, w] back through mean pooling.
Tensor unmeaned(generated::AvgPool2DBackward0* n, const Tensor& g) {
  const auto sizes = sizes_behind(n, 0);
  TORCH_CHECK(sizes.size() == 4, "folded: pooling that is not of images");
  const Tensor shape = at::empty({1}, g.options()).expand({g.size(0), sizes[1], sizes[2], sizes[3]});
  return at::avg_pool2d_backward(g.contiguous(), shape.contiguous(), n->kernel_size, n->stride, n->padding, n->ceil_mode,
                                 n->count_include_pad, n->divisor_override);
}

// Batch normalisation with fixed statistics is a scale of each channel.
Rows normalised(generated::NativeBatchNormBackward0* n, Rows rows, const Slice& slice) {
  TORCH_CHECK(!n->training, "folded: batch normalisation in training mode");
  Tensor scale = (n->running_var_.unpack().detach() + n->eps).rsqrt();
  const Tensor weight = n->weight_.unpack();
  if (weight.defined()) scale = scale * weight.detach();
  Node* next = n->next_edge(0).function.get();
  const auto consumers = slice.consumers->find(next);
  auto* convolution = dynamic_cast<generated::ConvolutionBackward0*>(next);
  // It is worth scaling the weight if the pass has more numbers to scale than the weight; for all of its slices or for none, because they
  // share the weight.
  const int64_t numbers = rows.values.select(0, 0).select(0, 0).numel() * slice.rows;
  if (convolution != nullptr && consumers != slice.consumers->end() && consumers->second == 1 &&
      numbers > convolution->weight_.unpack().numel()) {
    slice.scales->insert_or_assign(next, scale);
    return rows;
  }
  std::vector<int64_t> sizes(rows.values.dim() - 1, 1);
  sizes[1] = scale.size(0);
  return times(std::move(rows), scale.reshape(sizes));
}

}  // namespace

int64_t weight_bytes(Node* node) {
  const auto bytes = [](const Tensor& weight) { return weight.defined() ? static_cast<int64_t>(weight.nbytes()) : 0; };
  if (auto* n = dynamic_cast<generated::ConvolutionBackward0*>(node)) return bytes(n->weight_.unpack());
  if (auto* n = dynamic_cast<generated::AddmmBackward0*>(node)) return bytes(n->mat2_.unpack());
  if (auto* n = dynamic_cast<generated::MmBackward0*>(node)) return bytes(n->mat2_.unpack());
  return 0;
}

namespace {

// A node by the rule that its kind has.
std::vector<Rows> apply(Node* node, std::vector<Rows> given, const Slice& slice) {
  if (auto* n = dynamic_cast<generated::SplitBackward0*>(node)) {
    const int64_t size = n->split_size.expect_int();
    const int64_t dim = n->dim < 0 ? n->dim + static_cast<int64_t>(n->self_sym_sizes.size()) : n->dim;
    const int64_t all = n->self_sym_sizes[dim].expect_int();
    Rows rows;
    for (size_t i = 0; i < given.size(); ++i) {
      if (!given[i].values.defined()) continue;
      const int64_t start = static_cast<int64_t>(i) * size;
      auto part = put_back(std::move(given[i]), n->self_sym_sizes, dim, start, std::min(start + size, all), 1);
      if (!rows.values.defined()) {
        rows = std::move(part);
      } else if (rows.first + rows.values.size(0) == part.first) {
        rows = {rows.first, at::cat({rows.values, part.values}, 0), true};
      } else if (part.first + part.values.size(0) == rows.first) {
        rows = {part.first, at::cat({part.values, rows.values}, 0), true};
      } else {
        TORCH_CHECK(rows.first == part.first && rows.values.size(0) == part.values.size(0), "folded: parts of other rows");
        rows = {rows.first, rows.values + part.values, true};
      }
    }
    return {rows};
  }
  TORCH_CHECK(given.size() == 1, "folded: ", node->name(), " has several outputs");
  Rows rows = std::move(given[0]);
  if (const Tensor d = pointwise(node, slice); d.defined()) {
    if (rows.values.dim() == 5 && reads_alone(node, *slice.consumers)) {
      rows.factor = d;
      return {rows};
    }
    return {times(std::move(rows), d)};
  }
  if (auto* n = dynamic_cast<generated::AddmmBackward0*>(node)) {
    TORCH_CHECK(n->alpha.equal(1) && rows.values.dim() == 3, "folded: a scaled product");
    const Tensor map = n->mat2_.unpack().detach().t();
    // What is added to the product may depend on the image, too.
    Rows added{rows.first, n->beta.equal(1) ? rows.values : rows.values * n->beta, false};
    return {std::move(added), multiplied(std::move(rows), map)};
  }
  if (auto* n = dynamic_cast<generated::MaxPool2DWithIndicesBackward0*>(node)) {
    return {{rows.first, unpooled(n, rows.values, slice), true}};
  }
  if (auto* n = dynamic_cast<generated::AvgPool2DBackward0*>(node)) {
    return {{rows.first, on_batch(rows.values, [&](const Tensor& g) { return unmeaned(n, g); }), true}};
  }
  if (auto* n = dynamic_cast<generated::NativeBatchNormBackward0*>(node)) return {normalised(n, std::move(rows), slice)};
  if (dynamic_cast<generated::SqueezeBackward1*>(node) || dynamic_cast<generated::UnsqueezeBackward0*>(node)) {
    return {reshaped(std::move(rows), sizes_behind(node, 0), slice)};
  }
  if (auto* n = dynamic_cast<generated::SliceBackward0*>(node)) {
    const auto bound = [](const std::optional<c10::SymInt>& b, int64_t otherwise) { return b ? b->expect_int() : otherwise; };
    const int64_t dim = n->dim < 0 ? n->dim + static_cast<int64_t>(n->self_sym_sizes.size()) : n->dim;
    const int64_t start = bound(n->start, 0), end = bound(n->end, INT64_MAX), step = n->step.expect_int();
    // [:] along the samples, as in pairs[:, :, 0].
    if (start == 0 && end >= n->self_sym_sizes[dim].expect_int() && step == 1) return {rows};
    return {put_back(std::move(rows), n->self_sym_sizes, dim, start, end, step)};
  }
  if (auto* n = dynamic_cast<generated::SelectBackward0*>(node)) {
    const int64_t dim = n->dim < 0 ? n->dim + static_cast<int64_t>(n->self_sym_sizes.size()) : n->dim;
    int64_t at = n->index.expect_int();
    if (at < 0) at += n->self_sym_sizes[dim].expect_int();
    rows.values = rows.values.unsqueeze(dim + 1);
    return {put_back(std::move(rows), n->self_sym_sizes, dim, at, at + 1, 1)};
  }
  if (dynamic_cast<generated::CloneBackward0*>(node) || dynamic_cast<generated::AliasBackward0*>(node)) return {rows};
  if (auto* n = dynamic_cast<generated::MulBackward0*>(node)) {
    // By a number, or by numbers that all samples share.
    const bool by_other = node->next_edge(1).function == nullptr;
    TORCH_CHECK(by_other != (node->next_edge(0).function == nullptr), "folded: a product of two that depend on the image");
    const Tensor factor = (by_other ? n->other_ : n->self_).unpack();
    TORCH_CHECK(factor.defined() && factor.dim() == 0, "folded: a product with a tensor");
    Rows scaled{rows.first, rows.values * factor.detach(), true};
    return by_other ? std::vector<Rows>{scaled} : std::vector<Rows>{{}, scaled};
  }
  if (auto* n = dynamic_cast<generated::MulBackward1*>(node)) return {{rows.first, rows.values * n->other, true}};
  if (auto* n = dynamic_cast<generated::DivBackward1*>(node)) return {{rows.first, rows.values / n->other, true}};
  if (dynamic_cast<generated::NegBackward0*>(node)) return {{rows.first, rows.values.neg(), true}};
  if (dynamic_cast<generated::AddBackward1*>(node) || dynamic_cast<generated::SubBackward1*>(node)) return {rows};
  if (auto* n = dynamic_cast<generated::AddBackward0*>(node)) {
    // From here on, two readers share each of the two.
    rows.own = false;
    std::vector<Rows> both{rows, rows};
    if (!n->alpha.equal(1)) both[1].values = rows.values * n->alpha;
    return both;
  }
  TORCH_CHECK(false, "folded: no rule for ", node->name());
}

// By `f` alone, once the rows of the node's only output are there.
template <class F> Rule rule_of_one(Node* node, F&& f) {
  return [node, f = std::forward<F>(f)](std::vector<Rows> given, const Slice& slice) {
    TORCH_CHECK(given.size() == 1, "folded: ", node->name(), " has several outputs");
    return std::vector<Rows>{f(there(std::move(given[0]), node, 0, slice), slice)};
  };
}

Rule rule_of_view(Node* node, const std::vector<c10::SymInt>& sizes) {
  return rule_of_one(node, [own = ints(sizes)](Rows rows, const Slice& slice) { return reshaped(std::move(rows), own, slice); });
}

// By `map` [O, I] for the node's input number `place`: of unit vectors it is a part of the map itself.
Rule rule_of_product(Node* node, const Tensor& map, size_t place) {
  return [=](std::vector<Rows> given, const Slice& slice) {
    Rows& rows = given[0];
    std::vector<Rows> below(place + 1);
    if (rows.units > 0) {
      below[place] = {rows.first, map.narrow(0, rows.unit, rows.units).unsqueeze(1).expand({rows.units, slice.count, map.size(1)}), false};
    } else {
      TORCH_CHECK(rows.values.dim() == 3, "folded: ", node->name(), " is not of rows");
      below[place] = multiplied(std::move(rows), map);
    }
    return below;
  };
}

Rule rule_of_join(generated::CatBackward0* node) {
  struct Part {
    int64_t dim, start, size;
  };
  std::vector<Part> parts;
  for (size_t i = 0; i < node->num_outputs(); ++i) {
    TORCH_CHECK(node->next_edge(i).function != nullptr, "folded: a constant is joined");
    const auto sizes = sizes_behind(node, i);
    const int64_t dim = node->dim < 0 ? node->dim + static_cast<int64_t>(sizes.size()) : node->dim;
    TORCH_CHECK(dim > 0, "folded: samples are joined");
    parts.push_back({dim, parts.empty() ? 0 : parts.back().start + parts.back().size, sizes[dim]});
  }
  return [=](std::vector<Rows> given, const Slice&) {
    const Rows& rows = given[0];
    std::vector<Rows> below;
    for (const auto& [dim, start, size] : parts) {
      if (rows.units == 0) {
        below.push_back(trimmed({rows.first, rows.values.narrow(dim + 1, start, size), false}));
        continue;
      }
      const int64_t begin = std::max(rows.unit, start), end = std::min(rows.unit + rows.units, start + size);
      below.push_back(begin < end ? units_of(rows.first + begin - rows.unit, begin - start, end - begin) : Rows{});
    }
    return below;
  };
}

}  // namespace

Rule rule_of(Node* node, const std::unordered_map<Node*, int>& consumers) {
  if (auto* n = dynamic_cast<generated::ReluBackward0*>(node)) {
    const Tensor y = n->result_.unpack(n->getptr()).detach();
    const bool later = y.dim() == 4 && reads_alone(node, consumers);
    return rule_of_one(node, [=](Rows rows, const Slice& slice) {
      const Tensor own = slice.part(y);
      if (!later) return kept_where(std::move(rows), own);
      rows.factor = own, rows.masks = true;
      return rows;
    });
  }
  if (auto* n = dynamic_cast<generated::ConvolutionBackward0*>(node)) return rule_of_convolution(n);
  if (auto* n = dynamic_cast<generated::AddmmBackward0*>(node); n != nullptr && n->alpha.equal(1) && n->next_edge(0).function == nullptr) {
    return rule_of_product(node, n->mat2_.unpack().detach().t(), 1);
  }
  if (auto* n = dynamic_cast<generated::MmBackward0*>(node)) return rule_of_product(node, n->mat2_.unpack().detach().t(), 0);
  if (auto* n = dynamic_cast<generated::ViewBackward0*>(node)) return rule_of_view(node, n->self_sym_sizes);
  if (auto* n = dynamic_cast<generated::ReshapeAliasBackward0*>(node)) return rule_of_view(node, n->self_sym_sizes);
  if (auto* n = dynamic_cast<generated::UnsafeViewBackward0*>(node)) return rule_of_view(node, n->self_sym_sizes);
  if (auto* n = dynamic_cast<generated::CatBackward0*>(node)) return rule_of_join(n);
  return [node](std::vector<Rows> given, const Slice& slice) {
    for (size_t i = 0; i < given.size(); ++i) given[i] = there(std::move(given[i]), node, i, slice);
    return apply(node, std::move(given), slice);
  };
}
