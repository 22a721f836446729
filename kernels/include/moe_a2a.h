/*
 * Mixture-of-experts all-to-all on CUDA: one object per rank, one kernel launch per phase.
 *
 * What a round means is written in docs/semantics.md, how ranks exchange it in docs/protocol.md. Callers check their
 * arguments: here only what would write outside the workspace is refused. Functions return MOE_A2A_OK or a negative
 * error; moe_a2a_last_error() tells more. A rank's functions are called from one thread at a time.
 *
 * Pointers to device memory, streams, events and graphs are plain integers (uint64_t), so that no CUDA header is
 * needed.
 */
#ifndef MOE_A2A_H
#define MOE_A2A_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MOE_A2A_VERSION 3
#define MOE_A2A_MAX_RANKS 64
#define MOE_A2A_MAX_TOP_K 32
#define MOE_A2A_MAX_PAYLOADS 8
#define MOE_A2A_MAX_LANES 2
/** So many of a lane's last phases of one kind have an event of their own. */
#define MOE_A2A_PHASE_EVENTS 8

enum moe_a2a_result {
  MOE_A2A_OK = 0,
  /** Not finished yet (moe_a2a_event_query). */
  MOE_A2A_PENDING = 1,
  MOE_A2A_INVALID = -1,
  /** A CUDA call failed; moe_a2a_last_error() names it. */
  MOE_A2A_CUDA = -2,
  MOE_A2A_OUT_OF_MEMORY = -3,
  /** A phase or graph was not launched: its stream is captured otherwise than its arguments say. */
  MOE_A2A_CAPTURED_OTHERWISE = -4,
};

enum moe_a2a_dtype { MOE_A2A_FLOAT32 = 0, MOE_A2A_FLOAT16 = 1, MOE_A2A_BFLOAT16 = 2 };
/** MOE_A2A_RESET is told in failures alone. */
enum moe_a2a_phase { MOE_A2A_DISPATCH = 0, MOE_A2A_COMBINE = 1, MOE_A2A_RESET = 2 };

/* -- Errors -------------------------------------------------------------------------------------------------------- */

/** What the last failed call of this thread failed at. */
struct moe_a2a_error {
  uint32_t struct_size;
  int32_t result;
  /** cudaError_t or CUresult, 0 where no CUDA call failed. */
  int32_t cuda_error;
  /** Name of the CUDA call, or "". */
  char call[64];
  /** Name of the CUDA error, such as cudaErrorNoDevice, or "". */
  char cuda_name[64];
  char message[256];
};
void moe_a2a_last_error(struct moe_a2a_error *error);

/* -- The machine --------------------------------------------------------------------------------------------------- */

struct moe_a2a_platform_info {
  uint32_t struct_size;
  /** 1000 * major + 10 * minor of the driver, 0 where there is none, and of the runtime built in. */
  int32_t driver_version;
  int32_t runtime_version;
  int32_t device_count;
  /** cudaError_t of counting devices. */
  int32_t device_error;
};
/** Never fails: says what there is. */
int32_t moe_a2a_platform(struct moe_a2a_platform_info *platform);

struct moe_a2a_device_info {
  uint32_t struct_size;
  int32_t compute_major;
  int32_t compute_minor;
  int32_t multiprocessors;
  uint64_t total_bytes;
  char name[128];
  char pci_bus_id[32];
  /** Names the GPU, or the part of it, in every process of the host: ranks with the same one share it. */
  uint8_t uuid[16];
};
int32_t moe_a2a_device(int32_t device, struct moe_a2a_device_info *info);
/** Bytes free and in all; makes the device's context where there is none. */
int32_t moe_a2a_memory(int32_t device, uint64_t *free_bytes, uint64_t *total_bytes);
/** `*can` is 1 where kernels on `device` can load and store memory of `peer`; also where both are one. */
int32_t moe_a2a_can_access_peer(int32_t device, int32_t peer, int32_t *can);

/* -- Workspace ----------------------------------------------------------------------------------------------------- */

struct moe_a2a_config {
  uint32_t struct_size;
  int32_t ep_size;
  int32_t num_experts;
  int32_t top_k;
  int32_t max_tokens_per_rank;
  int32_t max_dispatch_bytes_per_token;
  int32_t max_combine_bytes_per_token;
  int32_t max_expert_stats;
  /** 1: ids outside [-1, num_experts) are dropped and counted; 0: they fail the round. */
  int32_t drop_invalid_experts;
  int32_t timeout_ms;
  /** Lanes. */
  int32_t rounds_in_flight;
};

