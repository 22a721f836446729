#include "fd_exchange.hpp"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <deque>

namespace moe_a2a_addon {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// When to try again what did not work, and how soon stop() is noticed.
constexpr milliseconds kAgain{10};
constexpr milliseconds kLook{50};
// Connections that have not said who they are; the oldest makes room for a new one.
constexpr size_t kMostCallers = 128;

// What this rank takes from another.
struct Fetch {
  Descriptor socket;
  Clock::time_point notBefore{};
};

// One exchange of one rank, for as long as it runs.
class Session {
 public:
  Session(int listener, int rank, const std::vector<FdExchange::Peer> &peers, const ShareToken &token,
          const std::vector<uint8_t> &bytes, int fd)
      : listener_(listener),
        rank_(rank),
        peers_(peers),
        token_(token),
        bytes_(bytes),
        fd_(fd),
        fetches_(peers.size()),
        gifts_(peers.size()),
        lines_(peers.size()) {
    for (size_t r = 0; r < peers.size(); r++) {
      if (static_cast<int>(r) != rank) toServe_ |= uint64_t{1} << r;
    }
    toFetch_ = toServe_;
  }

  uint64_t missing() const { return toServe_ | toFetch_; }
  uint64_t gone() const { return gone_; }
  std::vector<Gift> takeGifts() { return std::move(gifts_); }
  std::vector<PeerLine> takeLines() { return std::move(lines_); }

  // Does what can be done now, or within `patience`.
  void turn(milliseconds patience) {
    for (size_t r = 0; r < peers_.size(); r++) {
      if (toFetch_ >> r & 1 && !fetches_[r].socket.isOpen()) call(r);
    }
    waitForAny(patience);
    acceptAll();
    std::erase_if(callers_, [this](Descriptor &caller) { return isServed(caller); });
    for (size_t r = 0; r < peers_.size(); r++) {
      if (fetches_[r].socket.isOpen()) fetch(r);
    }
  }

 private:
  void tryAgain(size_t r) {
    fetches_[r].socket.reset();
    fetches_[r].notBefore = Clock::now() + kAgain;
  }

  void call(size_t r) {
    Fetch &to = fetches_[r];
    if (Clock::now() < to.notBefore) return;
    const int error = connectTo(peers_[r].name, &to.socket);
    // Names are told once their sockets listen, so nobody will ever listen there again.
    if (error == ECONNREFUSED) gone_ |= uint64_t{1} << r;
    // The other end is told no token before it is known whose it is.
    if (error != 0 || !isOfSameUser(to.socket.get()) || sayHello(to.socket.get(), rank_, peers_[r].token) != 0)
      tryAgain(r);
  }

  void waitForAny(milliseconds patience) {
    std::vector<pollfd> watched;
    const auto watch = [&](int fd) { watched.push_back({fd, POLLIN, 0}); };
    bool waitsForTime = Clock::now() < acceptNotBefore_;
    if (!waitsForTime) watch(listener_);
    for (const Descriptor &caller : callers_) watch(caller.get());
    for (size_t r = 0; r < peers_.size(); r++) {
      if (fetches_[r].socket.isOpen()) watch(fetches_[r].socket.get());
      else if (toFetch_ >> r & 1) waitsForTime = true;
    }
    if (waitsForTime) patience = std::min(patience, kAgain);
    poll(watched.data(), watched.size(), static_cast<int>(patience.count()));
  }

  void acceptAll() {
    // Bounded, lest strangers who call all the time keep everybody else waiting.
    for (size_t i = 0; i < kMostCallers; i++) {
      if (Clock::now() < acceptNotBefore_) return;
      Descriptor caller;
      const int error = acceptFrom(listener_, &caller);
      if (error == EAGAIN) return;
      // Out of descriptors, perhaps: the caller waits in the queue.
      if (error != 0 && error != ECONNABORTED && error != EINTR) acceptNotBefore_ = Clock::now() + kAgain;
      if (error != 0 || !isOfSameUser(caller.get()) || isServed(caller)) continue;
      if (callers_.size() >= kMostCallers) callers_.pop_front();
      callers_.push_back(std::move(caller));
    }
  }

  // True where nothing more is to be said to a caller. One that got its gift is held on to.
  bool isServed(Descriptor &caller) {
    Hello hello;
    const Heard heard = hearHello(caller.get(), &hello);
    if (heard == Heard::kNothing) return false;
    const bool isRank = hello.rank >= 0 && hello.rank < static_cast<int>(peers_.size()) && hello.rank != rank_;
    if (heard == Heard::kWrong || !areEqual(hello.token, token_) || !isRank) return true;
    if (give(caller.get(), peers_[hello.rank].token, bytes_, fd_) != 0) return true;
    toServe_ &= ~(uint64_t{1} << hello.rank);
    lines_[hello.rank].held = std::move(caller);
    return true;
  }

  void fetch(size_t r) {
    ShareToken token;
    Gift gift;
    const Heard heard = takeGift(fetches_[r].socket.get(), &token, &gift);
    if (heard == Heard::kNothing) return;
    if (heard == Heard::kWrong || !areEqual(token, token_)) return tryAgain(r);
    lines_[r].watched = std::move(fetches_[r].socket);
    gifts_[r] = std::move(gift);
    toFetch_ &= ~(uint64_t{1} << r);
  }

  const int listener_;
  const int rank_;
  const std::vector<FdExchange::Peer> &peers_;
  const ShareToken &token_;
  const std::vector<uint8_t> &bytes_;
  const int fd_;
  std::vector<Fetch> fetches_;
  std::vector<Gift> gifts_;
  std::vector<PeerLine> lines_;
  std::deque<Descriptor> callers_;
  Clock::time_point acceptNotBefore_{};
  uint64_t toServe_ = 0;
  uint64_t toFetch_ = 0;
  uint64_t gone_ = 0;
};

}  // namespace

int FdExchange::open() {
  if (const int error = makeSecrets(&name_, &token_)) return error;
  const int error = listenAt(name_, &listener_);
  if (error != 0) listener_.reset();
  return error;
}

FdExchange::Outcome FdExchange::run(int rank, const std::vector<Peer> &peers, const std::vector<uint8_t> &bytes, int fd,
                                    milliseconds timeout) {
  const Clock::time_point end = Clock::now() + timeout;
  const Descriptor listener = std::move(listener_);
  Session session(listener.get(), rank, peers, token_, bytes, fd);
  while (session.missing() != 0) {
    const auto left = std::chrono::ceil<milliseconds>(end - Clock::now());
    if (isStopped_) return {End::kStopped, session.missing(), {}, {}};
    if (session.gone() != 0) return {End::kGone, session.gone(), {}, {}};
    if (left <= milliseconds::zero()) return {End::kTimeout, session.missing(), {}, {}};
    session.turn(std::min(left, kLook));
  }
  return {End::kDone, 0, session.takeGifts(), session.takeLines()};
}

}  // namespace moe_a2a_addon
