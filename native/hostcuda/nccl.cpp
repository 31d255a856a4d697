// The part of NCCL that Runtime imports, between processes of one host that all use hostcuda. A communicator may be
// non-blocking, an operation waits on a thread of its stream, sums are added in rank order in fp32 (fp64 for doubles)
// and rounded once, the largest follows fmax, which drops a NaN, as NCCL does. Beyond NCCL: every rank must take part
// in a group of sends and receives, and operations that differ between ranks are named instead of hanging.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "driver.h"
#include "memory.h"
#include "nccl_segment.h"

namespace {

using hostcuda::nccl::Call;
using hostcuda::nccl::kMaxRanks;
using hostcuda::nccl::kPieceBytes;
using hostcuda::nccl::Segment;
using hostcuda::nccl::Ticket;

// values of ncclResult_t
enum Status : int {
  kSuccess = 0,
  kUnhandledCudaError = 1,
  kSystemError = 2,
  kInternalError = 3,
  kInvalidArgument = 4,
  kInvalidUsage = 5,
  kRemoteError = 6,
  kInProgress = 7,
};

// values of ncclDataType_t and ncclRedOp_t
enum Type : int { kInt8, kUint8, kInt32, kUint32, kInt64, kUint64, kHalf, kFloat, kDouble, kBFloat16, kTypes };
enum Reduction : int { kSum = 0, kMax = 2 };

constexpr size_t kTypeBytes[kTypes] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2};
constexpr const char* kTypeNames[kTypes] = {"int8",   "uint8",   "int32",   "uint32",  "int64",
                                            "uint64", "float16", "float32", "float64", "bfloat16"};

enum Kind : int { kAllReduce, kReduceScatter, kAllGather, kBroadcast, kGroup, kSplit };
constexpr const char* kKindNames[] = {"ncclAllReduce", "ncclReduceScatter",     "ncclAllGather",
                                      "ncclBroadcast", "ncclSend and ncclRecv", "ncclCommSplit"};

constexpr int kDefaultVersion = 21805;
constexpr unsigned kConfigMagic = 0xcafebeef;
constexpr size_t kConfigBytes = 24;  // of ncclConfig_v21400; later ones only add to it

struct UniqueId {
  char bytes[128];
};

struct Config {
  size_t size;
  unsigned magic, version;
  int blocking;
};

struct Communicator {
  Segment segment;
  std::atomic<bool> abort{false};
  std::atomic<int> progress{0};  // what runs in the background: init, split, operations once finalized
  std::atomic<int> pending{0};   // operations that have not ended
  std::atomic<bool> finalized{false};
  std::mutex mutex;  // one operation at a time, and guards error and text
  Status error = kSuccess;
  std::string text;
  uint64_t sequence = 0;
  bool blocking = true;
  void* stream = nullptr;  // of the last operation

  void fail(Status status, const std::string& why) {
    if (error != kSuccess) return;
    error = status;
    text = why;
  }
};

using Shared = std::shared_ptr<Communicator>;

struct Registry {
  std::mutex mutex;
  std::unordered_map<const void*, Shared> all;
};

Registry& registry() {
  static auto* r = new Registry;
  return *r;
}

thread_local std::string t_error;

Status refuse(Status status, const std::string& why) {
  t_error = why;
  return status;
}

Shared find(void* handle) {
  auto& r = registry();
  std::lock_guard lock(r.mutex);
  auto found = r.all.find(handle);
  return found == r.all.end() ? nullptr : found->second;
}

void add(const Shared& c) {
  auto& r = registry();
  std::lock_guard lock(r.mutex);
  r.all[c.get()] = c;
  hostcuda::add_handle(c.get(), hostcuda::Kind::kOther);
}

Shared take(void* handle) {
  auto& r = registry();
  std::lock_guard lock(r.mutex);
  auto found = r.all.find(handle);
  if (found == r.all.end()) return nullptr;
  auto c = found->second;
  r.all.erase(found);
  hostcuda::remove_handle(handle, hostcuda::Kind::kOther);
  return c;
}

// What a call says before it does anything: an injected ncclResult_t as it is; the device's sticky error as a CUDA
// error.
int enter(const char* function) {
  const int error = hostcuda::enter(function);
  if (error != 0) t_error = std::string(function) + " fails by injection or by the fault of the device";
  return error >= hostcuda::kNoDevice ? kUnhandledCudaError : error;
}

