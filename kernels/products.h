// Products of small matrices on a CPU.
#pragma once
#include <ATen/core/Tensor.h>

// A A^T of rows A [B, P, D] in f32, to [B, P, P] in double. Each number is summed in one order, however many samples there are.
void gram_into(const at::Tensor& rows, double* to);
