#include "lane.h"

#include <chrono>
#include <thread>

namespace hostcuda {
namespace {

constexpr auto kPatience = std::chrono::milliseconds(5);

}  // namespace

std::shared_ptr<Lane> Lane::start() {
  auto lane = std::make_shared<Lane>();
  std::thread([lane] { lane->run(); }).detach();
  return lane;
}

uint64_t Lane::push_if_busy(const std::function<Result()>& work) {
  std::lock_guard lock(mutex_);
  if (done_ == pushed_) return 0;
  items_.push_back({work, false});
  changed_.notify_all();
  return ++pushed_;
}

void Lane::push_waiting(std::function<void()> work) {
  std::lock_guard lock(mutex_);
  items_.push_back({[work = std::move(work)]() -> Result {
                      work();
                      return kSuccess;
                    },
                    true});
  pushed_++;
  changed_.notify_all();
}

bool Lane::is_done(uint64_t ticket) {
  std::lock_guard lock(mutex_);
  return done_ >= ticket;
}

bool Lane::is_idle() {
  std::lock_guard lock(mutex_);
  return done_ == pushed_;
}

void Lane::wait(uint64_t ticket) {
  std::unique_lock lock(mutex_);
  if (demanded_ < ticket) {
    demanded_ = ticket;
    changed_.notify_all();
  }
  changed_.wait(lock, [&] { return done_ >= ticket; });
}

void Lane::wait_all() {
  uint64_t last;
  {
    std::lock_guard lock(mutex_);
    last = pushed_;
  }
  wait(last);
}

void Lane::close() {
  std::lock_guard lock(mutex_);
  closed_ = true;
  changed_.notify_all();
}

void Lane::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return closed_ || !items_.empty(); });
    if (items_.empty()) return;
    auto item = std::move(items_.front());
    items_.pop_front();
    if (item.lazy) changed_.wait_for(lock, kPatience, [&] { return closed_ || demanded_ > done_; });
    lock.unlock();
    if (Result error = item.work(); error != kSuccess) set_fault(error, "work enqueued behind a collective failed");
    item.work = nullptr;
    lock.lock();
    done_++;
    changed_.notify_all();
  }
}

}  // namespace hostcuda
