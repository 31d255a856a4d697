// One kernel for each fault that hostcuda reports (HostCudaFaultTests.cs). With p.planted 0 the same kernel is correct,
// and must pass. p.data has p.count ints, p.other 1024 zeros.
#include "z1.cuh"

struct FaultParams { int* data; int* other; int count; int planted; };
static_assert(sizeof(FaultParams) == 24, "same layout as FaultParams in HostCudaFaultTests.cs");

struct Words { int word[1024]; };
struct Tile { alignas(16) bf16 row[32][64]; };

Z1_KERNEL(1024, 1, fault_global_read, FaultParams) {
  if (threadIdx.x == 5) p.other[0] = p.data[p.planted ? p.count + 2 : p.count - 1];
}

Z1_KERNEL(1024, 1, fault_global_write, FaultParams) {
  if (threadIdx.x == 5) p.data[p.planted ? p.count : p.count - 1] = 1;
}

Z1_KERNEL(1024, 1, fault_global_before, FaultParams) {
  if (threadIdx.x == 0) p.other[0] = p.data[p.planted ? -2 : 0];
}

Z1_KERNEL(1024, 1, fault_vector_partly_outside, FaultParams) {
  if (threadIdx.x == 0) ptx::store_16(p.data + (p.planted ? p.count / 4 * 4 : 0), uint4{1, 2, 3, 4});
}

// The planted pointer is one that the host has freed.
Z1_KERNEL(1024, 1, fault_freed_memory, FaultParams) {
  if (threadIdx.x == 0) p.other[0] = p.data[1];
}

Z1_KERNEL(1024, 1, fault_no_memory, FaultParams) {
  const int* nowhere = reinterpret_cast<const int*>(uintptr_t(64));
  if (threadIdx.x == 0) p.other[0] = *(p.planted ? nowhere : p.data);
}

Z1_KERNEL(1024, 1, fault_misaligned_vector, FaultParams) {
  if (threadIdx.x == 0) p.other[0] = int(ptx::load_16(p.data + (p.planted ? 1 : 0)).x);
}

Z1_KERNEL(1024, 1, fault_misaligned_word, FaultParams) {
  const char* bytes = reinterpret_cast<const char*>(p.data) + (p.planted ? 2 : 4);
  if (threadIdx.x == 0) p.other[0] = *reinterpret_cast<const int*>(bytes);
}

Z1_KERNEL(1024, 1, fault_shared_bounds, FaultParams) {
  auto& s = *shared_memory<Words>();
  if (threadIdx.x == 1) s.word[p.planted ? 1024 : 1023] = 3;
}

Z1_KERNEL(1024, 1, fault_shared_uninitialised, FaultParams) {
  auto& s = *shared_memory<Words>();
  if (int(threadIdx.x) < int(blockDim.x) - p.planted) s.word[threadIdx.x] = 1;
  ptx::sync_threads();
  if (threadIdx.x == 0) p.other[0] = s.word[blockDim.x - 1];
}

Z1_KERNEL(1024, 1, fault_race_write_write, FaultParams) {
  auto& s = *shared_memory<Words>();
  s.word[p.planted ? threadIdx.x / 64 : threadIdx.x] = int(threadIdx.x);
}

Z1_KERNEL(1024, 1, fault_race_read_write, FaultParams) {
  auto& s = *shared_memory<Words>();
  s.word[threadIdx.x] = 0;
  ptx::sync_threads();
  s.word[threadIdx.x] = int(threadIdx.x);
  if (!p.planted) ptx::sync_threads();
  p.data[threadIdx.x] = s.word[(threadIdx.x + 1) % blockDim.x];
}

// The barrier that is left out stands between the reads of the others and the next write.
Z1_KERNEL(1024, 1, fault_race_write_after_read, FaultParams) {
  auto& s = *shared_memory<Words>();
  s.word[threadIdx.x] = int(threadIdx.x);
  ptx::sync_threads();
  const int next = s.word[(threadIdx.x + 33) % blockDim.x];
  if (!p.planted) ptx::sync_threads();
  s.word[threadIdx.x] = next;
}

Z1_KERNEL(1024, 1, fault_race_global, FaultParams) {
  p.data[threadIdx.x] = int(threadIdx.x);
  if (!p.planted) ptx::sync_threads();
  if (threadIdx.x == 0) p.other[0] = p.data[blockDim.x - 1];
}

Z1_KERNEL(1024, 1, fault_missing_sync_warp, FaultParams) {
  auto& s = *shared_memory<Words>();
  s.word[threadIdx.x] = 0;
  ptx::sync_threads();
  s.word[threadIdx.x] = int(threadIdx.x);
  if (!p.planted) ptx::sync_warp();
  p.data[threadIdx.x] = s.word[threadIdx.x ^ 1];
}

// A shuffle makes the lanes meet and does not order their memory accesses.
Z1_KERNEL(1024, 1, fault_shuffle_for_barrier, FaultParams) {
  auto& s = *shared_memory<Words>();
  s.word[threadIdx.x] = 0;
  ptx::sync_threads();
  s.word[threadIdx.x] = int(threadIdx.x);
  const int mine = ptx::shfl_xor(int(threadIdx.x), 1);
  if (!p.planted) ptx::sync_warp();
  p.data[threadIdx.x] = mine + s.word[threadIdx.x ^ 1];
}

