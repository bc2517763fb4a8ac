// The operations of kernels/functors.cuh for the passes: the GPU's own formulas in plain loops. The header wants a few of
// CUDA's words; what only a GPU can do is declared here and never called.
#pragma once

#include <cmath>
#include <cstring>

#define __device__
#define __shared__ static thread_local
#define __syncthreads() ((void)0)
#define __threadfence() ((void)0)

namespace gb::cuda {

using std::copysign, std::fabs, std::fmod, std::hypot, std::pow, std::sqrt, std::exp, std::expm1, std::log, std::log1p;
using std::memcpy;

struct Position {
    unsigned x, y, z;
};
extern const Position threadIdx, blockIdx, blockDim, gridDim;
unsigned __shfl_sync(unsigned, unsigned, int), __shfl_down_sync(unsigned, unsigned, int);
unsigned atomicInc(unsigned*, unsigned);
unsigned long long atomicCAS(unsigned long long*, unsigned long long, unsigned long long);
unsigned long long __umul64hi(unsigned long long, unsigned long long);
float __int_as_float(int);
double __longlong_as_double(long long);

#include "../functors.cuh"

}  // namespace gb::cuda

#undef __device__
#undef __shared__
#undef __syncthreads
#undef __threadfence