int enter_release(const char* function) {
  const int error = hostcuda::enter_release(function);
  return error >= hostcuda::kNoDevice ? kUnhandledCudaError : error;
}

int version() {
  const char* text = getenv("Z1_HOSTCUDA_NCCL_VERSION");
  const int otherwise = text != nullptr && *text != 0 ? atoi(text) : kDefaultVersion;
  return static_cast<int>(hostcuda::pretended("nccl_version", otherwise));
}

// ── sums ──

float from_bf16(uint16_t bits) {
  const uint32_t wide = uint32_t(bits) << 16;
  float value;
  memcpy(&value, &wide, 4);
  return value;
}

uint16_t to_bf16(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  if ((bits & 0x7FFFFFFF) > 0x7F800000) return static_cast<uint16_t>((bits >> 16) | 0x40);
  return static_cast<uint16_t>((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
}

template <typename T, typename Wide, typename Load, typename Store>
void reduce(char* to, const std::vector<const char*>& from, size_t count, int reduction, Load load, Store store) {
  for (size_t i = 0; i < count; i++) {
    auto at = [&](size_t r) {
      T stored;
      memcpy(&stored, from[r] + i * sizeof(T), sizeof(T));
      return load(stored);
    };
    Wide value = at(0);
    for (size_t r = 1; r < from.size(); r++) value = reduction == kSum ? value + at(r) : std::fmax(value, at(r));
    const T stored = store(value);
    memcpy(to + i * sizeof(T), &stored, sizeof(T));
  }
}

void reduce(char* to, const std::vector<const char*>& from, size_t count, int type, int reduction) {
  auto same = [](auto v) { return v; };
  if (type == kFloat) reduce<float, float>(to, from, count, reduction, same, same);
  if (type == kDouble) reduce<double, double>(to, from, count, reduction, same, same);
  if (type == kBFloat16) reduce<uint16_t, float>(to, from, count, reduction, from_bf16, to_bf16);
}

// ── operations ──

struct Transfer {
  int peer;
  char* buffer;
  size_t bytes;
};

struct Operation {
  Kind kind;
  int type = kUint8, reduction = kSum, root = 0;
  size_t count = 0;  // elements: of the buffer, or of one rank's part
  const char* from = nullptr;
  char* to = nullptr;
  std::vector<Transfer> sends, receives;
};

std::string describe(const Call& c) {
  std::string text = kKindNames[c.kind];
  if (c.kind == kGroup || c.kind == kSplit) return text;
  text += "(count " + std::to_string(c.count) + ", " + kTypeNames[c.type];
  if (c.kind == kAllReduce || c.kind == kReduceScatter) text += c.reduction == kSum ? ", sum" : ", max";
  if (c.kind == kBroadcast) text += ", root " + std::to_string(c.root);
  return text + ")";
}

bool same(const Call& a, const Call& b) {
  return a.kind == b.kind && a.type == b.type && a.reduction == b.reduction && a.root == b.root && a.count == b.count;
}

class Run {
 public:
  Run(Communicator& c, const Operation& o) : c_(c), s_(c.segment), o_(o), me_(s_.rank()), n_(s_.ranks()) {}

  void run() {
    if (c_.error != kSuccess || !announce()) return;
    switch (o_.kind) {
      case kAllReduce: all_reduce(); break;
      case kReduceScatter: reduce_scatter(); break;
      case kAllGather: all_gather(); break;
      case kBroadcast: broadcast(); break;
      case kGroup: exchange(); break;
      case kSplit: break;
    }
  }

  // Every rank says what it has called; false when they differ or somebody does not come.
  bool announce() {
    Call& mine = s_.slot(me_).call;
    mine = {};
    mine.kind = o_.kind;
    mine.type = o_.type;
    mine.reduction = o_.reduction;
    mine.root = o_.root;
    mine.count = o_.count;
    mine.sequence = ++c_.sequence;
    for (auto& t : o_.sends) mine.send[t.peer] = t.bytes;
    for (auto& t : o_.receives) mine.receive[t.peer] = t.bytes;
    if (!meet()) return false;
    const auto at = "at operation " + std::to_string(c_.sequence) + " ";
    for (int r = 0; r < n_; r++) {
      const Call& other = s_.slot(r).call;
      if (!same(mine, other)) {
        c_.fail(kInvalidUsage, at + "rank " + std::to_string(me_) + " called " + describe(mine) + ", rank " +
                                   std::to_string(r) + " " + describe(other));
        return false;
      }
      if (o_.kind != kGroup) continue;
      if (mine.send[r] != other.receive[me_] || mine.receive[r] != other.send[me_]) {
        c_.fail(kInvalidUsage,
                at + "rank " + std::to_string(me_) + " sends " + std::to_string(mine.send[r]) + " bytes to rank " +
                    std::to_string(r) + " and awaits " + std::to_string(mine.receive[r]) + ", which awaits " +
                    std::to_string(other.receive[me_]) + " and sends " + std::to_string(other.send[me_]));
        return false;
      }
    }
    return true;
  }

  bool meet() {
    auto why = s_.barrier(c_.abort);
    if (why.empty()) return true;
    c_.fail(kRemoteError,
            why + ", awaited at operation " + std::to_string(c_.sequence) + ", " + describe(s_.slot(me_).call));
    return false;
  }

 private:
  size_t width() const { return kTypeBytes[o_.type]; }

  std::vector<const char*> all_in(size_t offset) {
    std::vector<const char*> from;
    for (int r = 0; r < n_; r++) from.push_back(s_.in(r) + offset);
    return from;
  }

  // Elements [begin, end) of a piece that this rank reduces.
  std::pair<size_t, size_t> share(int rank, size_t count) const { return {count * rank / n_, count * (rank + 1) / n_}; }

  void all_reduce() {
    const size_t most = kPieceBytes / width();
    for (size_t done = 0; done < o_.count; done += most) {
      const size_t count = std::min(most, o_.count - done), bytes = count * width();
      memcpy(s_.in(me_), o_.from + done * width(), bytes);
      if (!meet()) return;
      const auto [begin, end] = share(me_, count);
      reduce(s_.out(me_) + begin * width(), all_in(begin * width()), end - begin, o_.type, o_.reduction);
      if (!meet()) return;
      for (int r = 0; r < n_; r++) {
        const auto [first, last] = share(r, count);
        memcpy(o_.to + (done + first) * width(), s_.out(r) + first * width(), (last - first) * width());
      }
    }
  }

  void reduce_scatter() {
    const size_t most = kPieceBytes / width() / n_;
    for (size_t done = 0; done < o_.count; done += most) {
      const size_t count = std::min(most, o_.count - done);
      for (int r = 0; r < n_; r++)
        memcpy(s_.in(me_) + r * most * width(), o_.from + (r * o_.count + done) * width(), count * width());
      if (!meet()) return;
      reduce(o_.to + done * width(), all_in(me_ * most * width()), count, o_.type, o_.reduction);
      if (!meet()) return;
    }
  }

  void all_gather() {
    const size_t most = kPieceBytes / width();
    for (size_t done = 0; done < o_.count; done += most) {
      const size_t count = std::min(most, o_.count - done);
      memcpy(s_.in(me_), o_.from + done * width(), count * width());
      if (!meet()) return;
      for (int r = 0; r < n_; r++) memcpy(o_.to + (r * o_.count + done) * width(), s_.in(r), count * width());
      if (!meet()) return;
    }
  }

  void broadcast() {
    const size_t most = kPieceBytes / width();
    for (size_t done = 0; done < o_.count; done += most) {
      const size_t count = std::min(most, o_.count - done);
      if (me_ == o_.root) memcpy(s_.in(me_), o_.from + done * width(), count * width());
      if (!meet()) return;
      memmove(o_.to + done * width(), s_.in(o_.root), count * width());
      if (!meet()) return;
    }
  }

  void exchange() {
    const size_t most = kPieceBytes / n_;
    size_t longest = 0;
    for (int r = 0; r < n_; r++)
      longest = std::max(longest, *std::max_element(s_.slot(r).call.send, s_.slot(r).call.send + n_));
    for (size_t done = 0; done < longest; done += most) {
      auto part = [&](const Transfer& t) { return t.bytes <= done ? 0 : std::min(most, t.bytes - done); };
      for (auto& t : o_.sends) memcpy(s_.in(me_) + t.peer * most, t.buffer + done, part(t));
      if (!meet()) return;
      for (auto& t : o_.receives) memcpy(t.buffer + done, s_.in(t.peer) + me_ * most, part(t));
      if (!meet()) return;
    }
  }

  Communicator& c_;
  Segment& s_;
  const Operation& o_;
  const int me_, n_;
};

bool is_device_memory(const void* address, size_t bytes) {
  hostcuda::Allocation a;
  const auto at = reinterpret_cast<uintptr_t>(address);
  return bytes == 0 || (hostcuda::find_allocation(at, &a) && a.live && at >= a.begin && bytes <= a.bytes &&
                        at - a.begin <= a.bytes - bytes);
}

bool overlap(const char* a, size_t a_bytes, const char* b, size_t b_bytes) {
  return a < b + b_bytes && b < a + a_bytes;
}

int check_buffers(const Shared& c, const Operation& o) {
  if (o.type < 0 || o.type >= kTypes)
    return refuse(kInvalidArgument, "there is no data type " + std::to_string(o.type));
  const size_t part = o.count * kTypeBytes[o.type], whole = part * c->segment.ranks();
  const bool reduces = o.kind == kAllReduce || o.kind == kReduceScatter;
  if (reduces && o.type != kFloat && o.type != kDouble && o.type != kBFloat16) {
    return refuse(kInvalidArgument, std::string("hostcuda does not reduce ") + kTypeNames[o.type]);
  }
  if (reduces && o.reduction != kSum && o.reduction != kMax)
    return refuse(kInvalidArgument, "hostcuda has sum and max only");
  if (o.kind == kBroadcast && (o.root < 0 || o.root >= c->segment.ranks()))
    return refuse(kInvalidArgument, "there is no such root");
  const size_t from = o.kind == kReduceScatter ? whole : part, to = o.kind == kAllGather ? whole : part;
  const bool reads = o.kind != kBroadcast || c->segment.rank() == o.root;
  if ((reads && !is_device_memory(o.from, from)) || !is_device_memory(o.to, to)) {
    return refuse(kInvalidArgument,
                  std::string(kKindNames[o.kind]) + ": a buffer is no device memory, or ends behind its allocation");
  }
  const size_t mine = part * c->segment.rank();
  const bool in_place = o.kind == kReduceScatter ? o.to == o.from + mine
                        : o.kind == kAllGather   ? o.from == o.to + mine
                                                 : o.from == o.to;
  if (reads && !in_place && overlap(o.from, from, o.to, to)) {
    return refuse(kInvalidArgument, std::string(kKindNames[o.kind]) + ": the buffers overlap, and not as in place");
  }
  return kSuccess;
}

int enqueue(const Shared& c, std::shared_ptr<Operation> o, void* stream) {
  if (c->finalized) return refuse(kInvalidUsage, "the communicator is finalized");
  if (c->progress != 0) return refuse(kInvalidUsage, "the communicator is not ready");
  {
    std::unique_lock lock(c->mutex, std::try_to_lock);  // taken: an operation is under way, and has not failed yet
    if (lock && c->error != kSuccess) return refuse(c->error, c->text);
  }
  c->pending++;
  c->stream = stream;
  const auto error = hostcuda::submit_waiting(stream, [c, o] {
    {
      std::lock_guard lock(c->mutex);
      Run(*c, *o).run();
    }
    c->pending--;
  });
  if (error == hostcuda::kSuccess) return kSuccess;
  c->pending--;
  return refuse(error == hostcuda::kCaptureUnsupported ? kInvalidUsage : kInvalidArgument,
                error == hostcuda::kCaptureUnsupported ? "hostcuda does not capture collectives" : "no such stream");
}

// An operation on one buffer of each rank.
Operation whole(Kind kind, const void* from, void* to, size_t count, int type, int reduction = kSum, int root = 0) {
  return {.kind = kind,
          .type = type,
          .reduction = reduction,
          .root = root,
          .count = count,
          .from = static_cast<const char*>(from),
          .to = static_cast<char*>(to),
          .sends = {},
          .receives = {}};
}

int collective(const char* function, void* comm, Operation o, void* stream) {
  if (int error = enter(function)) return error;
  auto c = find(comm);
  if (c == nullptr) return refuse(kInvalidArgument, "no such communicator");
  if (int error = check_buffers(c, o)) return error;
  return enqueue(c, std::make_shared<Operation>(std::move(o)), stream);
}

// ── groups ──

struct PendingGroup {
  Shared communicator;
  void* stream;
  std::shared_ptr<Operation> operation;
};

thread_local int t_depth = 0;
thread_local std::vector<PendingGroup> t_groups;

int transfer(const char* function, bool sends, void* buffer, size_t count, int type, int peer, void* comm,
             void* stream) {
  if (int error = enter(function)) return error;
  auto c = find(comm);
  if (c == nullptr) return refuse(kInvalidArgument, "no such communicator");
  if (t_depth == 0) return refuse(kInvalidUsage, std::string(function) + " outside ncclGroupStart and ncclGroupEnd");
  if (type < 0 || type >= kTypes || peer < 0 || peer >= c->segment.ranks())
    return refuse(kInvalidArgument, "no such type or peer");
  const size_t bytes = count * kTypeBytes[type];
  if (!is_device_memory(buffer, bytes)) {
    return refuse(kInvalidArgument,
                  std::string(function) + ": the buffer is no device memory, or ends behind its allocation");
  }
  auto at = std::find_if(t_groups.begin(), t_groups.end(),
                         [&](auto& g) { return g.communicator == c && g.stream == stream; });
  if (at == t_groups.end()) {
    auto made = std::make_shared<Operation>();
    made->kind = kGroup;
    t_groups.push_back({c, stream, made});
    at = t_groups.end() - 1;
  }
  auto& list = sends ? at->operation->sends : at->operation->receives;
  for (auto& t : list)
    if (t.peer == peer) return refuse(kInvalidUsage, "hostcuda has one send and one receive per peer and group");
  list.push_back({peer, static_cast<char*>(buffer), bytes});
  return kSuccess;
}

// ── making communicators ──

// Joins in the background when the communicator is not blocking.
int begin(const Shared& c, std::function<void()> work) {
  c->progress++;
  auto whole = [c, work = std::move(work)] {
    {
      std::lock_guard lock(c->mutex);
      work();
    }
    c->progress--;
  };
  if (!c->blocking) {
    std::thread(whole).detach();
    return kInProgress;
  }
  whole();
  return c->error == kSuccess ? kSuccess : refuse(c->error, c->text);
}

void join(Communicator& c, const Ticket& ticket, int ranks, int rank) {
  auto why = c.segment.join(ticket, ranks, rank);
  if (!why.empty()) return c.fail(kInvalidArgument, why);
  why = c.segment.wait_joined(c.abort);
  hostcuda::nccl::release(ticket);
  if (!why.empty()) c.fail(kRemoteError, why);
}

int init(void** comm, int ranks, const UniqueId& id, int rank, bool blocking) {
  if (comm == nullptr || ranks < 1 || rank < 0 || rank >= ranks) {
    return refuse(kInvalidArgument,
                  "rank " + std::to_string(rank) + " of " + std::to_string(ranks) + " is not possible");
  }
  if (!hostcuda::context_is_current()) return refuse(kUnhandledCudaError, "no context is current");
  Ticket ticket;
  memcpy(&ticket, id.bytes, sizeof ticket);
  auto c = std::make_shared<Communicator>();
  c->blocking = blocking;
  add(c);
  *comm = c.get();
  const int result = begin(c, [c = c.get(), ticket, ranks, rank] { join(*c, ticket, ranks, rank); });
  if (result != kSuccess && result != kInProgress) {
    take(*comm);
    *comm = nullptr;
  }
  return result;
}

// Meets the other ranks of the parent, tells colour, key and, as the first of a colour, the id, and joins the ranks of
// the same colour.
void split(Communicator& parent, Communicator& child, int colour, int key) {
  Segment& s = parent.segment;
  Operation o{};
  o.kind = kSplit;
  Run run(parent, o);
  if (parent.error != kSuccess || !run.announce()) return child.fail(parent.error, parent.text);
  auto& mine = s.slot(s.rank()).note;
  mine[0] = colour;
  mine[1] = key;
  if (!run.meet()) return child.fail(parent.error, parent.text);
  std::vector<int> members;
  for (int r = 0; r < s.ranks(); r++)
    if (s.slot(r).note[0] == colour) members.push_back(r);
  std::stable_sort(members.begin(), members.end(), [&](int a, int b) { return s.slot(a).note[1] < s.slot(b).note[1]; });
  Ticket ticket{};
  if (colour >= 0 && members[0] == s.rank()) {
    if (!hostcuda::nccl::create(&ticket)) parent.fail(kSystemError, std::string("memfd_create: ") + strerror(errno));
    memcpy(s.out(s.rank()), &ticket, sizeof ticket);
  }
  if (!run.meet()) return child.fail(parent.error, parent.text);
  if (colour >= 0) {
    memcpy(&ticket, s.out(members[0]), sizeof ticket);
    const int rank = static_cast<int>(std::find(members.begin(), members.end(), s.rank()) - members.begin());
    join(child, ticket, static_cast<int>(members.size()), rank);
  }
  run.meet();  // the tickets may be overwritten from here on
}

}  // namespace

HOSTCUDA_EXPORT int ncclGetVersion(int* out) {
  if (int error = enter_release(__func__)) return error;
  if (out == nullptr) return kInvalidArgument;
  *out = version();
  return kSuccess;
}

HOSTCUDA_EXPORT int ncclGetUniqueId(UniqueId* id) {
  if (int error = enter(__func__)) return error;
  if (id == nullptr) return kInvalidArgument;
  Ticket ticket{};
  if (!hostcuda::nccl::create(&ticket)) return refuse(kSystemError, std::string("memfd_create: ") + strerror(errno));
  memset(id, 0, sizeof *id);
  memcpy(id->bytes, &ticket, sizeof ticket);
  return kSuccess;
}

HOSTCUDA_EXPORT int ncclCommInitRank(void** comm, int ranks, UniqueId id, int rank) {
  if (int error = enter(__func__)) return error;
  return init(comm, ranks, id, rank, true);
}

HOSTCUDA_EXPORT int ncclCommInitRankConfig(void** comm, int ranks, UniqueId id, int rank, const Config* config) {
  if (int error = enter(__func__)) return error;
  if (version() < 21400) return refuse(kInvalidUsage, "ncclCommInitRankConfig came with 2.14");
  if (config != nullptr && (config->size < kConfigBytes || config->magic != kConfigMagic || config->version < 21400)) {
    return refuse(kInvalidArgument, "the configuration was not initialised");
  }
  return init(comm, ranks, id, rank, config == nullptr || config->blocking != 0);
}

HOSTCUDA_EXPORT int ncclCommSplit(void* comm, int colour, int key, void** child, const Config* config) {
  if (int error = enter(__func__)) return error;
  if (version() < 21800) return refuse(kInvalidUsage, "ncclCommSplit came with 2.18");
  auto parent = find(comm);
  if (parent == nullptr || child == nullptr || (config != nullptr && config->magic != kConfigMagic)) {
    return refuse(kInvalidArgument, "no such communicator, or no place for the result");
  }
  *child = nullptr;
  if (parent->stream != nullptr) hostcuda::drain(parent->stream);
  auto c = std::make_shared<Communicator>();
  c->blocking = parent->blocking;
  c->progress++;
  const int result = begin(parent, [parent = parent.get(), c, colour, key, child] {
    split(*parent, *c, colour, key);
    c->progress--;
    if (colour < 0 || parent->error != kSuccess) return;
    add(c);
    __atomic_store_n(child, c.get(), __ATOMIC_RELEASE);
  });
  return result;
}

HOSTCUDA_EXPORT int ncclCommGetAsyncError(void* comm, int* out) {
  if (int error = enter(__func__)) return error;
  auto c = find(comm);
  if (c == nullptr || out == nullptr) return refuse(kInvalidArgument, "no such communicator");
  if (c->progress != 0) {
    *out = kInProgress;
    return kSuccess;
  }
  std::unique_lock lock(c->mutex, std::try_to_lock);
  *out = lock && c->error != kSuccess ? c->error : c->finalized && c->pending != 0 ? kInProgress : kSuccess;
  return kSuccess;
}

HOSTCUDA_EXPORT int ncclCommFinalize(void* comm) {
  if (int error = enter(__func__)) return error;
  auto c = find(comm);
  if (c == nullptr) return refuse(kInvalidArgument, "no such communicator");
  if (c->finalized.exchange(true)) return refuse(kInvalidUsage, "the communicator is finalized");
  return c->pending != 0 ? kInProgress : kSuccess;
}

HOSTCUDA_EXPORT int ncclCommDestroy(void* comm) {
  if (int error = enter_release(__func__)) return error;
  auto c = take(comm);
  if (c == nullptr) return refuse(kInvalidArgument, "no such communicator");
  if (c->stream != nullptr) hostcuda::drain(c->stream);
  std::lock_guard lock(c->mutex);
  c->segment.leave();
  return kSuccess;
}

HOSTCUDA_EXPORT int ncclCommAbort(void* comm) {
  if (int error = enter_release(__func__)) return error;
  auto c = take(comm);
  if (c == nullptr) return refuse(kInvalidArgument, "no such communicator");
  c->abort = true;
  c->segment.abort();
  while (c->pending != 0 || c->progress != 0) {
    c->segment.ring();
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  c->segment.leave();
  return kSuccess;
}

HOSTCUDA_EXPORT int ncclAllReduce(const void* from, void* to, size_t count, int type, int reduction, void* comm,
                                  void* stream) {
  return collective(__func__, comm, whole(kAllReduce, from, to, count, type, reduction), stream);
}

HOSTCUDA_EXPORT int ncclReduceScatter(const void* from, void* to, size_t count, int type, int reduction, void* comm,
                                      void* stream) {
  return collective(__func__, comm, whole(kReduceScatter, from, to, count, type, reduction), stream);
}

HOSTCUDA_EXPORT int ncclAllGather(const void* from, void* to, size_t count, int type, void* comm, void* stream) {
  return collective(__func__, comm, whole(kAllGather, from, to, count, type), stream);
}

HOSTCUDA_EXPORT int ncclBroadcast(const void* from, void* to, size_t count, int type, int root, void* comm,
                                  void* stream) {
  return collective(__func__, comm, whole(kBroadcast, from, to, count, type, kSum, root), stream);
}

HOSTCUDA_EXPORT int ncclSend(const void* buffer, size_t count, int type, int peer, void* comm, void* stream) {
  return transfer(__func__, true, const_cast<void*>(buffer), count, type, peer, comm, stream);
}

HOSTCUDA_EXPORT int ncclRecv(void* buffer, size_t count, int type, int peer, void* comm, void* stream) {
  return transfer(__func__, false, buffer, count, type, peer, comm, stream);
}

HOSTCUDA_EXPORT int ncclGroupStart() {
  if (int error = enter(__func__)) return error;
  t_depth++;
  return kSuccess;
}

HOSTCUDA_EXPORT int ncclGroupEnd() {
  if (t_depth == 0) return refuse(kInvalidUsage, "ncclGroupEnd without ncclGroupStart");
  t_depth--;
  int error = enter(__func__);
  if (t_depth != 0) return error;
  auto groups = std::move(t_groups);
  t_groups.clear();
  for (auto& g : groups)
    if (error == kSuccess) error = enqueue(g.communicator, g.operation, g.stream);
  return error;
}

HOSTCUDA_EXPORT const char* ncclGetErrorString(int code) {
  switch (code) {
    case kSuccess: return "no error";
    case kUnhandledCudaError: return "unhandled cuda error";
    case kSystemError: return "unhandled system error";
    case kInternalError: return "internal error";
    case kInvalidArgument: return "invalid argument";
    case kInvalidUsage: return "invalid usage";
    case kRemoteError: return "remote process exited or there was a network error";
    case kInProgress: return "NCCL operation in progress";
    default: return "unknown result code";
  }
}

// What the communicator failed with, or else the last refusal on this thread.
HOSTCUDA_EXPORT const char* ncclGetLastError(void* comm) {
  thread_local std::string text;
  text = t_error;
  if (auto c = find(comm); c != nullptr) {
    std::unique_lock lock(c->mutex, std::try_to_lock);
    if (lock && c->error != kSuccess) text = c->text;
  }
  return text.c_str();
}