/** Byte offsets of one lane's regions; those of planWorkspace() in packages/core. */
struct moe_a2a_lane_layout {
  uint64_t dispatch_flags;
  uint64_t combine_flags;
  uint64_t dispatch_headers;
  uint64_t combine_headers;
  uint64_t expert_stats;
  uint64_t recv;
  uint64_t combine;
  uint64_t dispatch_packets;
  uint64_t combine_packets;
  uint64_t recv_counts;
  uint64_t gathered_stats;
  uint64_t entry_ranks;
  uint64_t entry_slots;
  uint64_t entry_counts;
  uint64_t send_counts;
  uint64_t last_tokens;
  uint64_t runs;
  uint64_t tile_counts;
  uint64_t piece_marks;
  uint64_t output;
};

struct moe_a2a_layout {
  uint32_t struct_size;
  /** Window. */
  uint64_t control;
  uint64_t abort_records;
  /** Private memory. */
  uint64_t state;
  uint64_t accumulator;
  struct moe_a2a_lane_layout lanes[MOE_A2A_MAX_LANES];
  uint64_t recv_buffer_bytes;
  uint64_t stats_row_bytes;
  int32_t max_targets;
  uint64_t window_bytes;
  uint64_t private_bytes;
};
/** Lays out one rank's window and private memory; MOE_A2A_INVALID for a config out of range. Needs no GPU. */
int32_t moe_a2a_plan(const struct moe_a2a_config *config, struct moe_a2a_layout *layout);

/* -- A rank -------------------------------------------------------------------------------------------------------- */

typedef struct moe_a2a_rank moe_a2a_rank;

enum moe_a2a_shareable {
  MOE_A2A_NOT_SHAREABLE = 0,
  /** By a file descriptor; by CUDA IPC on a device without virtual memory management. */
  MOE_A2A_SHAREABLE = 1,
  /** By a fabric handle where the machine grants one, else like MOE_A2A_SHAREABLE. */
  MOE_A2A_SHAREABLE_FABRIC = 2,
  /** By CUDA IPC, for tests: the memory may go with the process that it is of. */
  MOE_A2A_SHAREABLE_IPC = 3,
};

/** How rows go over the wire; equal on all ranks. */
enum moe_a2a_wire_form {
  /** In packets where there are few, else in rows, with results pushed where there are many and few SMs; from values
   * that all ranks agree on. */
  MOE_A2A_WIRE_CHOSEN = 0,
  /** In rows; results are pulled. */
  MOE_A2A_WIRE_ROWS = 1,
  /** In rows; results are pushed wherever the workspace has room for them. */
  MOE_A2A_WIRE_PUSHED_ROWS = 2,
};

struct moe_a2a_rank_options {
  uint32_t struct_size;
  int32_t rank;
  int32_t device;
  /** Low 32 bits of the number of the first round, equal on all ranks. */
  uint32_t first_round;
  /** Most SMs that a phase's blocks take; 0: all. */
  int32_t max_sms;
  /** 1: padding slots of payloads other than the expert ids are filled with 0xFF bytes. */
  int32_t fill_padding;
  /** Ranks (this one included) of all processes whose blocks wait on this GPU at the same time; 0 means 1. */
  int32_t ranks_on_device;
  /** enum moe_a2a_shareable: whether ranks in other processes can map this rank's window. */
  int32_t shareable;
  /** enum moe_a2a_wire_form. */
  int32_t wire_form;
  /** Least `max_sms` of all ranks that set one, equal on all ranks; 0: none does. */
  int32_t fewest_sms;
};

/** Allocates window and private memory, loads the kernels, starts with generation 0 and all ranks active. */
int32_t moe_a2a_rank_create(const struct moe_a2a_config *config, const struct moe_a2a_rank_options *options,
                            moe_a2a_rank **rank);
/** Address of this rank's window, to be told to its peers in the same process; for others see below. */
int32_t moe_a2a_rank_window(const moe_a2a_rank *rank, uint64_t *address, uint64_t *bytes);
/** In place of a device: the window was imported, which gave this rank's device access. Its GPU may be unknown here. */
#define MOE_A2A_ELSEWHERE (-1)
/**
 * Takes every rank's window address in this process, by rank, and the device that each lies on, or MOE_A2A_ELSEWHERE.
 * Windows of this process are open to all devices which are able to reach them, imported ones to the device that they
 * were imported for. They must stay mapped until moe_a2a_rank_destroy(). `windows[rank]` is this rank's own.
 */
