// Ranks that give one another descriptors, among strangers and liars: between threads and between processes.
#include "../fd_exchange.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <thread>

using namespace moe_a2a_addon;
using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;
using End = FdExchange::End;

namespace {

int failures = 0;

void expect(bool holds, const char *what) {
  if (holds) return;
  failures++;
  std::printf("FAILED: %s\n", what);
}

int openDescriptors() {
  DIR *folder = opendir("/proc/self/fd");
  int count = 0;
  while (readdir(folder) != nullptr) count++;
  closedir(folder);
  return count;
}

// Memory that says whose it is.
Descriptor memoryOf(int rank) {
  Descriptor memory(memfd_create("rank", MFD_CLOEXEC));
  if (pwrite(memory.get(), &rank, sizeof rank, 0) != sizeof rank) std::perror("pwrite");
  return memory;
}

bool isMemoryOf(const Gift &gift, int rank) {
  int found = -1;
  return gift.bytes == std::vector<uint8_t>(40, static_cast<uint8_t>(rank)) && gift.fd.isOpen() &&
         pread(gift.fd.get(), &found, sizeof found, 0) == sizeof found && found == rank &&
         (fcntl(gift.fd.get(), F_GETFD) & FD_CLOEXEC) != 0;
}

struct World {
  std::vector<std::unique_ptr<FdExchange>> ranks;
  std::vector<FdExchange::Peer> peers;

