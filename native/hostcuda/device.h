// Inside of the executor, for the files that implement instructions (warp.cpp, and hopper.cpp on top of it).
//
// Each thread of a block is a fiber; one OS thread runs all of them, one block after another, and a fiber runs until it
// waits. So the code of an instruction is plain sequential code: it may look at anything and change anything until it
// waits.
//   self()                      the fiber that runs: its index in the block, its warp and lane
//   wait_until(reason, f)       lets other fibers run until f() holds; a block in which nobody can go on is a fault
//                               that names `reason` and the threads that wait for it
//   rendezvous(...)             an operation of a whole warp: the lanes leave operands, the last one computes for all
//   release / acquire           what orders memory accesses for the race checks: release(clock) by the thread that
//                               signals, acquire(clock) by the thread that was waiting for it
//   check_read / check_write    the checks of an access that the instruction makes on behalf of the fiber (shadow.h)
//   block_storage<T>()          an object of the instruction's own that lives as long as the block
//   fail(what, site)            ends the launch with a sentence
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "exec.h"
#include "hostcuda.h"

#define HOSTCUDA_TWIN extern "C" __attribute__((visibility("default")))

namespace hostcuda {

constexpr int kWarpLanes = 32, kMaxThreads = 1024, kMaxWarps = kMaxThreads / kWarpLanes, kBarriers = 16;
constexpr uint32_t kReadsPerTurn = 1 << 14;
constexpr int kReaderTurns = 1 << 9;
constexpr size_t kStackBytes = 256 << 10;
// Shared memory is placed between two such inaccessible zones; an address in them is still told as an offset.
constexpr size_t kSharedCapacity = 256 << 10, kSharedZone = 64 << 10;

// How far each warp had come, as far as somebody knows: at[w] = c means that every access of warp w at clock c or
// before is ordered before what follows.
struct Clock {
  uint32_t at[kMaxWarps] = {};
};

// What a fiber waits at (a barrier, a warp operation) or for (an event); `text` is a format of at most two ints.
struct Wait {
  const char* text = nullptr;
  int first = 0, second = 0;
  uintptr_t site = 0;
  bool for_event = false;
};

struct PendingCopy {
  void* to;
  const void* from;  // null: zeros
};

struct Warp;

struct Fiber {
  uintptr_t stack_low = 0;  // own locals: never checked
  size_t stack_bytes = 0;
  uint64_t stamp = 0;       // serial of the block, thread and clock, as shadow.h packs them
  const uint32_t* known = nullptr;  // Clock::at of the warp, or own_known after a synchronisation of this thread alone
  uint32_t reads_in_a_row = 0;      // without a write: a thread that waits for a change in memory only reads
  void* stack_pointer = nullptr;
  Warp* warp = nullptr;
  int index = 0, lane = 0;
  uint3 thread = {};
  bool exited = false;
  Wait wait;
  bool (*ready)(void*) = nullptr;  // of wait_until
  void* ready_argument = nullptr;
  Clock own_known;
  std::vector<PendingCopy> copies;      // of cp.async, oldest first
  std::vector<size_t> copies_of_group;  // of each committed group, oldest first
  size_t open_copies = 0;               // the newest ones, not committed
};

// Operands and results of one lane.
struct alignas(64) WarpSlot {
  uint64_t value;
  uint32_t a[4], b[2];
  float d[4];
  uint32_t row[4];
};

struct Warp {
  int index = 0;
  uint32_t lanes = 0;    // that exist
  uint32_t arrived = 0;  // at the operation under way
  const char* operation = nullptr;
  int operand = 0;
  int parity = 0;        // of operations: lanes that are ahead use the other slots
  bool diverged = false; // some lane has clocks of its own
  Clock known;
  WarpSlot slots[2][kWarpLanes];
};

struct Barrier {
  int expected = 0, arrived = 0;
  Clock clock;
  uint32_t waiting[kMaxWarps] = {};
};

struct BlockObject {
  const void* key;
  void* object;
  void (*destroy)(void*);
};

struct Engine {
  Fiber* self = nullptr;
  uintptr_t shared = 0;
  size_t shared_bytes = 0;
  uintptr_t image_begin = 0, image_bytes = 0;
  uint64_t serial = 0;        // of the block, counted over all launches
  uint64_t first_serial = 0;  // of the launch
  uint3 block_index = {}, block_dim = {}, grid_dim = {};

