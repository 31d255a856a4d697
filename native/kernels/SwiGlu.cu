// Gated activation over gate_up [T, 2F], gate first: y = silu(gate) ∘ up, silu(g) = g·σ(g), σ(g) = 1 / (1 + exp(−g)).
// Shazeer 2020, arXiv:2002.05202. Backward: dgate = dy ∘ up ∘ (σ + silu·(1 − σ)), dup = dy ∘ silu(gate); σ is computed
// again.
// Parallel: a thread takes eight columns of a row (one where F is no multiple of 8). Floor: bytes, 6 per element
// forward, 10 backward. Rounding: the stores of y, dgate and dup. exp is expf: within 1 ulp.
#include "z1.cuh"

constexpr int kThreads = 128;

struct SwiGluForwardParams {
  const bf16* gate_up;
  bf16* y;
  int columns;
};
static_assert(sizeof(SwiGluForwardParams) == 24, "SwiGlu.ForwardParams in SwiGlu.Cuda.cs");

struct SwiGluBackwardParams {
  const bf16* dy;
  const bf16* gate_up;
  bf16* dgate_up;
  int columns;
};
static_assert(sizeof(SwiGluBackwardParams) == 32, "SwiGlu.BackwardParams in SwiGlu.Cuda.cs");

__device__ __forceinline__ float forward(float gate, float up) { return gate / (1.0f + expf(-gate)) * up; }

struct Gradients {
  float gate, up;
};

__device__ __forceinline__ Gradients backward(float dy, float gate, float up) {
  const float sigma = 1.0f / (1.0f + expf(-gate));
  const float silu = gate * sigma;
  return {dy * up * (silu * (1.0f - sigma) + sigma), dy * silu};
}

// Block (t, y): row t, columns from 8 · y · kThreads (y · kThreads where F is no multiple of 8).
Z1_KERNEL(kThreads, 8, swiglu_forward, SwiGluForwardParams) {
  const int64_t row = blockIdx.x;
  const bf16* gate = p.gate_up + 2 * row * p.columns;
  const bf16* up = gate + p.columns;
  bf16* y = p.y + row * p.columns;
  const int item = int(blockIdx.y) * kThreads + int(threadIdx.x);
  if (p.columns % 8 == 0) {
    if (8 * item >= p.columns) return;
    Vec8 v = Vec8::load_nc(gate + 8 * item);
    const Vec8 u = Vec8::load_nc(up + 8 * item);
    for (int i = 0; i < 8; ++i) v[i] = forward(v[i], u[i]);
    v.store(y + 8 * item);
  } else if (item < p.columns) {
    y[item] = to_bf16(forward(to_float(gate[item]), to_float(up[item])));
  }
}

// dgate_up may be gate_up: a thread reads what it overwrites, and nobody else does.
Z1_KERNEL(kThreads, 8, swiglu_backward, SwiGluBackwardParams) {
  const int64_t row = blockIdx.x;
  const bf16* dy = p.dy + row * p.columns;
  const bf16* gate = p.gate_up + 2 * row * p.columns;
  bf16* dgate = p.dgate_up + 2 * row * p.columns;
  const int item = int(blockIdx.y) * kThreads + int(threadIdx.x);
  if (p.columns % 8 == 0) {
    if (8 * item >= p.columns) return;
    const Vec8 d = Vec8::load_nc(dy + 8 * item);
    Vec8 g = Vec8::load(gate + 8 * item);
    Vec8 u = Vec8::load(gate + p.columns + 8 * item);
    for (int i = 0; i < 8; ++i) {
      const Gradients both = backward(d[i], g[i], u[i]);
      g[i] = both.gate;
      u[i] = both.up;
    }
    g.store(dgate + 8 * item);
    u.store(dgate + p.columns + 8 * item);
  } else if (item < p.columns) {
    const Gradients both = backward(to_float(dy[item]), to_float(gate[item]), to_float(gate[p.columns + item]));
    dgate[item] = to_bf16(both.gate);
    dgate[p.columns + item] = to_bf16(both.up);
  }
}
