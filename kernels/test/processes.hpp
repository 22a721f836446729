// Processes of one test program: started anew, since CUDA does not survive a fork, with a socket to whoever started
// them.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "moe_a2a.h"

constexpr const char *kVisible = "CUDA_VISIBLE_DEVICES";
// Where a process finds the socket to the one that started it.
constexpr int kParentSocket = 3;

struct Process {
  pid_t id = -1;
  int socket = -1;
};

// Starts this program with other arguments; `visible` are the GPUs that it sees, or "" for those of this process.
inline Process startProcess(std::vector<std::string> arguments, const std::string &visible) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) std::exit(2);
  arguments.insert(arguments.begin(), "share_test");
  std::vector<char *> argv;
  for (std::string &argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  std::string setting = std::string(kVisible) + "=" + visible;
  std::vector<char *> environment;
  for (char **entry = environ; *entry; entry++) {
    const bool replaced = !visible.empty() && std::strncmp(*entry, kVisible, std::strlen(kVisible)) == 0;
    if (!replaced) environment.push_back(*entry);
  }
  if (!visible.empty()) environment.push_back(setting.data());
  environment.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], kParentSocket);
  Process process;
  process.socket = ends[0];
  const int error = posix_spawn(&process.id, "/proc/self/exe", &actions, nullptr, argv.data(), environment.data());
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  if (error != 0) std::exit(2);
  return process;
}

// A started process does not outlive the one that started it.
inline void endWithParent() { prctl(PR_SET_PDEATHSIG, SIGKILL); }

inline void killProcess(Process &process) {
  kill(process.id, SIGKILL);
  waitpid(process.id, nullptr, 0);
  close(process.socket);
  process = {};
}

// The exit code; -1 where the process had to be killed, or died.
inline int endOf(Process &process, int seconds) {
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  int status = 0;
  while (waitpid(process.id, &status, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() > limit) {
      killProcess(process);
      return -1;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  close(process.socket);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// Exits where the other end has died.
inline void sendWindow(int socket, const moe_a2a_window_handle &handle, int fd) {
  iovec part{const_cast<moe_a2a_window_handle *>(&handle), sizeof handle};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr *rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int));
    std::memcpy(CMSG_DATA(rights), &fd, sizeof fd);
  }
  if (sendmsg(socket, &message, MSG_NOSIGNAL) != sizeof handle) std::exit(2);
}

inline void receiveWindow(int socket, moe_a2a_window_handle *handle, int *fd) {
  iovec part{handle, sizeof *handle};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != sizeof *handle) {
    std::fprintf(stderr, "the other process is gone\n");
    std::exit(2);
  }
  *fd = -1;
  if (cmsghdr *rights = CMSG_FIRSTHDR(&message)) std::memcpy(fd, CMSG_DATA(rights), sizeof *fd);
}