int32_t moe_a2a_rank_connect(moe_a2a_rank *rank, const uint64_t *windows, const int32_t *devices);
/** Frees private memory; the window too, unless it was detached. No work of the rank may be in flight. */
void moe_a2a_rank_destroy(moe_a2a_rank *rank);
/** Takes the window out of the rank's ownership: peers may still write to it. Free it with moe_a2a_free_window(). */
int32_t moe_a2a_rank_detach_window(moe_a2a_rank *rank);
/** Address of this rank's private memory. */
int32_t moe_a2a_rank_private(const moe_a2a_rank *rank, uint64_t *address, uint64_t *bytes);
/** The rank's own stream. */
int32_t moe_a2a_rank_stream(const moe_a2a_rank *rank, uint64_t *stream);

/* -- Windows of other processes ------------------------------------------------------------------------------------ */

enum moe_a2a_window_kind {
  /** A file descriptor goes with the handle. Whoever imported the window keeps its memory, whatever its owner does. */
  MOE_A2A_WINDOW_DESCRIPTOR = 1,
  MOE_A2A_WINDOW_FABRIC = 2,
  /** CUDA IPC: the memory may go with its owner, and the owner's own process cannot import it. */
  MOE_A2A_WINDOW_IPC = 3,
};

#define MOE_A2A_WINDOW_OPAQUE_BYTES 64

/** What another process needs to map a window: plain bytes, for the same version of this library on the same host. */
struct moe_a2a_window_handle {
  uint32_t struct_size;
  /** enum moe_a2a_window_kind. */
  int32_t kind;
  /** Of the window, and rounded up to whole pages. */
  uint64_t bytes;
  uint64_t mapped_bytes;
  /** Of the GPU that the window lies on, as in struct moe_a2a_device_info. */
  uint8_t device_uuid[16];
  uint8_t opaque[MOE_A2A_WINDOW_OPAQUE_BYTES];
};
/**
 * Tells how to map the window of a rank that was created as shareable. `*fd` is a new descriptor with FD_CLOEXEC, to be
 * sent with the handle and closed; -1 where the kind needs none.
 */
int32_t moe_a2a_rank_export_window(const moe_a2a_rank *rank, struct moe_a2a_window_handle *handle, int32_t *fd);
/**
 * Maps a window where `device` can load and store it. The descriptor stays the caller's, and may be closed at once. One
 * import serves all ranks of this process on that device.
 */
int32_t moe_a2a_import_window(int32_t device, const struct moe_a2a_window_handle *handle, int32_t fd,
                              uint64_t *address);
/**
 * Lets go of an imported window: no kernel may use it any more. Unmapping may wait for kernels that wait for peers, so
 * it is done when no rank of this process is at work: now, or when a window is made, imported or let go of later. The
 * same goes for a rank's own shareable window.
 */
int32_t moe_a2a_release_imported_window(uint64_t address);

/* -- A round ------------------------------------------------------------------------------------------------------- */

/** How a phase's work is cut; 0 everywhere lets the library choose (docs/protocol.md, kernels/README.md). */
struct moe_a2a_mapping {
  /** 1: one warp per token, 2: one block per token. */
  int32_t kind;
  /** Tokens of one piece of work, 1 to 32. */
  int32_t tokens_per_tile;
  /** Blocks that share one row, 1 to 64. */
  int32_t splits;
  /** Blocks of the launch; may be more than fit the GPU. */
  int32_t blocks;
  /** How a tile learns its first slots. 1: counts all ids before it; 2: a scan over the tiles before it. */
  int32_t slots_by;
};

