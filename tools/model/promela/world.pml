/*
 * The world of the model: its parameters, the numbers on the wire, what lies in a window, and what is there only to be
 * checked. The runner sets the parameters (tools/model/configurations.mjs).
 */
#ifndef N
#define N 2              /* ranks, 2 or 3 */
#endif
#ifndef LANES
#define LANES 1          /* 1 or 2 */
#endif
#ifndef BITS
#define BITS 2           /* of a round number on the wire, 2 or 3 */
#endif
#ifndef FIRST
#define FIRST 3          /* the first round; with 2 bits the next one wraps */
#endif
#ifndef ROUNDS
#define ROUNDS 2         /* per lane, before a reset where there is one */
#endif
#ifndef MORE
#define MORE 1           /* rounds per lane after each reset */
#endif
#ifndef TOKENS
#define TOKENS 0         /* of a rank in a round, 0: none or one; 1: one; 2: rank 0 none, others one; 3: in turn */
#endif
#ifndef SLOTS
#define SLOTS 0          /* m of a round, 0: 1; 1: 0 or 1; 2: 1 or 2; 3: 1 or 3; 4: 0 to 3 */
#endif
#ifndef PACKETS
#define PACKETS 0        /* mask of the phases that go in packets unless m is 2, 1: dispatch, 2: combine; 4: a dispatch
                            with m = 2 goes in rows for which flags vouch, from each rank every second time */
#endif
#ifndef STREAM_ORDER
#define STREAM_ORDER PACKETS /* not 0: what a dispatch received is promised until its rank's combine starts; one buffer */
#endif
#ifndef IN_PLACE
#define IN_PLACE 0       /* 1: experts leave their results in the receive buffer */
#endif
#ifndef ABORTS
#define ABORTS 0         /* 1: rank 0 may call abort() once, at any time */
#endif
#ifndef TIME_LIMITS
#define TIME_LIMITS 0    /* mask of the ranks whose time limit may pass at any time, before a reset */
#endif
#ifndef LAST_RESORT
#define LAST_RESORT 0    /* 1: a time limit passes once nothing else can happen anywhere */
#endif
#ifndef DISAGREE
#define DISAGREE 0       /* in the first round of lane 0 the last rank has another m (1) or hidden size (2) */
#endif
#ifndef CRASH
#define CRASH 0          /* the last rank may end at any step, 1: unnoticed, 2: noticed */
#endif
#ifndef CLOSE
#define CLOSE 0          /* 1: rank 0 closes after its abort(); 2: the last rank closes one round before the others */
#endif
#ifndef RESET
#define RESET 0          /* 1: of all ranks; 2: of all but the last; 3: of all but the last, then of all */
#endif
#ifndef GIVE_UPS
#define GIVE_UPS 0       /* how many times a time limit may pass in a meeting of a reset */
#endif

#define LAST (N - 1)
#define ALL ((1 << N) - 1)
#define OTHERS (ALL - (1 << LAST))

/* Numbers on the wire: a few bits, compared by order. */
#define MOD (1 << BITS)
#define WIRE(round) ((round) % MOD)
#define BEFORE(round) WIRE((round) + MOD - 1)
#define PHASE(number) ((number) % (2 * MOD))
#define IS_EARLIER(a, b) (((a) + 2 * MOD - (b)) % (2 * MOD) >= MOD)
#ifdef MUTANT_FLAG_EQUALITY
#define REACHED(flag, round) ((flag) == WIRE(round))
#else
#define REACHED(flag, round) (((flag) + MOD - WIRE(round)) % MOD < MOD / 2)
#endif

/* Places. */
#define BUFFER(round) ((round) % 2)
#ifdef MUTANT_SINGLE_HEADER
#define HEADER(round, source) (source)
#else
#define HEADER(round, source) (BUFFER(round) * N + (source))
#endif
#if STREAM_ORDER || defined(MUTANT_SINGLE_RECV)
#define RECV_BUFFER(round) 0
#else
#define RECV_BUFFER(round) BUFFER(round)
#endif
#define ROW(round, source) (RECV_BUFFER(round) * N + (source))
#ifdef MUTANT_ONE_PACKET_AREA
#define AREA(isCombine) 0
#else
#define AREA(isCombine) ((isCombine) * N)
#endif
#define PLACE(m, source) ((m) == 3 -> ((source) + 1) % N : (source))
#ifdef MUTANT_SHARED_FLAGS
#define FLAG_LANE(lane) 0
#else
#define FLAG_LANE(lane) (lane)
#endif

