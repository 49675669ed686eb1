// The layouts of weights.h, and their cache.
#include "weights.h"

#include "onto.h"
#include "pullback.h"

#include <ATen/ATen.h>
#include <c10/util/intrusive_ptr.h>

#include <map>
#include <mutex>
#include <unordered_map>

namespace {

struct Kept {
  c10::weak_intrusive_ptr<at::TensorImpl> weight;
  // A change in place increases the version; new data in place of the old have another address.
  uint32_t version;
  const void* data;
  std::map<Form, at::Tensor> forms;
};

std::mutex mutex;
// By address; if the address now belongs to another tensor, the weak pointer shows it.
std::unordered_map<const at::TensorImpl*, Kept>& kept() {
  static auto* map = new std::unordered_map<const at::TensorImpl*, Kept>;
  return *map;
}

// Under the lock.
void forget_lost() {
  for (auto it = kept().begin(); it != kept().end();) it = it->second.weight.expired() ? kept().erase(it) : std::next(it);
}

}  // namespace

void forget_lost_weights() {
  std::lock_guard<std::mutex> lock(mutex);
  forget_lost();
}

at::Tensor lay_out(const at::Tensor& weight, const Form& form) {
  if (form.layout == Laid::Phases) return in_phases(weight, {form.height, form.width});
  if (form.layout == Laid::Turned) return weight.t().contiguous();
  const auto end = [](int64_t begin, int64_t count, int64_t all) { return count > all - begin ? all : begin + count; };
  const at::Tensor w = weight.slice(2, form.top, end(form.top, form.height, weight.size(2)))
                           .slice(3, form.left, end(form.left, form.width, weight.size(3)));
  switch (form.layout) {
    case Laid::Columns:
      return w.permute({2, 3, 1, 0}).flatten(0, 2).contiguous();
    case Laid::Rows:
      return w.flatten(1).contiguous();
    case Laid::Panels:
      return in_panels(w);
    default:
      return w.contiguous(at::MemoryFormat::ChannelsLast);
  }
}

at::Tensor laid_out(const at::Tensor& weight, const Form& form) {
  if (weight.is_inference()) return lay_out(weight, form);
  const uint32_t version = weight._version();
  std::lock_guard<std::mutex> lock(mutex);
  auto& map = kept();
  auto found = map.find(weight.unsafeGetTensorImpl());
  if (found != map.end() &&
      (found->second.weight.expired() || found->second.version != version || found->second.data != weight.const_data_ptr())) {
    map.erase(found);
    found = map.end();
  }
  if (found == map.end()) {
    forget_lost();
    Kept fresh{c10::weak_intrusive_ptr<at::TensorImpl>(weight.getIntrusivePtr()), version, weight.const_data_ptr(), {}};
    found = map.emplace(weight.unsafeGetTensorImpl(), std::move(fresh)).first;
  }
  at::Tensor& laid = found->second.forms[form];
  if (!laid.defined()) laid = lay_out(weight.detach(), form);
  return laid;
}

extern "C" void pb_forget_weights() {
  std::lock_guard<std::mutex> lock(mutex);
  kept().clear();
}