struct moe_a2a_dispatch_args {
  uint32_t struct_size;
  int32_t lane;
  uint64_t stream;
  /** What moe_a2a_capture_begin() gave, where the phase has to become part of that capture, or 0; refused otherwise. */
  uint64_t capture;
  /** Tokens of this rank; with `num_local_tokens_ptr` the rows of the inputs. */
  int32_t num_local_tokens;
  /** Device int32 with the number of tokens, or 0. */
  uint64_t num_local_tokens_ptr;
  int32_t max_tokens;
  uint64_t expert_ids;
  int32_t payload_count;
  uint64_t payloads[MOE_A2A_MAX_PAYLOADS];
  int32_t row_bytes[MOE_A2A_MAX_PAYLOADS];
  /** -1 where no payload holds expert ids. */
  int32_t expert_id_payload;
  int32_t invalid_expert_id;
  uint64_t expert_stats;
  int32_t stats_length;
  struct moe_a2a_mapping mapping;
};
/** Byte offset, in the window, of payload `index` as [ep_size, max_tokens, row_bytes]. */
int32_t moe_a2a_recv_offset(const moe_a2a_rank *rank, const struct moe_a2a_dispatch_args *dispatch, int32_t index,
                            uint64_t *offset);
/** Enqueues a dispatch. Takes part also with no token at all; pointers to no rows may be 0. */
int32_t moe_a2a_dispatch(moe_a2a_rank *rank, const struct moe_a2a_dispatch_args *dispatch);

struct moe_a2a_combine_args {
  uint32_t struct_size;
  int32_t lane;
  uint64_t stream;
  /** As in moe_a2a_dispatch_args. */
  uint64_t capture;
  /** [ep_size, max_tokens, hidden_size]; copied into the window unless it already lies there. */
  uint64_t expert_output;
  int32_t hidden_size;
  /** enum moe_a2a_dtype of the expert output, and of the output. */
  int32_t dtype;
  int32_t out_dtype;
  uint64_t output;
  struct moe_a2a_mapping mapping;
};
/** Enqueues the combine of the lane's last dispatch, with its counts, slots and `max_tokens`. */
int32_t moe_a2a_combine(moe_a2a_rank *rank, const struct moe_a2a_combine_args *combine);

/* -- What became of it --------------------------------------------------------------------------------------------- */

enum moe_a2a_failure_code {
  MOE_A2A_NO_FAILURE = 0,
  /** Expert id out of range: token, k, id. */
  MOE_A2A_FAIL_EXPERT_ID = 1,
  /** The device's token count is out of range: value, limit. */
  MOE_A2A_FAIL_CAPACITY = 2,
  /** Ranks disagree on `field`; values[rank * values_per_rank ...]. */
  MOE_A2A_FAIL_MISMATCH = 3,
  /** missing_mask, kind. */
  MOE_A2A_FAIL_MISSING = 4,
  /** abort(): text holds the reason. */
  MOE_A2A_FAIL_ABORTED = 5,
  /** A reset of the others left this rank out. */
  MOE_A2A_FAIL_LEFT_OUT = 6,
};

enum moe_a2a_field {
  MOE_A2A_FIELD_GENERATION = 0,
  MOE_A2A_FIELD_ROUND = 1,
  MOE_A2A_FIELD_MAX_TOKENS = 2,
  MOE_A2A_FIELD_PAYLOAD_COUNT = 3,
  MOE_A2A_FIELD_ROW_BYTES = 4,
  MOE_A2A_FIELD_STATS_LENGTH = 5,
  MOE_A2A_FIELD_HIDDEN_SIZE = 6,
  MOE_A2A_FIELD_DTYPE = 7,
};

enum moe_a2a_missing_kind { MOE_A2A_TIMEOUT = 0, MOE_A2A_CLOSED = 1, MOE_A2A_LOST = 2 };

/** Room for the reason of an abort; longer ones are cut. */
#define MOE_A2A_TEXT_BYTES 768

/** A rank's first failure since the last reset. */
struct moe_a2a_failure {
  uint32_t struct_size;
  int32_t code;
  /** The rank that found it: this one, or a peer that told it. */
  int32_t found_by;
  int32_t phase;
  int32_t lane;
  /** Low 32 bits. */
  uint32_t round;
  int32_t kind;
  int32_t field;
  uint64_t missing_mask;
  /** EXPERT_ID: rank, token, k, id. CAPACITY: rank, value, limit. */
  int32_t rank;
  int32_t token;
  int32_t k;
  int32_t id;
  int32_t value;
  int32_t limit;
  /** Ranks whose values are told. */
  uint64_t values_mask;
  int32_t values_per_rank;
  /** Row bytes: as many as payloads of each rank, the others -1. */
  int32_t values[MOE_A2A_MAX_RANKS * MOE_A2A_MAX_PAYLOADS];
  int32_t text_bytes;
  char text[MOE_A2A_TEXT_BYTES];
};

