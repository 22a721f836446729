/* What rank `r` sees when it looks at its own window, for its lane `k`. Nothing here stores anything. */
#define LANE(rank) window[rank].lane[l]
#define PHASE_OF(k) (2 * n[k] + (stage[k] == COMBINING))
#define NEXT_PHASE (2 * n[l] + (stage[l] == RECEIVED))

/* Which phases go in packets: as all ranks agree on it. Results of another hidden size do not fit. */
#define HIDDEN_SIZE(k) (DISAGREE == 2 && r == LAST && k == 0 && n[k] == FIRST -> 2 : 1)
#ifdef MUTANT_FORM_FROM_COUNT
#define FITS(k) (m[k] > 0 && tokens[k] == 1)
#else
#define FITS(k) (m[k] == 1 || m[k] == 3)
#endif
#define ROWS_IN_PACKETS(k) ((PACKETS & 1) && FITS(k))
#define RESULTS_IN_PACKETS(k) ((PACKETS & 2) && FITS(k) && HIDDEN_SIZE(k) == 1)
/* Which ranks' rows have flags: each tells that in its header. The others' headers vouch for them. */
#define IN_PIECES(k, s) ((PACKETS & 4) && m[k] == 2 && (n[k] + (s)) % 2 == 0)

/* Arrivals. */
#define DISPATCHED(k, s) (!IS_PEER(s) || REACHED(window[r].lane[FLAG_LANE(k)].dispatchFlag[s], n[k]))
#define COMBINED(k, s) (!IS_PEER(s) || REACHED(window[r].lane[FLAG_LANE(k)].combineFlag[s], n[k]))
#ifdef MUTANT_COMBINE_HEARS_SENDERS
#define HEARS_ALL(k) (m[k] > 0 && !RESULTS_IN_PACKETS(k))
#else
#define HEARS_ALL(k) (m[k] > 0)
#endif
#define ARRIVED(k, s) (stage[k] == DISPATCHING -> DISPATCHED(k, s) : (!HEARS_ALL(k) || COMBINED(k, s)))

/* Agreement: every header says what this rank would say. */
#define SAME_DISPATCH(k, s) (SAYS(window[r].lane[k].header[HEADER(n[k], s)]) == HEAD(generation[r], n[k], m[k]))
#define SAME_COMBINE(k, s) (window[r].lane[k].combineHeader[s] == HEAD(generation[r], n[k], HIDDEN_SIZE(k)))
#ifdef MUTANT_NO_AGREEMENT
#define AGREES(k, s) true
#else
#define AGREES(k, s) (!IS_PEER(s) || \
  (stage[k] == DISPATCHING -> SAME_DISPATCH(k, s) : (!HEARS_ALL(k) || SAME_COMBINE(k, s))))
#endif

/*
 * Packets say themselves whether they are there, and so do flags of rows. How many rows to expect says the header; of
 * results it is known. They are taken as they come, before it is known whether all agree.
 */
#if PACKETS
#define IN_PACKETS(k, s) \
  (stage[k] == DISPATCHING -> ROWS_IN_PACKETS(k) || IN_PIECES(k, s) : RESULTS_IN_PACKETS(k))
#define PACKET_AT(k, s) (AREA(stage[k] == COMBINING) + PLACE(m[k], s))
#define EXPECTED(k, s) (IS_PEER(s) && (stage[k] == DISPATCHING -> \
  DISPATCHED(k, s) && COUNT(window[r].lane[k].header[HEADER(n[k], s)]) : tokens[k] > 0))
#define PACKET_HERE(k, s) (window[r].lane[k].packetTag[PACKET_AT(k, s)] == TAG(n[k], generation[r]))
#define IS_TAKEN(k, s) ((taken[k] >> (s)) & 1)
#define TAKES(k, s) \
  (stage[k] > RECEIVED && IN_PACKETS(k, s) && EXPECTED(k, s) && PACKET_HERE(k, s) && !IS_TAKEN(k, s))