/*
 * A source has one slot: more would say no more about the order of things. Where m differs, rows lie elsewhere; so whoever
 * stores one into a buffer may hit any other, and a buffer is held or free as a whole. Packets of rounds with another m lie
 * where those of other sources did.
 */
typedef LaneWindow {
  byte dispatchFlag[N];
  byte combineFlag[N];
  byte header[2 * N];
  byte combineHeader[N];
  byte recv[2 * N];
  byte results[N];
#if PACKETS
  byte packet[2 * N];
  byte packetTag[2 * N];
#endif
};

/* Seen whole or not at all: its writer sets `code` last. */
typedef Record {
  byte code;
  byte generation;
  byte completed[LANES]
};

typedef Window {
  LaneWindow lane[LANES];
  Record record[N];
  byte generation
};

Window window[N];
bool left[N];            /* closed words and lost threads: stored after all else of a rank */

/* What a header says: generation, round, m (of a combine its hidden size), and the number of rows. */
#define HEAD(generation, round, value) (((generation) % 4 << 6) + (WIRE(round) << 3) + ((value) << 1))
#define COUNT(header) ((header) & 1)
#define SAYS(header) ((header) & 254)

/* What a row holds: whose it is, of which round. NOTHING is what a reader leaves behind. */
#define NOTHING 0
#define CONTENT(source, round, generation) (1 + (source) + 3 * ((round) % 16) + 48 * (generation))

/* Of a packet: of which round it is, in full, and of which generation. 0 is none. */
#ifdef MUTANT_TAG_WRAPS
#define TAG(round, generation) (1 + WIRE(round) + 16 * (generation))
#elif defined(MUTANT_TAG_OF_ROUND_ALONE)
#define TAG(round, generation) (1 + (round) % 16)
#else
#define TAG(round, generation) (1 + (round) % 16 + 16 * (generation))
#endif

/* Codes of failures. PEER_TIMEOUT is MISSING where its kind is timeout, GONE where it is closed or lost. */
#define NONE 0
mtype = { ABORTED, MISSING, GONE, MISMATCH, LEFT_OUT };

/* For trails. */
mtype = { dispatch, combine };

/* What a rank knows of itself, and its lanes. */
#define AT(rank, lane) ((rank) * LANES + (lane))
byte generation[N];
byte members[N];         /* mask */
byte failed[N];
byte completed[N * LANES];
byte nextRound[N * LANES];

/* Ghosts: checked, but never acted upon. Phases count 2 n + c here, without wrapping. */
byte begun[N * LANES];           /* last phase that a rank has begun */
byte succeeded[N * LANES];
bool held[2 * N * LANES];        /* a receive buffer that its rank may still look at */
bool unread[2 * N * N * LANES];  /* a header that its reader still needs */
bool unreadCombine[N * N * LANES];
#if PACKETS
bool unreadPacket[2 * N * N * LANES];  /* a packet that its reader still needs */
#endif
byte owed[N * LANES];            /* mask of the readers of results that have yet to read them */
bool storing[N];                 /* between its look at the generation and its last store */
byte over;

/* The environment's choices. */
#if RESET
#define PLANS (ROUNDS + 1)
#else
#define PLANS ROUNDS
#endif
#define PLANNED(round, generation) plan[((round) - FIRST + (generation)) % PLANS]
byte plan[PLANS];                /* m, the same on all ranks of a generation */
bool mayAbort;
byte giveUps;

#define HELD(rank, lane, round) held[AT(rank, lane) * 2 + RECV_BUFFER(round)]
#define PAIR(reader, writer, lane) (AT(reader, lane) * N + (writer))
#define UNREAD_PACKET(reader, lane, at) unreadPacket[AT(reader, lane) * 2 * N + (at)]
#define UNREAD(reader, writer, lane, round) unread[PAIR(reader, writer, lane) * 2 + BUFFER(round)]

#if N == 2
#define EVERY(test) (test(0) && test(1))
#define ANY(test) (test(0) || test(1))
#define LOWEST(test) (test(0) -> 0 : (test(1) -> 1 : N))
#else
#define EVERY(test) (test(0) && test(1) && test(2))
#define ANY(test) (test(0) || test(1) || test(2))
#define LOWEST(test) (test(0) -> 0 : (test(1) -> 1 : (test(2) -> 2 : N)))
#endif

/* Steps through the peers of `r`; those that are not active are passed over where something is stored. */
#define FIRST_PEER (r == 0 -> 1 : 0)
#define NEXT_PEER (s + 1 == r -> s + 2 : s + 1)
#define IS_ACTIVE(peer) ((members[r] >> (peer)) & 1)
#define IS_PEER(s) (s != r && IS_ACTIVE(s))