  explicit World(int size) {
    for (int r = 0; r < size; r++) {
      ranks.push_back(std::make_unique<FdExchange>());
      expect(ranks.back()->open() == 0, "a rank can listen");
      peers.push_back({ranks.back()->name(), ranks.back()->token()});
    }
  }
  FdExchange::Outcome run(int r, int timeoutMs, const std::vector<FdExchange::Peer> &told) {
    const Descriptor memory = memoryOf(r);
    return ranks[r]->run(r, told, std::vector<uint8_t>(40, static_cast<uint8_t>(r)), memory.get(),
                         milliseconds(timeoutMs));
  }
  // Runs some of the ranks, each on a thread of its own.
  std::vector<FdExchange::Outcome> runAll(const std::vector<int> &some, int timeoutMs) {
    std::vector<FdExchange::Outcome> outcomes(ranks.size());
    std::vector<std::thread> threads;
    for (const int r : some) threads.emplace_back([&, r] { outcomes[r] = run(r, timeoutMs, peers); });
    for (std::thread &thread : threads) thread.join();
    return outcomes;
  }
};

bool hasAll(const FdExchange::Outcome &outcome, int rank) {
  bool all = outcome.end == End::kDone && outcome.missing == 0;
  for (size_t r = 0; all && r < outcome.gifts.size(); r++) {
    if (static_cast<int>(r) == rank) all = !outcome.gifts[r].fd.isOpen() && outcome.gifts[r].bytes.empty();
    else all = isMemoryOf(outcome.gifts[r], static_cast<int>(r));
  }
  return all;
}

std::vector<int> upTo(int size) {
  std::vector<int> ranks;
  for (int r = 0; r < size; r++) ranks.push_back(r);
  return ranks;
}

void threadsShare() {
  for (const int size : {1, 2, 8}) {
    World world(size);
    const auto outcomes = world.runAll(upTo(size), 10'000);
    for (int r = 0; r < size; r++) expect(hasAll(outcomes[r], r), "every thread gets everybody's");
  }
}

void withoutDescriptor() {
  World world(2);
  std::vector<FdExchange::Outcome> outcomes(2);
  std::vector<std::thread> threads;
  for (int r = 0; r < 2; r++) {
    threads.emplace_back([&, r] { outcomes[r] = world.ranks[r]->run(r, world.peers, {7}, -1, milliseconds(10'000)); });
  }
  for (std::thread &thread : threads) thread.join();
  for (int r = 0; r < 2; r++) {
    const Gift &gift = outcomes[r].gifts.at(1 - r);
    expect(gift.bytes == std::vector<uint8_t>{7} && !gift.fd.isOpen(), "bytes go without a descriptor too");
  }
}

void linesTell() {
  World world(3);
  auto outcomes = world.runAll(upTo(3), 10'000);
  std::vector<PeerLines> lines;
  for (auto &outcome : outcomes) lines.emplace_back(std::move(outcome.lines));
  const auto told = [&](int r, uint64_t closed, uint64_t lost) {
    lines[r].look();
    return lines[r].closed() == closed && lines[r].lost() == lost;
  };
  for (int r = 0; r < 3; r++) expect(told(r, 0, 0), "nobody has left");
  lines[1].sayGoodbye();
  lines[1] = PeerLines();
  lines[2] = PeerLines();
  expect(told(0, 2, 4), "who said goodbye has closed, who did not is lost");
  expect(told(0, 2, 4), "also when asked again");
}

bool endsWell(pid_t child) {
  int status = -1;
  return waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

void processesShare() {
  constexpr int kSize = 4;
  World world(kSize);
  std::vector<pid_t> children;
  for (int r = 0; r < kSize; r++) {
    const pid_t child = fork();
    if (child == 0) {
      // Sockets of the other ranks would still listen here.
      for (int other = 0; other < kSize; other++) {
        if (other != r) world.ranks[other].reset();
      }
      _exit(hasAll(world.run(r, 10'000, world.peers), r) ? 0 : 1);
    }
    children.push_back(child);
  }
  for (const pid_t child : children) expect(endsWell(child), "every process gets everybody's");
}

void wrongToken() {
  World world(3);
  auto told = world.peers;
  told[2].token[31] ^= 1;
  std::vector<FdExchange::Outcome> outcomes(3);
  std::vector<std::thread> threads;
  for (int r = 0; r < 3; r++) {
    threads.emplace_back([&, r] { outcomes[r] = world.run(r, 400, r == 1 ? told : world.peers); });
  }
  for (std::thread &thread : threads) thread.join();
  expect(hasAll(outcomes[0], 0), "a wrong token between others does no harm");
  expect(outcomes[1].end != End::kDone && outcomes[1].missing == 4, "who shows a wrong token gets nothing");
  expect(outcomes[2].end != End::kDone && outcomes[2].missing == 2, "who is shown a wrong token takes nothing");
}

void neverComes() {
  World world(3);
  const auto start = Clock::now();
  const auto outcomes = world.runAll({0, 1}, 300);
  const auto took = Clock::now() - start;
  for (int r = 0; r < 2; r++)
    expect(outcomes[r].end == End::kTimeout && outcomes[r].missing == 4, "who never comes is named");
  expect(took >= milliseconds(300) && took < milliseconds(2'000), "at the deadline");
  expect(outcomes[0].gifts.empty(), "without any descriptors");
}

void isGone() {
  World world(3);
  world.ranks[2].reset();
  const auto start = Clock::now();
  const auto outcomes = world.runAll({0, 1}, 10'000);
  for (int r = 0; r < 2; r++) expect(outcomes[r].end == End::kGone, "a rank that has left is noticed");
  expect((outcomes[0].missing | outcomes[1].missing) & 4, "and named");
  expect(Clock::now() - start < milliseconds(5'000), "at once");
}

void isStopped() {
  World world(2);
  std::thread stopper([&] {
    std::this_thread::sleep_for(milliseconds(50));
    world.ranks[0]->stop();
  });
  const auto start = Clock::now();
  const auto outcome = world.run(0, 20'000, world.peers);
  expect(outcome.end == End::kStopped && outcome.missing == 2, "an exchange can be stopped");
  expect(Clock::now() - start < milliseconds(5'000), "at once, too");
  stopper.join();
}

void sendRaw(int socket, const void *bytes, size_t count, int fds) {
  const int some[4] = {0, 0, 0, 0};
  iovec part{const_cast<void *>(bytes), count};
  alignas(cmsghdr) uint8_t control[CMSG_SPACE(sizeof some)] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (fds > 0) {
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * fds);
    cmsghdr *rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int) * fds);
    std::memcpy(CMSG_DATA(rights), some, sizeof(int) * fds);
  }
  sendmsg(socket, &message, MSG_NOSIGNAL);
}

void strangers() {
  World world(3);
  std::vector<Descriptor> lines;
  std::vector<uint8_t> garbage(100'000, 0xa5);
  const auto bother = [&](const std::string &name, int i) {
    Descriptor line;
    if (connectTo(name, &line) != 0) return;
    if (i % 4 == 1) sendRaw(line.get(), garbage.data(), 40, i % 3);
    if (i % 4 == 2) sendRaw(line.get(), garbage.data(), garbage.size(), 4);
    if (i % 4 == 3) sayHello(line.get(), i % 5 - 1, ShareToken{});
    lines.push_back(std::move(line));
  };
  // Before, and while, ranks meet.
  for (int i = 0; i < 200; i++) bother(world.peers[i % 2].name, i);
  std::atomic<bool> isOver{false};
  std::thread stranger([&] {
    for (int i = 0; i < 200 && !isOver; i++) {
      bother(world.peers[2].name, i);
      std::this_thread::sleep_for(milliseconds(1));
    }
  });
  std::thread late([&] {
    std::this_thread::sleep_for(milliseconds(100));
    expect(hasAll(world.run(2, 10'000, world.peers), 2), "a rank gets everything in spite of strangers");
  });
  const auto outcomes = world.runAll({0, 1}, 10'000);
  late.join();
  isOver = true;
  stranger.join();
  for (int r = 0; r < 2; r++) expect(hasAll(outcomes[r], r), "strangers do no harm");
}

// Somebody who listens in the place of rank 1, and answers as `answer` does.
void meetLiar(const std::function<void(int socket, const FdExchange::Peer &peer)> &answer) {
  World world(2);
  world.ranks[1].reset();
  Descriptor listener;
  expect(listenAt(world.peers[1].name, &listener) == 0, "a name that is free can be taken");
  // It takes what rank 0 gives, so that nothing but its own is missing.
  Descriptor line;
  expect(connectTo(world.peers[0].name, &line) == 0 && sayHello(line.get(), 1, world.peers[0].token) == 0,
         "a liar calls");
  std::atomic<bool> isOver{false};
  std::thread liar([&] {
    while (!isOver) {
      Descriptor caller;
      Hello hello;
      if (acceptFrom(listener.get(), &caller) == 0) {
        hearHello(caller.get(), &hello);
        answer(caller.get(), world.peers[0]);
      }
      std::this_thread::sleep_for(milliseconds(1));
    }
  });
  const auto outcome = world.run(0, 150, world.peers);
  expect(outcome.end == End::kTimeout && outcome.missing == 2, "a liar's gift is not taken");
  isOver = true;
  liar.join();
}

void liars() {
  const std::vector<uint8_t> bytes(40, 1);
  const Descriptor memory = memoryOf(1);
  meetLiar([](int, const FdExchange::Peer &) {});
  meetLiar([&](int socket, const FdExchange::Peer &) { give(socket, ShareToken{}, bytes, memory.get()); });
  const std::vector<uint8_t> garbage(100'000, 0xa5);
  for (const size_t length : {1u, 44u, 300u, 100'000u}) {
    for (const int fds : {0, 1, 2, 4})
      meetLiar([&](int socket, const FdExchange::Peer &) { sendRaw(socket, garbage.data(), length, fds); });
  }
  // Gifts with the right token that tell of other bytes or descriptors than come with them.
  const struct {
    uint32_t bytes, fds;
    int sent;
  } wrong[] = {{40, 0, 1}, {40, 1, 2}, {40, 1, 3}, {40, 2, 2}, {40, 1, 0}, {39, 1, 1}, {41, 1, 1}, {1u << 31, 1, 1}};
  for (const auto &told : wrong) {
    meetLiar([&](int socket, const FdExchange::Peer &peer) {
      std::vector<uint8_t> gift(44 + 40, 1);
      const uint32_t head[3] = {0x61326147, told.bytes, told.fds};
      std::memcpy(gift.data(), head, sizeof head);
      std::memcpy(gift.data() + sizeof head, peer.token.data(), peer.token.size());
      sendRaw(socket, gift.data(), gift.size(), told.sent);
    });
  }
}

// Another user finds the names of sockets in /proc, but gets nothing there, nor is it told a token.
void anotherUser() {
  if (geteuid() != 0) return;
  World world(2);
  int ready[2];
  expect(pipe2(ready, O_CLOEXEC) == 0, "a pipe");
  const pid_t child = fork();
  if (child == 0) {
    world.ranks.clear();
    Descriptor listener, line;
    if (setresuid(65534, 65534, 65534) != 0) _exit(2);
    const bool listens = listenAt("00000000000000000000000000000000", &listener) == 0;
    const bool calls = connectTo(world.peers[0].name, &line) == 0 && sayHello(line.get(), 1, world.peers[0].token) == 0;
    if (!listens || !calls || write(ready[1], "x", 1) != 1) _exit(3);
    std::this_thread::sleep_for(milliseconds(300));
    ShareToken token;
    Gift gift;
    if (takeGift(line.get(), &token, &gift) == Heard::kMessage) _exit(4);
    Descriptor caller;
    Hello hello;
    while (acceptFrom(listener.get(), &caller) == 0) {
      if (hearHello(caller.get(), &hello) == Heard::kMessage) _exit(5);
    }
    _exit(0);
  }
  char byte;
  expect(read(ready[0], &byte, 1) == 1, "the other user has come");
  auto told = world.peers;
  told[1].name = "00000000000000000000000000000000";
  const auto outcome = world.run(0, 150, told);
  expect(outcome.end == End::kTimeout && outcome.missing == 2, "another user is not let in");
  expect(endsWell(child), "and is told nothing");
  close(ready[0]);
  close(ready[1]);
}

void secrets() {
  FdExchange one, other;
  expect(one.open() == 0 && other.open() == 0, "ranks can listen");
  expect(isShareName(one.name()) && one.name() != other.name() && one.token() != other.token(), "secrets differ");
  expect(!isShareName("") && !isShareName(std::string(32, 'g')) && !isShareName(std::string(33, 'a')), "bad names");
  Descriptor again;
  expect(listenAt(one.name(), &again) == EADDRINUSE, "nobody else can listen in a rank's place");
}

}  // namespace

int main() {
  const struct {
    const char *name;
    void (*run)();
  } tests[] = {{"secrets", secrets},
               {"threads", threadsShare},
               {"no descriptor", withoutDescriptor},
               {"lines", linesTell},
               {"processes", processesShare},
               {"wrong token", wrongToken},
               {"a rank that never comes", neverComes},
               {"a rank that has left", isGone},
               {"stop", isStopped},
               {"strangers", strangers},
               {"liars", liars},
               {"another user", anotherUser}};
  const int before = openDescriptors();
  for (const auto &test : tests) {
    test.run();
    if (openDescriptors() == before) continue;
    failures++;
    std::printf("FAILED: %s: %d descriptors stay open\n", test.name, openDescriptors() - before);
  }
  std::printf("fd_exchange_test: %s\n", failures ? "FAILED" : "ok");
  return failures ? 1 : 0;
}
