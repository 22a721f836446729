// A rank that is stopped while it waits, as by a reset or a close, gives up its round: it may still send what was
// dispatched, but never offers results of a dispatch that did not arrive, nor sends rows of a later round. Whenever it
// is stopped, a phase has all of its results or none.
#include "world.cuh"

namespace {

// How rows go, how many there are, and how their slots are found.
struct Form {
  const char *name;
  int wire, tokens;
  moe_a2a_mapping mapping;
};
const Form kForms[] = {
    {"packets", MOE_A2A_WIRE_CHOSEN, 4, {}},
    {"rows", MOE_A2A_WIRE_ROWS, 4, {}},
    {"rows, in a scan of few blocks", MOE_A2A_WIRE_ROWS, 256, {0, 4, 0, 4, 2}},
    {"rows, in a scan", MOE_A2A_WIRE_ROWS, 256, {0, 4, 0, 0, 2}},
};

int failures = 0;
void expect(bool holds, const Form &form, const char *what) {
  if (holds) return;
  failures++;
  std::printf("FAILED, %s: %s\n", form.name, what);
}

void dispatch(const Form &form, World &w, int r, const uint16_t *rows, bool countsOnDevice = false) {
  RankMemory &mem = w.ranks[r];
  moe_a2a_dispatch_args d{};
  d.struct_size = sizeof(d);
  d.capture = mem.capture;
  d.num_local_tokens = d.max_tokens = form.tokens;
  d.num_local_tokens_ptr = countsOnDevice ? reinterpret_cast<uint64_t>(mem.count) : 0;
  d.expert_ids = reinterpret_cast<uint64_t>(mem.ids);
  d.payload_count = 1;
  d.payloads[0] = reinterpret_cast<uint64_t>(rows);
  d.row_bytes[0] = w.hidden * 2;
  d.expert_id_payload = -1;
  d.mapping = form.mapping;
  CHECK_A2A(moe_a2a_dispatch(mem.rank, &d));
}

void combine(World &w, int r) {
  RankMemory &mem = w.ranks[r];
  moe_a2a_combine_args c{};
  c.struct_size = sizeof(c);
  c.capture = mem.capture;
  c.expert_output = mem.window + w.layout.lanes[0].combine;
  c.hidden_size = w.hidden;
  c.dtype = c.out_dtype = MOE_A2A_BFLOAT16;
  c.output = reinterpret_cast<uint64_t>(mem.output);
  CHECK_A2A(moe_a2a_combine(mem.rank, &c));
}

constexpr uint32_t kFirstRound = 0xfffffffeu;
moe_a2a_phase_outcome outcomeOf(World &w, int r, int phase, uint32_t round = kFirstRound) {
  moe_a2a_phase_outcome outcome{};
  outcome.struct_size = sizeof(outcome);
  CHECK_A2A(moe_a2a_outcome(w.ranks[r].rank, 0, phase, round, &outcome));
  return outcome;
}

// Two ranks, of which the first has rows of ones to send, then some of twos.
class Stopped {
 public:
  Stopped(int devices, const Form &form)
      : w(2, 4, 2, form.tokens, 64, 0, 0, devices, 1, 0, 500, form.wire), form_(form) {
    for (RankMemory &mem : w.ranks) {
      // Every token goes to both.
      std::vector<int32_t> ids;
      while (ids.size() < static_cast<size_t>(form.tokens) * 2) {
        for (const int id : {0, 3, 1, 2, 3, 0, 2, 1}) ids.push_back(id);
      }
      const size_t bytes = static_cast<size_t>(form.tokens) * w.hidden * 2;
      CHECK_CUDA(cudaSetDevice(mem.device));
      CHECK_CUDA(cudaMemcpy(mem.ids, ids.data(), ids.size() * 4, cudaMemcpyHostToDevice));
      CHECK_CUDA(cudaMemset(mem.hidden, 1, bytes));
      CHECK_CUDA(cudaMemset(mem.offered, 2, bytes));
      CHECK_CUDA(cudaMemset(mem.output, 7, bytes));
    }
  }

  void stop() { CHECK_A2A(moe_a2a_stop(w.ranks[0].rank, 1)); }

  // The first rank, which is stopped, gives up; then the other one makes its round.
  void finish() {
    CHECK_A2A(moe_a2a_drain(w.ranks[0].rank));
    dispatch(form_, w, 1, w.ranks[1].hidden);
    combine(w, 1);
    CHECK_A2A(moe_a2a_drain(w.ranks[1].rank));
    expect(!outcomeOf(w, 0, MOE_A2A_DISPATCH).completed, form_, "the stopped rank's dispatch did not complete");
    expect(!outcomeOf(w, 0, MOE_A2A_COMBINE).completed, form_, "nor did its combine");
    expect(outcomeOf(w, 1, MOE_A2A_DISPATCH).completed, form_, "its peer got what it had dispatched");
    std::vector<uint8_t> rows(static_cast<size_t>(w.hidden) * 2);
    const auto *received = reinterpret_cast<const void *>(w.ranks[1].window + w.layout.lanes[0].recv);
    CHECK_CUDA(cudaMemcpy(rows.data(), received, rows.size(), cudaMemcpyDeviceToHost));
    expect(rows == std::vector<uint8_t>(rows.size(), 1), form_, "and nothing else");
    const moe_a2a_phase_outcome last = outcomeOf(w, 1, MOE_A2A_COMBINE);
    expect(!last.completed, form_, "but no results");
    expect(last.failure.code == MOE_A2A_FAIL_MISSING && last.failure.missing_mask == 1, form_,
           "and is told who did not offer any");
  }

