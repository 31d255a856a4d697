// A thread that runs the work of one stream in order, for work that waits for other processes. Other work joins it only
// while it is busy.
#pragma once
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>

#include "driver.h"

namespace hostcuda {

class Lane : public std::enable_shared_from_this<Lane> {
 public:
  // A lane with its thread, which ends after close().
  static std::shared_ptr<Lane> start();

  // Enqueues behind pending work and returns the ticket; 0 when nothing is pending, so that the caller runs it. What
  // fails becomes the fault of the process.
  uint64_t push_if_busy(const std::function<Result()>& work);

  // Enqueues work that waits for other processes. It begins when somebody waits for it, or a few milliseconds later:
  // who uses its result or changes its input without having waited then computes with values that are plainly wrong, in
  // every run alike.
  void push_waiting(std::function<void()> work);

  bool is_done(uint64_t ticket);
  bool is_idle();
  void wait(uint64_t ticket);
  void wait_all();
  void close();  // the thread ends when the pending work is done

 private:
  struct Item {
    std::function<Result()> work;
    bool lazy;
  };

  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Item> items_;
  uint64_t pushed_ = 0, done_ = 0, demanded_ = 0;
  bool closed_ = false;
};

}  // namespace hostcuda
