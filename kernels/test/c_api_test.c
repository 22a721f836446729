/* A plain C program that makes a round among ranks of one GPU; without a GPU it sees that it is refused politely. */
#include <stdio.h>
#include <string.h>

#include "moe_a2a.h"

#define RANKS 2
#define TOKENS 3
#define HIDDEN 8

static int failed(const char *what) {
  struct moe_a2a_error error;
  moe_a2a_last_error(&error);
  printf("FAILED: %s: %s %s %s\n", what, error.call, error.cuda_name, error.message);
  return 1;
}

/* Phases go where they are for: into the capture that they name, or nowhere that is captured. */
static int capture(moe_a2a_rank *rank, uint64_t stream, uint64_t window, uint64_t output) {
  struct moe_a2a_dispatch_args dispatch = {
      .struct_size = sizeof(dispatch), .max_tokens = TOKENS, .payload_count = 1, .expert_id_payload = -1};
  struct moe_a2a_combine_args combine = {
      .struct_size = sizeof(combine), .expert_output = window, .hidden_size = HIDDEN, .output = output};
  uint64_t name = 0, now = 0, graph = 0;

  dispatch.row_bytes[0] = HIDDEN * 4;
  dispatch.capture = 1;
  if (moe_a2a_dispatch(rank, &dispatch) != MOE_A2A_CAPTURED_OTHERWISE) return failed("a dispatch for no capture");
  if (moe_a2a_capture_begin(0, stream, &name) || name == 0) return failed("capture_begin");
  if (moe_a2a_stream_capturing(0, stream, &now) || now != name) return failed("stream_capturing");
  dispatch.capture = name + 1;
  if (moe_a2a_dispatch(rank, &dispatch) != MOE_A2A_CAPTURED_OTHERWISE) return failed("a dispatch for another capture");
  dispatch.capture = 0;
  if (moe_a2a_dispatch(rank, &dispatch) != MOE_A2A_CAPTURED_OTHERWISE) return failed("a dispatch that would not run");
  dispatch.capture = name;
  if (moe_a2a_dispatch(rank, &dispatch)) return failed("a captured dispatch");
  if (moe_a2a_combine(rank, &combine) != MOE_A2A_CAPTURED_OTHERWISE) return failed("a combine that would not run");
  combine.capture = name;
  if (moe_a2a_combine(rank, &combine)) return failed("a captured combine");
  if (moe_a2a_capture_end(0, stream, &graph)) return failed("capture_end");
  if (moe_a2a_stream_capturing(0, stream, &now) || now != 0) return failed("the end of a capture");
  if (moe_a2a_dispatch(rank, &dispatch) != MOE_A2A_CAPTURED_OTHERWISE)
    return failed("a dispatch for a capture that is over");
  /* Into another capture it would not run either. */
  if (moe_a2a_capture_begin(0, stream, &name)) return failed("capture_begin");
  if (moe_a2a_graph_launch(0, graph, stream, 1) != MOE_A2A_CAPTURED_OTHERWISE)
    return failed("a graph that would not run");
  if (moe_a2a_capture_end(0, stream, &now) == MOE_A2A_OK && moe_a2a_graph_destroy(0, now)) return failed("destroy");
  return moe_a2a_graph_destroy(0, graph) ? failed("graph_destroy") : 0;
}

