// One step of Adam with decoupled weight decay, in the order of torch.optim.AdamW. Loshchilov and Hutter 2017,
// arXiv:1711.05101. With g = gradient · scale: m += (1 − β1)·(g − m); v = β2·v + (1 − β2)·g²;
// p = p·(1 − lr·decay) − lr/(1 − β1^t) · m / (√v/√(1 − β2^t) + eps); weight = p rounded to bf16.
// Parallel: a thread takes eight elements; the last count % 8 go one to a thread. Floor: bytes, 16 read and 14 written
// per element. Rounding: the store of weight, to nearest even or stochastically: up with a probability equal to the
// part cut off, by 16 bits of cut16(key, element), elements counted from first_element where these are part of a tensor.
#include "z1.cuh"

constexpr int kThreads = 256;

struct AdamWStepParams {
  const float* gradient;
  float* master;
  float* m;
  float* v;
  bf16* weight;
  int64_t count;
  int64_t first_element;
  uint64_t key;
  float gradient_scale;
  float keep;
  float one_minus_beta1;
  float beta2;
  float one_minus_beta2;
  float minus_rate;
  float root_scale;
  float epsilon;
  int stochastic;
};
static_assert(sizeof(AdamWStepParams) == 104, "AdamW.StepParams in AdamW.Cuda.cs");

struct Element {
  float p, m, v;
};

__device__ __forceinline__ Element update(const AdamWStepParams& a, float gradient, float p, float m, float v) {
  const float g = gradient * a.gradient_scale;
  m += a.one_minus_beta1 * (g - m);
  v = g * a.one_minus_beta2 * g + v * a.beta2;
  if (a.minus_rate != 0) p = a.minus_rate * (m / (sqrtf(v) * a.root_scale + a.epsilon)) + p * a.keep;
  return {p, m, v};
}

Z1_KERNEL(kThreads, 4, adamw_step, AdamWStepParams) {
  const int64_t thread = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t vectors = p.count / 8;
  if (thread < vectors) {
    const int64_t first = 8 * thread;
    Vec8 weight;
    for (int part = 0; part < 2; ++part) {
      const int64_t at = first + 4 * part;
      const Vec4 g = Vec4::load_nc(p.gradient + at);
      Vec4 master = Vec4::load(p.master + at), m = Vec4::load(p.m + at), v = Vec4::load(p.v + at);
      for (int i = 0; i < 4; ++i) {
        const Element e = update(p, g[i], master[i], m[i], v[i]);
        master[i] = e.p;
        m[i] = e.m;
        v[i] = e.v;
        weight[4 * part + i] = round_bf16(e.p, p.stochastic != 0, p.key, p.first_element + at + i);
      }
      master.store(p.master + at);
      m.store(p.m + at);
      v.store(p.v + at);
    }
    weight.store(p.weight + first);
  } else if (thread - vectors < p.count % 8) {
    const int64_t at = 8 * vectors + (thread - vectors);
    const Element e = update(p, p.gradient[at], p.master[at], p.m[at], p.v[at]);
    p.master[at] = e.p;
    p.m[at] = e.m;
    p.v[at] = e.v;
    p.weight[at] = to_bf16(round_bf16(e.p, p.stochastic != 0, p.key, p.first_element + at));
  }
}
