// A rank that is stopped while it waits, as by a reset or a close, gives up its round: it may still send what was
// dispatched, but never offers results of a dispatch that did not arrive.
#include "world.cuh"

namespace {

constexpr int kTokens = 4;

void dispatch(World &w, int r) {
  RankMemory &mem = w.ranks[r];
  moe_a2a_dispatch_args d{};
  d.struct_size = sizeof(d);
  d.num_local_tokens = d.max_tokens = kTokens;
  d.expert_ids = reinterpret_cast<uint64_t>(mem.ids);
  d.payload_count = 1;
  d.payloads[0] = reinterpret_cast<uint64_t>(mem.hidden);
  d.row_bytes[0] = w.hidden * 2;
  d.expert_id_payload = -1;
  CHECK_A2A(moe_a2a_dispatch(mem.rank, &d));
}

void combine(World &w, int r) {
  RankMemory &mem = w.ranks[r];
  moe_a2a_combine_args c{};
  c.struct_size = sizeof(c);
  c.expert_output = mem.window + w.layout.lanes[0].combine;
  c.hidden_size = w.hidden;
  c.dtype = c.out_dtype = MOE_A2A_BFLOAT16;
  c.output = reinterpret_cast<uint64_t>(mem.output);
  CHECK_A2A(moe_a2a_combine(mem.rank, &c));
}

moe_a2a_phase_outcome outcomeOf(World &w, int r, int phase) {
  moe_a2a_phase_outcome outcome{};
  outcome.struct_size = sizeof(outcome);
  CHECK_A2A(moe_a2a_outcome(w.ranks[r].rank, 0, phase, 0xfffffffeu, &outcome));
  return outcome;
}

}  // namespace

int main() {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
    std::printf("no GPU: nothing was run\n");
    return 0;
  }
  World w(2, 4, 2, kTokens, 64, 0, 0, devices, 1, 0, 500);
  for (RankMemory &mem : w.ranks) {
    const std::vector<int32_t> ids = {0, 3, 1, 2, 3, 0, 2, 1};
    CHECK_CUDA(cudaSetDevice(mem.device));
    CHECK_CUDA(cudaMemcpy(mem.ids, ids.data(), ids.size() * 4, cudaMemcpyHostToDevice));
    CHECK_CUDA(cudaMemset(mem.hidden, 1, static_cast<size_t>(kTokens) * w.hidden * 2));
  }
  dispatch(w, 0);
  combine(w, 0);
  CHECK_A2A(moe_a2a_stop(w.ranks[0].rank, 1));
  CHECK_A2A(moe_a2a_drain(w.ranks[0].rank));
  dispatch(w, 1);
  combine(w, 1);
  CHECK_A2A(moe_a2a_drain(w.ranks[1].rank));

  int failures = 0;
  const auto expect = [&](bool holds, const char *what) {
    if (holds) return;
    failures++;
    std::printf("FAILED: %s\n", what);
  };
  expect(!outcomeOf(w, 0, MOE_A2A_DISPATCH).completed, "the stopped rank's dispatch did not complete");
  expect(!outcomeOf(w, 0, MOE_A2A_COMBINE).completed, "nor did its combine");
  expect(outcomeOf(w, 1, MOE_A2A_DISPATCH).completed, "its peer got what it had dispatched");
  const moe_a2a_phase_outcome last = outcomeOf(w, 1, MOE_A2A_COMBINE);
  expect(!last.completed, "but no results");
  expect(last.failure.code == MOE_A2A_FAIL_MISSING && last.failure.missing_mask == 1,
         "and is told who did not offer any");
  std::printf("stop_test: %s\n", failures ? "FAILED" : "ok");
  return failures ? 1 : 0;
}
