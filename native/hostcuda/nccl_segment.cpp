#include "nccl_segment.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <set>

namespace hostcuda::nccl {
namespace {

constexpr char kMagic[8] = {'z', '1', 'h', 'o', 's', 't', 'n', '1'};
constexpr size_t kHeaderBytes = (sizeof(SharedHeader) + 4095) / 4096 * 4096;
constexpr size_t kBytes =
    kHeaderBytes + 2 * kMaxRanks * kPieceBytes;  // of addresses: only what is touched takes memory
constexpr int kYields = 64;
constexpr long kPauseNanoseconds = 20'000'000;

void futex_wait(std::atomic<uint32_t>* word, uint32_t seen) {
  timespec pause{0, kPauseNanoseconds};
  syscall(SYS_futex, word, FUTEX_WAIT, seen, &pause, nullptr, 0);
}

void futex_wake(std::atomic<uint32_t>* word) { syscall(SYS_futex, word, FUTEX_WAKE, 0x7FFFFFFF, nullptr, nullptr, 0); }

struct OpenFiles {
  std::mutex mutex;
  std::set<int> all;
};

OpenFiles& open_files() {
  static auto* files = new OpenFiles;
  return *files;
}

}  // namespace

bool create(Ticket* ticket) {
  const int file = static_cast<int>(syscall(SYS_memfd_create, "z1-hostcuda-nccl", MFD_CLOEXEC));
  if (file < 0) return false;
  memcpy(ticket->magic, kMagic, sizeof kMagic);
  ticket->pid = getpid();
  ticket->file = file;
  if (ftruncate(file, static_cast<off_t>(kBytes)) != 0 ||
      getrandom(ticket->token, sizeof ticket->token, 0) != sizeof ticket->token ||
      pwrite(file, ticket->token, sizeof ticket->token, offsetof(SharedHeader, token)) != sizeof ticket->token) {
    close(file);
    return false;
  }
  auto& open = open_files();
  std::lock_guard lock(open.mutex);
  open.all.insert(file);
  return true;
}

void release(const Ticket& ticket) {
  if (ticket.pid != getpid()) return;
  auto& open = open_files();
  std::lock_guard lock(open.mutex);
  if (open.all.erase(ticket.file) != 0) close(ticket.file);
}

Segment::~Segment() {
  leave();
  for (int& file : process_)
    if (file > 0) close(file);
  if (header_ != nullptr) munmap(header_, kBytes);
}

std::string Segment::join(const Ticket& ticket, int ranks, int rank) {
  if (memcmp(ticket.magic, kMagic, sizeof kMagic) != 0) return "the unique id is not one of hostcuda";
  if (ranks < 1 || ranks > kMaxRanks)
    return "hostcuda has communicators of 1 to 64 ranks, not of " + std::to_string(ranks);
  if (rank < 0 || rank >= ranks) return "there is no rank " + std::to_string(rank) + " of " + std::to_string(ranks);
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/fd/%d", ticket.pid, ticket.file);
  const int file = open(path, O_RDWR | O_CLOEXEC);
  const std::string gone = "process " + std::to_string(ticket.pid) + ", which made the unique id, ";
  if (file < 0) return gone + "is gone or not reachable (" + strerror(errno) + ")";
  char token[sizeof ticket.token];
  if (pread(file, token, sizeof token, offsetof(SharedHeader, token)) != sizeof token ||
      memcmp(token, ticket.token, sizeof token) != 0) {
    close(file);
    return gone + "is gone: another one has its number";
  }
  void* memory = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file, 0);
  close(file);
  if (memory == MAP_FAILED) return std::string("mmap failed: ") + strerror(errno);
  header_ = static_cast<SharedHeader*>(memory);
  pieces_ = static_cast<char*>(memory) + kHeaderBytes;
  ranks_ = ranks;
  rank_ = rank;
  int32_t agreed = 0;
  if (!header_->ranks.compare_exchange_strong(agreed, ranks) && agreed != ranks) {
    return "rank " + std::to_string(rank) + " says " + std::to_string(ranks) + " ranks, another said " +
           std::to_string(agreed);
  }
  auto absent = Presence::kAbsent;
  slot(rank).pid = getpid();
  if (!slot(rank).presence.compare_exchange_strong(absent, Presence::kJoined)) {
    return "there are two ranks " + std::to_string(rank);
  }
  header_->joined.fetch_add(1);
  ring();
  return "";
}

std::string Segment::wait_joined(const std::atomic<bool>& abort) {
  return wait(abort, "join", [this](int r) { return slot(r).presence.load() != Presence::kAbsent; });
}

std::string Segment::barrier(const std::atomic<bool>& abort) {
  barriers_++;
  slot(rank_).arrived.store(barriers_);
  ring();
  return wait(abort, "come", [this](int r) { return slot(r).arrived.load() >= barriers_; });
}

void Segment::leave() {
  if (header_ == nullptr) return;
  auto joined = Presence::kJoined;
  if (slot(rank_).pid == getpid()) slot(rank_).presence.compare_exchange_strong(joined, Presence::kLeft);
  ring();
}

void Segment::abort() {
  if (header_ == nullptr) return;
  int32_t nobody = 0;
  header_->aborted_by.compare_exchange_strong(nobody, rank_ + 1);
  ring();
}

void Segment::ring() {
  if (header_ == nullptr) return;
  header_->bell.fetch_add(1);
  futex_wake(&header_->bell);
}

bool Segment::is_dead(int rank) {
  auto& s = slot(rank);
  if (s.presence.load() == Presence::kAbsent || s.pid == getpid()) return false;
  if (process_[rank] == 0) process_[rank] = static_cast<int>(syscall(SYS_pidfd_open, s.pid, 0));
  if (process_[rank] < 0) {
    if (errno == ESRCH) return true;
    process_[rank] = 0;
    return kill(s.pid, 0) != 0 &&
           errno == ESRCH;  // a kernel older than 5.3: a dead process that nobody has waited for looks alive
  }
  pollfd ended{process_[rank], POLLIN, 0};
  return poll(&ended, 1, 0) == 1;
}

std::string Segment::missing(int rank, const char* doing) {
  const auto process = " (process " + std::to_string(slot(rank).pid) + ")";
  if (is_dead(rank)) return "rank " + std::to_string(rank) + process + " is dead";
  if (slot(rank).presence.load() == Presence::kLeft) {
    return "rank " + std::to_string(rank) + process + " has destroyed its communicator and does not " + doing;
  }
  return "";
}

template <typename Ready>
std::string Segment::wait(const std::atomic<bool>& abort, const char* doing, Ready ready) {
  int next = 0;
  for (int round = 0;; round++) {
    const uint32_t seen = header_->bell.load();
    while (next < ranks_ && ready(next)) next++;
    if (next == ranks_) return "";
    if (abort.load()) return "aborted here";
    if (const int by = header_->aborted_by.load(); by != 0) return "rank " + std::to_string(by - 1) + " has aborted";
    if (round < kYields) {
      sched_yield();
      continue;
    }
    for (int r = next; r < ranks_; r++) {
      if (ready(r)) continue;
      if (auto why = missing(r, doing); !why.empty() && !ready(r)) return why;
    }
    futex_wait(&header_->bell, seen);
  }
}

}  // namespace hostcuda::nccl
