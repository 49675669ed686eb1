// Recurrent layers of TorchScript.
#pragma once

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>
#include <torch/csrc/jit/ir/ir.h>

// What tracing makes of torch's own recurrent layers becomes what they are. It loses their check of the input, without which libtorch reads
// and writes beyond its memory where a sequence has more axes than three; that is checked again at each call. And it records the kind and the
// device of the zeros that they begin with, which become those that the model has here.
void mend_recurrent(torch::jit::Block* block, at::ScalarType kind, at::Device device);