#ifdef MUTANT_HEADER_VOUCHES
#define ROW_TAKEN(k, s) true
#else
#define ROW_TAKEN(k, s) (!IN_PACKETS(k, s) || !EXPECTED(k, s) || IS_TAKEN(k, s))
#endif
#ifdef MUTANT_PACKETS_NOT_MISSED
#define ROW_HERE(k, s) true
#elif defined(MUTANT_GONE_BEFORE_PACKETS)
#define ROW_HERE(k, s) ROW_TAKEN(k, s)
#else
#define ROW_HERE(k, s) (ROW_TAKEN(k, s) || PACKET_HERE(k, s))
#endif
#else
#define ROW_TAKEN(k, s) true
#define ROW_HERE(k, s) true
#endif

/* The same for one lane each, to be put to all ranks: EVERY(ARRIVED_0). */
#define ARRIVED_0(s) ARRIVED(0, s)
#define AGREES_0(s) AGREES(0, s)
#define ROW_HERE_0(s) ROW_HERE(0, s)
#define ROW_TAKEN_0(s) ROW_TAKEN(0, s)
#define MISSES_0(s) (left[s] && !(ARRIVED(0, s) && ROW_HERE(0, s)))
#define ARRIVED_1(s) ARRIVED(1, s)
#define AGREES_1(s) AGREES(1, s)
#define ROW_HERE_1(s) ROW_HERE(1, s)
#define ROW_TAKEN_1(s) ROW_TAKEN(1, s)
#define MISSES_1(s) (left[s] && !(ARRIVED(1, s) && ROW_HERE(1, s)))
#define ARRIVED_L(s) ARRIVED(l, s)
#define AGREES_L(s) AGREES(l, s)
#define ROW_HERE_L(s) ROW_HERE(l, s)
#define ROW_TAKEN_L(s) ROW_TAKEN(l, s)
#define MISSES_L(s) (left[s] && !(ARRIVED(l, s) && ROW_HERE(l, s)))

/* Whether a reset of the others has left this rank out. */
#define IS_LEFT_OUT (window[r].generation != generation[r])
#ifdef MUTANT_NO_GENERATION_CHECK
#define MAY_NOT_STORE false
#else
#define MAY_NOT_STORE IS_LEFT_OUT
#endif
#ifdef MUTANT_NO_SECOND_LOOK
#define MAY_NOT_SUCCEED false
#else
#define MAY_NOT_SUCCEED IS_LEFT_OUT
#endif

/* The verdict of the lowest-numbered peer that told one. It counts for the phases that its writer had not completed. */
#define TELLS(s) (IS_PEER(s) && window[r].record[s].code != NONE && window[r].record[s].generation == generation[r])
#define TELLER LOWEST(TELLS)
#ifdef MUTANT_VERDICT_ON_ALL_PHASES
#define IS_TOLD(k, number) (TELLER < N)
#else
#define IS_TOLD(k, number) (TELLER < N && IS_EARLIER(window[r].record[TELLER].completed[k], PHASE(number)))
#endif
#define TOLD IS_TOLD(l, PHASE_OF(l))

/* A phase is here once all have arrived and agree, and all rows are taken. It misses nobody whose rows are there to take. */
#define HEARD(k) (EVERY(ARRIVED_##k) && EVERY(AGREES_##k))
#define HERE(k) (HEARD(k) && EVERY(ROW_TAKEN_##k))
#define SENT_BY_ALL(k) (HEARD(k) && EVERY(ROW_HERE_##k))
#define DISAGREES(k) (EVERY(ARRIVED_##k) && !EVERY(AGREES_##k))
#define MISSES(k) (!DISAGREES(k) && !SENT_BY_ALL(k) && ANY(MISSES_##k))
#define IS_LATE(k) (((TIME_LIMITS >> r) & 1) && generation[r] == 0 && !DISAGREES(k) && !SENT_BY_ALL(k))

/* Whether a lane can go on, or has to end. */
#define SETTLES(k) (IS_LEFT_OUT || IS_TOLD(k, PHASE_OF(k)) || HERE(k) || DISAGREES(k) || MISSES(k) || IS_LATE(k))
#define MOVES(k) ((stage[k] == IDLE && rounds[k] > 0) || stage[k] == RECEIVED || (stage[k] > RECEIVED && SETTLES(k)))