/** What a dispatch came to. */
struct moe_a2a_report {
  uint32_t struct_size;
  /** 0 where the report was overwritten by later rounds. */
  int32_t known;
  int32_t num_local_tokens;
  int32_t tokens_sent;
  int32_t tokens_received;
  int32_t dropped_padding;
  int32_t dropped_invalid;
  int32_t dropped_inactive;
  /** How long this rank waited for each, in nanoseconds. */
  uint64_t wait_ns[MOE_A2A_MAX_RANKS];
};

/** What a phase came to; `completed` is 1 where it succeeded, also where the rank has failed since. */
struct moe_a2a_phase_outcome {
  uint32_t struct_size;
  int32_t completed;
  struct moe_a2a_failure failure;
  struct moe_a2a_report report;
};
/**
 * Reads what became of a phase that has run (its event has passed). Blocks for one small copy, never for a peer.
 * `round` is the low 32 bits of its number.
 */
int32_t moe_a2a_outcome(moe_a2a_rank *rank, int32_t lane, int32_t phase, uint32_t round,
                        struct moe_a2a_phase_outcome *outcome);
/** Whether the rank has failed, from mapped host memory: no call into the driver. */
int32_t moe_a2a_has_failed(const moe_a2a_rank *rank);
/**
 * MOE_A2A_PHASE_EVENTS events, for moe_a2a_event_query(): they pass with the lane's phases of that kind, taken in turn
 * from the first on; a phase of a capture takes none.
 */
int32_t moe_a2a_phase_events(const moe_a2a_rank *rank, int32_t lane, int32_t phase, uint64_t *events);
/** The one that passes with the lane's last phase of that kind. */
int32_t moe_a2a_phase_event(const moe_a2a_rank *rank, int32_t lane, int32_t phase, uint64_t *event);

/* -- Failing, leaving, starting again ------------------------------------------------------------------------------ */

/**
 * Fails the rank and tells all active peers: kernels that wait end at once. `reason` is UTF-8, cut to
 * MOE_A2A_TEXT_BYTES. Does nothing where the rank has failed already.
 */
int32_t moe_a2a_abort(moe_a2a_rank *rank, const char *reason, int32_t reason_bytes);
/**
 * Lets enqueued phases end without waiting for peers, and fails them. With `still_send` they send what they have to
 * before they give up: peers may wait for a dispatch that was made before a reset or a close. Without it they send
 * nothing.
 */
int32_t moe_a2a_stop(moe_a2a_rank *rank, int32_t still_send);
/** Tells this rank's kernels that `peer` has closed or was lost (enum moe_a2a_missing_kind). */
int32_t moe_a2a_mark_gone(moe_a2a_rank *rank, int32_t peer, int32_t kind);
/** Writes into the windows of all peers that this rank closes. They must still be mapped. */
int32_t moe_a2a_announce_close(moe_a2a_rank *rank);
/** Whether a reset of others has left this rank out; reads this rank's window. */
int32_t moe_a2a_is_left_out(moe_a2a_rank *rank, int32_t *left_out);

/** To be called after each launch of a graph with phases of the rank: closing and draining have to wait for it. */
int32_t moe_a2a_note_replay(moe_a2a_rank *rank, uint64_t stream);
/** An event that passes with the last graph that was noted. */
int32_t moe_a2a_replay_event(const moe_a2a_rank *rank, uint64_t *event);
/**
 * Waits for the phases of the rank that are enqueued, and the last graph that was noted. Bounded: kernels have
 * deadlines, and end at once after a failure.
 */
int32_t moe_a2a_drain(moe_a2a_rank *rank);
/** First half of a reset, between its meetings: cleans this rank's window; `next_rounds` by lane. */
int32_t moe_a2a_clean(moe_a2a_rank *rank, const uint32_t *next_rounds);
/** Raises the generation in this rank's window and in those of the ranks not in `active_mask`. */
int32_t moe_a2a_raise_generation(moe_a2a_rank *rank, int32_t generation, uint64_t active_mask);
/**
 * After a reset that failed between its meetings: tells the ranks in `mask`, which may have met all the same, in the
 * generation that they are in then. Of `failure`, code, phase, kind and missing_mask count.
 */