  World w;

 private:
  const Form &form_;
};

// `isBefore`: it is stopped before it begins, and yet has to send.
void stopRound(int devices, const Form &form, bool isBefore) {
  Stopped stopped(devices, form);
  if (isBefore) stopped.stop();
  dispatch(form, stopped.w, 0, stopped.w.ranks[0].hidden);
  combine(stopped.w, 0);
  if (!isBefore) stopped.stop();
  stopped.finish();
}

// In a graph the next round begins while the one before ends.
void stopGraph(int devices, const Form &form) {
  Stopped stopped(devices, form);
  World &w = stopped.w;
  RankMemory &mem = w.ranks[0];
  uint64_t graph = 0;
  CHECK_A2A(moe_a2a_capture_begin(mem.device, mem.stream, &mem.capture));
  for (const uint16_t *rows : {mem.hidden, mem.offered}) {
    dispatch(form, w, 0, rows);
    combine(w, 0);
  }
  CHECK_A2A(moe_a2a_capture_end(mem.device, mem.stream, &graph));
  mem.capture = 0;
  CHECK_A2A(moe_a2a_graph_launch(mem.device, graph, mem.stream, 1));
  CHECK_A2A(moe_a2a_note_replay(mem.rank, mem.stream));
  stopped.stop();
  stopped.finish();
  CHECK_A2A(moe_a2a_graph_destroy(mem.device, graph));
}

// How many of the elements of `tokens` rows of output are NaN, as a failed combine leaves them.
size_t spoiledIn(const World &w, int r, int tokens) {
  std::vector<uint16_t> output(static_cast<size_t>(tokens) * w.hidden);
  if (!output.empty())
    CHECK_CUDA(cudaMemcpy(output.data(), w.ranks[r].output, output.size() * 2, cudaMemcpyDeviceToHost));
  size_t count = 0;
  for (const uint16_t bits : output) count += bits == 0x7fc0;
  return count;
}

// A rank that is stopped before its first round begins.
void stopBefore(int devices, const Form &form) {
  Stopped stopped(devices, form);
  World &w = stopped.w;
  CHECK_A2A(moe_a2a_stop(w.ranks[0].rank, 0));
  dispatch(form, w, 0, w.ranks[0].hidden);
  combine(w, 0);
  CHECK_A2A(moe_a2a_drain(w.ranks[0].rank));
  expect(spoiledIn(w, 0, form.tokens) == static_cast<size_t>(form.tokens) * w.hidden, form, "all output is spoiled");
}

// Two rounds, the first rank with `tokens` as its device says, which is stopped after so many questions of the host's.
void stopAtAnyTime(int devices, const Form &form, int questions, bool mayFinish, int tokens) {
  Stopped stopped(devices, form);
  World &w = stopped.w;
  RankMemory &mem = w.ranks[0];
  CHECK_CUDA(cudaSetDevice(mem.device));
  CHECK_CUDA(cudaMemcpy(mem.count, &tokens, sizeof(tokens), cudaMemcpyHostToDevice));
  for (int i = 0; i < 2; i++) {
    for (const int r : {1, 0}) {
      dispatch(form, w, r, w.ranks[r].hidden, r == 0);
      combine(w, r);
    }
  }
  int32_t leftOut = 0;
  for (int i = 0; i < questions; i++) CHECK_A2A(moe_a2a_is_left_out(mem.rank, &leftOut));
  CHECK_A2A(moe_a2a_stop(mem.rank, mayFinish));
  for (RankMemory &each : w.ranks) CHECK_A2A(moe_a2a_drain(each.rank));
  for (int r = 0; r < 2; r++) {
    const int own = r == 0 ? tokens : form.tokens;
    bool completed = true;
    for (int i = 0; i < 4; i++) {
      const bool before = completed;
      completed = outcomeOf(w, r, i % 2, kFirstRound + i / 2).completed;
      expect(before || !completed, form, "phases complete in order");
    }
    const bool received = outcomeOf(w, r, MOE_A2A_DISPATCH, kFirstRound + 1).completed;
    int32_t counts[2];
    const auto *at = reinterpret_cast<const void *>(w.ranks[r].own + w.layout.lanes[0].recv_counts);
    CHECK_CUDA(cudaMemcpy(counts, at, sizeof(counts), cudaMemcpyDeviceToHost));
    expect(counts[0] == (received ? tokens : 0) && counts[1] == (received ? form.tokens : 0), form,
           "counts are there if the dispatch completed, else 0");
    expect(spoiledIn(w, r, own) == (completed ? 0 : static_cast<size_t>(own) * w.hidden), form,
           "all output is there if the combine completed, else none");
  }
}

}  // namespace

int main() {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::printf("no GPU: nothing was run\n");
    return 0;
  }
  for (const Form &form : kForms) {
    stopRound(devices, form, false);
    stopRound(devices, form, true);
    stopGraph(devices, form);
    stopBefore(devices, form);
    for (int i = 0; i < 4; i++) {
      stopAtAnyTime(devices, form, 7 * i, i % 2, i == 3 ? form.tokens : i == 2 ? form.tokens / 2 : 0);
    }
  }
  std::printf("stop_test: %s\n", failures ? "FAILED" : "ok");
  return failures ? 1 : 0;
}
