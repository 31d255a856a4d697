// Instructions of a warp: shuffles, votes, ldmatrix, mma.sync; and the asynchronous copies of one thread. Of these only
// sync_warp orders memory accesses between lanes: the others "do not imply a memory barrier" (CUDA C++ Programming
// Guide, warp shuffle and vote functions).
#include <cstring>

#include "device.h"
#include "shadow.h"

using namespace hostcuda;

#define SITE reinterpret_cast<uintptr_t>(__builtin_return_address(0))

namespace {

typedef float Floats4 __attribute__((vector_size(16)));

float bf16_to_float(uint32_t bits) {
  bits <<= 16;
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

void unpack(uint32_t packed, float* low, float* high) {
  *low = bf16_to_float(packed & 0xffff);
  *high = bf16_to_float(packed >> 16);
}

const char* shuffle_name(HostShuffle kind) {
  switch (kind) {
    case kHostShuffleXor: return "shfl_xor";
    case kHostShuffleDown: return "shfl_down";
    case kHostShuffleUp: return "shfl_up";
    default: return "shfl";
  }
}

}  // namespace

HOSTCUDA_TWIN void hostcuda_sync_warp() noexcept {
  rendezvous("sync_warp", 0, true, SITE, [](WarpSlot&) {}, [](WarpSlot*, uint32_t) {});
}

HOSTCUDA_TWIN uint64_t hostcuda_shuffle(HostShuffle kind, uint64_t value, int operand) noexcept {
  const uintptr_t site = SITE;
  const int lane = self().lane;
  int from = operand & 31;
  if (kind == kHostShuffleXor) from = lane ^ operand;
  if (kind == kHostShuffleDown) from = lane + operand;
  if (kind == kHostShuffleUp) from = lane - operand;
  if (from < 0 || from > 31) from = lane;
  const uint32_t lanes = self().warp->lanes;
  if (!(lanes >> from & 1)) {
    fail("takes a " + std::string(shuffle_name(kind)) + " value from lane " + std::to_string(from) +
             " of a warp that has " + std::to_string(__builtin_popcount(lanes)) + " lanes", site);
  }
  // The slots stay as they are until every lane has come back, see rendezvous.
  WarpSlot* const slots = self().warp->slots[self().warp->parity];
  rendezvous(shuffle_name(kind), 0, false, site, [&](WarpSlot& slot) { slot.value = value; },
             [](WarpSlot*, uint32_t) {});
  return slots[from].value;
}

HOSTCUDA_TWIN uint32_t hostcuda_ballot(bool predicate) noexcept {
  return uint32_t(rendezvous("ballot", 0, false, SITE, [&](WarpSlot& slot) { slot.value = predicate; },
                             [](WarpSlot* slots, uint32_t lanes) {
                               uint64_t votes = 0;
                               for (int i = 0; i < kWarpLanes; i++)
                                 if (lanes >> i & 1) votes |= slots[i].value << i;
                               for (int i = 0; i < kWarpLanes; i++) slots[i].value = votes;
                             }).value);
}

HOSTCUDA_TWIN HostWord4 hostcuda_ldmatrix(int matrices, bool transposed, const void* row) noexcept {
  const uintptr_t site = SITE;
  const char* name = transposed ? "ldmatrix_trans" : "ldmatrix";
  if (self().warp->lanes != ~0u) fail(std::string("is at ") + name + " in a warp that is not whole", site);
  const WarpSlot& slot = rendezvous(
      name, matrices, false, site,
      [&](WarpSlot& mine) {
        if (self().lane >= 8 * matrices) return;
        shared_offset(row, 16, name, site);
        check_read<16>(row, site);
        memcpy(mine.row, row, 16);
      },
      [&](WarpSlot* slots, uint32_t) {
        for (int lane = 0; lane < kWarpLanes; lane++) {
          for (int m = 0; m < matrices; m++) {
            uint16_t element[2];
            for (int k = 0; k < 2; k++) {
              const int r = transposed ? 2 * (lane % 4) + k : lane / 4, c = transposed ? lane / 4 : 2 * (lane % 4) + k;
              memcpy(&element[k], reinterpret_cast<const char*>(slots[8 * m + r].row) + 2 * c, 2);
            }
            slots[lane].a[m] = element[0] | uint32_t(element[1]) << 16;
          }
        }
      });
  HostWord4 fragments{};
  for (int m = 0; m < matrices; m++) fragments.v[m] = slot.a[m];
  return fragments;
}

HOSTCUDA_TWIN HostFloat4 hostcuda_mma_m16n8k16(HostFloat4 d, HostWord4 a, uint32_t b0, uint32_t b1) noexcept {
  const uintptr_t site = SITE;
  if (self().warp->lanes != ~0u) fail("is at mma_m16n8k16 in a warp that is not whole", site);
  const WarpSlot& slot = rendezvous(
      "mma_m16n8k16", 0, false, site,
      [&](WarpSlot& mine) {
        memcpy(mine.d, d.v, sizeof mine.d);
        memcpy(mine.a, a.v, sizeof mine.a);
        mine.b[0] = b0;
        mine.b[1] = b1;
      },
      [](WarpSlot* slots, uint32_t) {
        float left[16][16], right[16][8], sum[16][8];
        for (int lane = 0; lane < kWarpLanes; lane++) {
          const int g = lane / 4, t = 2 * (lane % 4);
          const WarpSlot& s = slots[lane];
          for (int i = 0; i < 4; i++) {
            const int row = g + 8 * (i % 2), column = t + 8 * (i / 2);
            unpack(s.a[i], &left[row][column], &left[row][column + 1]);
            sum[g + 8 * (i / 2)][t + i % 2] = s.d[i];
          }
          for (int i = 0; i < 2; i++) unpack(s.b[i], &right[t + 8 * i][g], &right[t + 8 * i + 1][g]);
        }
        for (int row = 0; row < 16; row++) {
          Floats4 low, high;
          memcpy(&low, &sum[row][0], sizeof low);
          memcpy(&high, &sum[row][4], sizeof high);
          for (int k = 0; k < 16; k++) {
            Floats4 r[2];
            memcpy(r, right[k], sizeof r);
            low += left[row][k] * r[0];
            high += left[row][k] * r[1];
          }
          memcpy(&sum[row][0], &low, sizeof low);
          memcpy(&sum[row][4], &high, sizeof high);
        }
        for (int lane = 0; lane < kWarpLanes; lane++) {
          const int g = lane / 4, t = 2 * (lane % 4);
          for (int i = 0; i < 4; i++) slots[lane].d[i] = sum[g + 8 * (i / 2)][t + i % 2];
        }
      });
  HostFloat4 result;
  memcpy(result.v, slot.d, sizeof result.v);
  return result;
}

HOSTCUDA_TWIN void hostcuda_cp_async_16(void* to, const void* from, bool valid) noexcept {
  const uintptr_t site = SITE;
  Fiber& f = self();
  const size_t offset = shared_offset(to, 16, "cp_async_16", site);
  const auto source = reinterpret_cast<uintptr_t>(from);
  if (valid) {
    if (source - g_engine.shared < g_engine.shared_bytes)
      fail("gives cp_async_16 a source in shared memory", site);
    check_read<16>(from, site);
  }
  check_write<16>(to, site);
  set_in_flight(offset, 16);
  f.copies.push_back({to, valid ? from : nullptr});
  f.open_copies++;
}

HOSTCUDA_TWIN void hostcuda_cp_async_commit() noexcept {
  Fiber& f = self();
  f.copies_of_group.push_back(f.open_copies);
  f.open_copies = 0;
}

HOSTCUDA_TWIN void hostcuda_cp_async_wait(int groups) noexcept {
  const uintptr_t site = SITE;
  Fiber& f = self();
  size_t landed = 0, done = 0;
  while (f.copies_of_group.size() - done > size_t(groups)) {
    for (size_t i = 0; i < f.copies_of_group[done]; i++, landed++) {
      const PendingCopy& c = f.copies[landed];
      land(reinterpret_cast<uintptr_t>(c.to) - g_engine.shared, c.from, 16, site);
    }
    done++;
  }
  f.copies.erase(f.copies.begin(), f.copies.begin() + ptrdiff_t(landed));
  f.copies_of_group.erase(f.copies_of_group.begin(), f.copies_of_group.begin() + ptrdiff_t(done));
}