int32_t moe_a2a_tell_failed_reset(moe_a2a_rank *rank, const struct moe_a2a_failure *failure, int32_t generation,
                                  uint64_t mask, const uint32_t *next_rounds);
/** Last step of a reset: takes the new membership, rounds and generation, and forgets the failure. */
int32_t moe_a2a_start_generation(moe_a2a_rank *rank, int32_t generation, uint64_t active_mask,
                                 const uint32_t *next_rounds);

/* -- Tests --------------------------------------------------------------------------------------------------------- */

/** Delays, in nanoseconds, that a rank's phases insert: to show that no order of events is relied upon. */
struct moe_a2a_delays {
  uint32_t struct_size;
  uint32_t before_stores[2];
  uint32_t before_flag[2];
  uint32_t after_flag[2];
  uint32_t after_wait[2];
};
int32_t moe_a2a_set_delays(moe_a2a_rank *rank, const struct moe_a2a_delays *delays);
/** The mapping that the library would choose for a phase of `tokens` rows of `row_bytes`. Needs no GPU. */
int32_t moe_a2a_choose_mapping(int32_t phase, int32_t tokens, int32_t row_bytes, int32_t max_blocks,
                               struct moe_a2a_mapping *mapping);

/* -- Memory, streams, graphs --------------------------------------------------------------------------------------- */

int32_t moe_a2a_alloc(int32_t device, uint64_t bytes, uint64_t *address);
int32_t moe_a2a_free(int32_t device, uint64_t address);
/** Frees a detached window, without waiting: no kernel may use it any more. */
int32_t moe_a2a_free_window(int32_t device, uint64_t address);
/** Pinned host memory. */
int32_t moe_a2a_host_alloc(uint64_t bytes, void **memory);
int32_t moe_a2a_host_free(void *memory);
/** Copies between host and device or two devices, by address; enqueues. */
int32_t moe_a2a_copy(int32_t device, uint64_t target, uint64_t source, uint64_t bytes, uint64_t stream);
int32_t moe_a2a_fill(int32_t device, uint64_t target, int32_t byte, uint64_t bytes, uint64_t stream);
/** Which device an address belongs to; -1 where it is not device memory. */
int32_t moe_a2a_pointer_device(uint64_t address, int32_t *device);

int32_t moe_a2a_stream_create(int32_t device, uint64_t *stream);
int32_t moe_a2a_stream_destroy(int32_t device, uint64_t stream);
/** Blocks the calling thread. */
int32_t moe_a2a_stream_synchronize(int32_t device, uint64_t stream);

int32_t moe_a2a_event_create(int32_t device, uint64_t *event);
int32_t moe_a2a_event_destroy(int32_t device, uint64_t event);
int32_t moe_a2a_event_record(int32_t device, uint64_t event, uint64_t stream);
/** Lets `stream` wait for an event. */
int32_t moe_a2a_event_wait(int32_t device, uint64_t event, uint64_t stream);
/** MOE_A2A_OK once the event has passed, MOE_A2A_PENDING before. */
int32_t moe_a2a_event_query(int32_t device, uint64_t event);
/** Blocks the calling thread. */
int32_t moe_a2a_event_synchronize(int32_t device, uint64_t event);
/** Milliseconds between two events that have passed; they need to be made with timing (moe_a2a_timer_create). */
int32_t moe_a2a_timer_create(int32_t device, uint64_t *event);
int32_t moe_a2a_event_elapsed(int32_t device, uint64_t start, uint64_t end, float *milliseconds);

/** `*capture` names it, for the arguments of its phases. */
int32_t moe_a2a_capture_begin(int32_t device, uint64_t stream, uint64_t *capture);
/** Ends a capture and makes it launchable; an empty or broken capture is an error. */
int32_t moe_a2a_capture_end(int32_t device, uint64_t stream, uint64_t *graph);
/** `*capture` names the capture that `stream` is part of; 0 where there is none. */
int32_t moe_a2a_stream_capturing(int32_t device, uint64_t stream, uint64_t *capture);
/** MOE_A2A_CAPTURED_OTHERWISE where `stream` is captured. */
int32_t moe_a2a_graph_launch(int32_t device, uint64_t graph, uint64_t stream, int32_t times);
int32_t moe_a2a_graph_destroy(int32_t device, uint64_t graph);

#ifdef __cplusplus
}
#endif

#endif
