// The memory that the ranks of a hostcuda communicator share: who has joined, a barrier that notices dead ranks, the
// operation that each rank has called, and two staging pieces per rank. It is an unnamed file (memfd) that peers open
// through /proc, so that nothing is left behind however the processes end.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

namespace hostcuda::nccl {

constexpr int kMaxRanks = 64;
constexpr size_t kPieceBytes = size_t{256} << 10;

// What a rank has called; compared between ranks before any byte moves.
struct Call {
  int32_t kind, type, reduction, root;
  uint64_t count, sequence;
  uint64_t send[kMaxRanks], receive[kMaxRanks];  // bytes to and from each rank, of a group of ncclSend and ncclRecv
};

enum class Presence : int32_t { kAbsent, kJoined, kLeft };

struct RankSlot {
  std::atomic<Presence> presence;
  int32_t pid;
  std::atomic<uint64_t> arrived;  // barriers that the rank has reached
  int64_t note[4];                // of ncclCommSplit: colour, key, id
  Call call;
};

struct SharedHeader {
  char token[16];
  std::atomic<int32_t> ranks, joined, aborted_by;  // aborted_by: rank + 1
  std::atomic<uint32_t> bell;                      // a futex, rung at every change that somebody may wait for
  RankSlot slots[kMaxRanks];
};

// What a unique id says: where the segment is, and a token that proves it.
struct Ticket {
  char magic[8];
  int32_t pid, file;
  char token[16];
};

// A new segment, kept open until release; false with errno set.
bool create(Ticket* ticket);

// Nobody needs to open the segment any more; nothing happens where another process made it.
void release(const Ticket& ticket);

class Segment {
 public:
  ~Segment();

  // Maps the segment of the ticket and takes a rank; an empty string, or what is wrong.
  std::string join(const Ticket& ticket, int ranks, int rank);

  // Waits until every rank has joined; an empty string, or who is missing why.
  std::string wait_joined(const std::atomic<bool>& abort);

  // Waits until every rank has come here; an empty string, or who does not come why.
  std::string barrier(const std::atomic<bool>& abort);

  void leave();
  void abort();  // ends the waits of all ranks
  void ring();   // ends the pause of who waits, so that it looks again

  int ranks() const { return ranks_; }
  int rank() const { return rank_; }
  RankSlot& slot(int rank) { return header_->slots[rank]; }
  char* in(int rank) { return pieces_ + size_t(rank) * kPieceBytes; }
  char* out(int rank) { return pieces_ + size_t(kMaxRanks + rank) * kPieceBytes; }

 private:
  bool is_dead(int rank);
  std::string missing(int rank, const char* doing);
  template <typename Ready>
  std::string wait(const std::atomic<bool>& abort, const char* doing, Ready ready);

  SharedHeader* header_ = nullptr;
  char* pieces_ = nullptr;
  int ranks_ = 0, rank_ = 0, process_[kMaxRanks] = {};
  uint64_t barriers_ = 0;
};

}  // namespace hostcuda::nccl