  const KernelEntry* kernel = nullptr;
  const void* params = nullptr;
  int threads = 0, warps = 0, live = 0;
  uint32_t ready[kMaxWarps] = {};
  uint32_t ready_warps = 0;
  bool reversed = false;  // runs the threads from the last to the first
  bool fenced = false, acquired = false;    // by some thread of this block
  std::vector<bool> released;               // per block of the launch: it published its writes by a fence and an atomic
  Barrier barriers[kBarriers];
  std::vector<Fiber*> polling;   // in wait_until
  std::vector<Fiber*> readers;   // in yield_reading
  int reader_turns = 0;          // given since some thread last waited, went on or ended
  std::vector<BlockObject> objects;
  Fiber* fibers = nullptr;
  Warp* warp = nullptr;
  void* main_stack_pointer = nullptr;
  std::string fault;
  uintptr_t fault_site = 0;
};
extern Engine g_engine;

inline Fiber& self() { return *g_engine.self; }

// Ends the launch: "kernel: block (x,y,z) thread t " + what, and the source line of `site` where it is known.
[[noreturn]] void fail(const std::string& what, uintptr_t site);

// Lets the other fibers run; returns when somebody has called make_ready on this one.
void wait(const Wait& reason);
void make_ready(Fiber& fiber);
// For a fiber that has read kReadsPerTurn times and written nothing: the others go first, since it may be waiting for
// what they write. After kReaderTurns turns of such fibers, nobody else being able to run, it is a wait without end.
void yield_reading(uintptr_t site);

// Waits until predicate(argument) holds. It is evaluated when no fiber can run, with self() the one that waits; it must
// not wait itself.
void wait_until(const Wait& reason, bool (*predicate)(void*), void* argument);
template <class F> void wait_until(const Wait& reason, F predicate) {
  wait_until(reason, [](void* f) -> bool { return (*static_cast<F*>(f))(); }, &predicate);
}

void release(Clock& clock);        // what this thread has done is in the clock; what it does next is not
void acquire(const Clock& clock);  // what is in the clock is ordered before what this thread does next
void order_warp(Warp& warp);       // all lanes with all lanes

std::string describe(const Fiber& fiber);  // "thread 17", or "thread (1,0,3)" in a block of several dimensions

// The object of type T of this block, made at first use and destroyed with the block.
template <class T> T& block_storage() {
  static const char key = 0;
  for (auto& o : g_engine.objects)
    if (o.key == &key) return *static_cast<T*>(o.object);
  g_engine.objects.push_back({&key, new T(), [](void* object) { delete static_cast<T*>(object); }});
  return *static_cast<T*>(g_engine.objects.back().object);
}

// One operation of a whole warp: `fill` leaves this lane's operands, the last lane to arrive calls `compute` on the
// slots of all lanes, and each lane gets its own slot back. `orders` says whether the operation orders memory accesses
// between the lanes.
template <class Fill, class Compute>
WarpSlot& rendezvous(const char* operation, int operand, bool orders, uintptr_t site, Fill fill, Compute compute) {
  Fiber& f = self();
  Warp& w = *f.warp;
  if (w.arrived == 0) {
    w.operation = operation;
    w.operand = operand;
  } else if (w.operation != operation || w.operand != operand) {
    fail(std::string("is at ") + operation + " while other lanes of its warp wait at " + w.operation +
             (w.operation == operation ? " with another operand" : "") + ": divergent warp operation", site);
  }
  WarpSlot* slots = w.slots[w.parity];
  fill(slots[f.lane]);
  w.arrived |= 1u << f.lane;
  if (w.arrived != w.lanes) {
    wait({operation, 0, 0, site});
    return slots[f.lane];
  }
  compute(slots, w.lanes);
  if (orders) order_warp(w);
  w.arrived = 0;
  w.parity ^= 1;
  const uint32_t others = w.lanes & ~(1u << f.lane);
  g_engine.ready[w.index] |= others;
  if (others != 0) g_engine.ready_warps |= 1u << w.index;
  return slots[f.lane];
}

}  // namespace hostcuda