int main(void) {
  struct moe_a2a_platform_info platform = {.struct_size = sizeof(platform)};
  struct moe_a2a_config config = {.struct_size = sizeof(config),
                                  .ep_size = RANKS,
                                  .num_experts = 4,
                                  .top_k = 1,
                                  .max_tokens_per_rank = TOKENS,
                                  .max_dispatch_bytes_per_token = HIDDEN * 4,
                                  .max_combine_bytes_per_token = HIDDEN * 4,
                                  .timeout_ms = 5000,
                                  .rounds_in_flight = 1};
  struct moe_a2a_rank_options options = {.struct_size = sizeof(options), .ranks_on_device = RANKS};
  moe_a2a_rank *ranks[RANKS] = {0};
  uint64_t windows[RANKS], bytes, ids[RANKS], rows[RANKS], outputs[RANKS], streams[RANKS];
  int32_t devices[RANKS] = {0};
  const int32_t chosen[TOKENS] = {3, 0, 3};
  float sent[TOKENS * HIDDEN], returned[TOKENS * HIDDEN];
  int32_t r, i;

  if (moe_a2a_platform(&platform) != MOE_A2A_OK) return failed("platform");
  if (platform.device_count == 0) {
    if (moe_a2a_rank_create(&config, &options, &ranks[0]) == MOE_A2A_OK) return failed("a rank without a GPU");
    printf("c_api_test: no GPU: refused politely, ok\n");
    return 0;
  }
  for (i = 0; i < TOKENS * HIDDEN; i++) sent[i] = (float)i * 0.5f;
  for (r = 0; r < RANKS; r++) {
    options.rank = r;
    if (moe_a2a_rank_create(&config, &options, &ranks[r])) return failed("rank_create");
    if (moe_a2a_rank_window(ranks[r], &windows[r], &bytes)) return failed("rank_window");
    if (moe_a2a_rank_stream(ranks[r], &streams[r])) return failed("rank_stream");
    if (moe_a2a_alloc(0, sizeof(chosen), &ids[r]) || moe_a2a_alloc(0, sizeof(sent), &rows[r]) ||
        moe_a2a_alloc(0, sizeof(sent), &outputs[r]))
      return failed("alloc");
    if (moe_a2a_copy(0, ids[r], (uint64_t)(uintptr_t)chosen, sizeof(chosen), streams[r]) ||
        moe_a2a_copy(0, rows[r], (uint64_t)(uintptr_t)sent, sizeof(sent), streams[r]))
      return failed("copy");
  }
  for (r = 0; r < RANKS; r++) {
    if (moe_a2a_rank_connect(ranks[r], windows, devices)) return failed("rank_connect");
  }
  if (capture(ranks[0], streams[0], windows[0], outputs[0])) return 1;
  /* Rank 1 has no token, and takes part all the same. */
  for (r = 0; r < RANKS; r++) {
    struct moe_a2a_dispatch_args dispatch = {.struct_size = sizeof(dispatch),
                                             .num_local_tokens = r == 0 ? TOKENS : 0,
                                             .max_tokens = TOKENS,
                                             .expert_ids = r == 0 ? ids[r] : 0,
                                             .payload_count = 1,
                                             .payloads = {r == 0 ? rows[r] : 0},
                                             .row_bytes = {HIDDEN * 4},
                                             .expert_id_payload = -1};
    if (moe_a2a_dispatch(ranks[r], &dispatch)) return failed("dispatch");
  }
  for (r = 0; r < RANKS; r++) {
    struct moe_a2a_layout layout = {.struct_size = sizeof(layout)};
    struct moe_a2a_combine_args combine = {.struct_size = sizeof(combine), .hidden_size = HIDDEN, .output = outputs[r]};
    if (moe_a2a_plan(&config, &layout)) return failed("plan");
    /* The experts give back what they got. */
    combine.expert_output = windows[r] + layout.lanes[0].recv;
    if (moe_a2a_combine(ranks[r], &combine)) return failed("combine");
  }
  for (r = 0; r < RANKS; r++) {
    struct moe_a2a_phase_outcome outcome = {.struct_size = sizeof(outcome)};
    if (moe_a2a_drain(ranks[r])) return failed("drain");
    if (moe_a2a_outcome(ranks[r], 0, MOE_A2A_COMBINE, 0, &outcome)) return failed("outcome");
    if (!outcome.completed) return failed("the combine");
  }
  if (moe_a2a_copy(0, (uint64_t)(uintptr_t)returned, outputs[0], sizeof(returned), streams[0]) ||
      moe_a2a_stream_synchronize(0, streams[0]))
    return failed("copy back");
  if (memcmp(sent, returned, sizeof(sent)) != 0) return failed("what came back");
  for (r = 0; r < RANKS; r++) {
    moe_a2a_free(0, ids[r]);
    moe_a2a_free(0, rows[r]);
    moe_a2a_free(0, outputs[r]);
    moe_a2a_rank_destroy(ranks[r]);
  }
  printf("c_api_test: ok\n");
  return 0;
}
