// libtorch's fused Adam, which tch does not bind.
#include "protect.h"
#include "pullback.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <vector>

namespace {

const at::Tensor& tensor(const void* p) { return *static_cast<const at::Tensor*>(p); }

std::vector<at::Tensor> list(void** p, int64_t n) {
  std::vector<at::Tensor> v;
  v.reserve(n);
  for (int64_t i = 0; i < n; ++i) v.push_back(tensor(p[i]));
  return v;
}

}  // namespace

extern "C" {

const char* pb_fused_adam(void** params, void** grads, void** exp_avgs, void** exp_avg_sqs, void** steps, int64_t n,
                          const void* lr, double beta1, double beta2, double weight_decay, double eps) {
  return protect([&] {
    at::NoGradGuard no_grad;
    auto p = list(params, n), g = list(grads, n), m = list(exp_avgs, n), v = list(exp_avg_sqs, n), s = list(steps, n);
    // The operator expects each step count after its increase, as in torch.optim.
    at::_foreach_add_(s, 1);
    at::_fused_adam_(p, g, m, v, /*max_exp_avg_sqs=*/{}, s, tensor(lr), beta1, beta2, weight_decay, eps, /*amsgrad=*/false,
                     /*maximize=*/false);
    // The operator changes the parameters without saying so, and what is kept for a weight (weights.h) knows a change by its version.
    for (const auto& t : p) t.unsafeGetTensorImpl()->bump_version();
  });
}

const char* pb_changed(void** tensors, int64_t n) {
  return protect([&] {
    for (const auto& t : list(tensors, n)) t.unsafeGetTensorImpl()->bump_version();
  });
}
}