// A struct that is copied as a whole is checked as a whole.
struct Large { int word[25]; };
Z1_KERNEL(1024, 1, fault_struct_copy, FaultParams) {
  const Large* large = reinterpret_cast<const Large*>(p.data);
  if (threadIdx.x == 0) *reinterpret_cast<Large*>(p.other) = large[p.planted ? p.count / 25 : 0];
}

Z1_KERNEL(1024, 1, fault_divergent_barrier, FaultParams) {
  if (p.planted && threadIdx.x + blockDim.x * threadIdx.y >= 48) return;
  ptx::sync_threads();
}

Z1_KERNEL(1024, 1, fault_two_barriers, FaultParams) {
  if (p.planted && threadIdx.x < 32) ptx::bar_sync(1, 64);
  else ptx::sync_threads();
}

Z1_KERNEL(1024, 1, fault_barrier_count, FaultParams) {
  ptx::bar_sync(3, p.planted && threadIdx.x >= 32 ? 32 : int(blockDim.x));
}

Z1_KERNEL(1024, 1, fault_divergent_shuffle, FaultParams) {
  if (p.planted && threadIdx.x % kWarp == 7) return;
  p.data[threadIdx.x] = ptx::shfl_xor(int(threadIdx.x), 1);
}

Z1_KERNEL(1024, 1, fault_mixed_warp_operations, FaultParams) {
  if (p.planted && threadIdx.x % kWarp == 7) ptx::sync_warp();
  else p.data[threadIdx.x] = ptx::shfl_xor(int(threadIdx.x), 1);
}

Z1_KERNEL(1024, 1, fault_missing_lane, FaultParams) {
  p.data[threadIdx.x] = ptx::shfl_xor(int(threadIdx.x), p.planted ? 16 : 8);
}

Z1_KERNEL(1024, 1, fault_missing_copy_wait, FaultParams) {
  auto& s = *shared_memory<Words>();
  ptx::cp_async_16(&s.word[4 * threadIdx.x], p.data + 4 * threadIdx.x);
  ptx::cp_async_commit();
  if (!p.planted) ptx::cp_async_wait<0>();
  p.other[threadIdx.x] = s.word[4 * threadIdx.x];
}

Z1_KERNEL(1024, 1, fault_missing_copy_barrier, FaultParams) {
  auto& s = *shared_memory<Words>();
  ptx::cp_async_16(&s.word[4 * threadIdx.x], p.data + 4 * threadIdx.x);
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  if (!p.planted) ptx::sync_threads();
  if (threadIdx.x > 0) p.other[threadIdx.x] = s.word[4 * (threadIdx.x - 1)];
}

// ldmatrix does not order memory: the rows that other lanes wrote need a barrier first.
Z1_KERNEL(1024, 1, fault_missing_ldmatrix_barrier, FaultParams) {
  auto& s = *shared_memory<Tile>();
  ptx::store_16(&s.row[threadIdx.x][0], uint4{0, 0, 0, 0});
  ptx::sync_warp();
  ptx::store_16(&s.row[threadIdx.x ^ 1][0], uint4{1, 2, 3, 4});
  if (!p.planted) ptx::sync_warp();
  uint32_t r[4];
  ptx::ldmatrix_x4(r, &s.row[threadIdx.x][0]);
  p.data[threadIdx.x] = int(r[0]);
}

Z1_KERNEL(1024, 1, fault_blocks_write, FaultParams) {
  if (threadIdx.x == 0) p.data[p.planted ? 3 : blockIdx.x] = 1;
}

Z1_KERNEL(1024, 1, fault_blocks_read, FaultParams) {
  p.data[blockIdx.x * blockDim.x + threadIdx.x] = 1;
  if (p.planted && blockIdx.x == 1) p.other[0] = p.data[0];
}

// The last block adds up what all wrote: right only with the fence before the count.
Z1_KERNEL(1024, 1, fault_missing_fence, FaultParams) {
  auto& s = *shared_memory<Words>();
  if (threadIdx.x == 0) {
    p.data[blockIdx.x] = int(blockIdx.x) + 1;
    if (!p.planted) ptx::thread_fence();
    s.word[0] = ptx::atomic_add(p.other, 1);
  }
  ptx::sync_threads();
  if (s.word[0] == int(gridDim.x) - 1 && threadIdx.x == 0) {
    int sum = 0;
    for (unsigned i = 0; i < gridDim.x; ++i) sum += p.data[i];
    p.other[1] = sum;
  }
}

// Thread 0 waits for a flag that thread 40 sets.
Z1_KERNEL(1024, 1, fault_endless_wait, FaultParams) {
  if (threadIdx.x == 0) {
    while (ptx::atomic_add(p.other, 0) == 0) {}
  }
  if (threadIdx.x == 40 && !p.planted) ptx::atomic_add(p.other, 1);
}

static __device__ int of_the_module = 1;
Z1_KERNEL(1024, 1, fault_module_data, FaultParams) {
  p.data[threadIdx.x] = of_the_module;
  if (p.planted && threadIdx.x == 2) of_the_module = p.data[2];
}
