/* What rank `r` sees when it looks at its own window, for its lane `k`. Nothing here stores anything. */
#define LANE(rank) window[rank].lane[l]
#define PHASE_OF(k) (2 * n[k] + (stage[k] == COMBINING))
#define NEXT_PHASE (2 * n[l] + (stage[l] == RECEIVED))

/* Arrivals. */
#define DISPATCHED(k, s) (!IS_PEER(s) || REACHED(window[r].lane[FLAG_LANE(k)].dispatchFlag[s], n[k]))
#define COMBINED(k, s) (!IS_PEER(s) || REACHED(window[r].lane[FLAG_LANE(k)].combineFlag[s], n[k]))
#define ARRIVED(k, s) (stage[k] == DISPATCHING -> DISPATCHED(k, s) : (m[k] == 0 || COMBINED(k, s)))

/* Agreement: every header says what this rank would say. */
#define HIDDEN_SIZE(k) (DISAGREE == 2 && r == LAST && k == 0 && n[k] == FIRST -> 2 : 1)
#define SAME_DISPATCH(k, s) (SAYS(window[r].lane[k].header[HEADER(n[k], s)]) == HEAD(generation[r], n[k], m[k]))
#define SAME_COMBINE(k, s) (window[r].lane[k].combineHeader[s] == HEAD(generation[r], n[k], HIDDEN_SIZE(k)))
#ifdef MUTANT_NO_AGREEMENT
#define AGREES(k, s) true
#else
#define AGREES(k, s) (!IS_PEER(s) || \
  (stage[k] == DISPATCHING -> SAME_DISPATCH(k, s) : (m[k] == 0 || SAME_COMBINE(k, s))))
#endif

/* Packets say themselves whether they are there; how many to expect says the header. */
#if PACKETS
#ifdef MUTANT_FORM_FROM_COUNT
#define IN_PACKETS(k) (m[k] > 0 && tokens[k] == 1)
#else
#define IN_PACKETS(k) (m[k] == 1)
#endif
#define PACKET_HERE(k, s) (!IS_PEER(s) || COUNT(window[r].lane[k].header[HEADER(n[k], s)]) == 0 || \
  window[r].lane[k].packetTag[s] == WIRE(n[k]))
#define ROW_HERE(k, s) (stage[k] == COMBINING || !IN_PACKETS(k) || PACKET_HERE(k, s))
#else
#define IN_PACKETS(k) false
#define ROW_HERE(k, s) true
#endif

/* The same for one lane each, to be put to all ranks: EVERY(ARRIVED_0). */
#define ARRIVED_0(s) ARRIVED(0, s)
#define AGREES_0(s) AGREES(0, s)
#define ROW_HERE_0(s) ROW_HERE(0, s)
#define MISSES_0(s) (left[s] && !(ARRIVED(0, s) && ROW_HERE(0, s)))
#define ARRIVED_1(s) ARRIVED(1, s)
#define AGREES_1(s) AGREES(1, s)
#define ROW_HERE_1(s) ROW_HERE(1, s)
#define MISSES_1(s) (left[s] && !(ARRIVED(1, s) && ROW_HERE(1, s)))
#define ARRIVED_L(s) ARRIVED(l, s)
#define AGREES_L(s) AGREES(l, s)
#define ROW_HERE_L(s) ROW_HERE(l, s)
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

/* A phase is here once all have arrived and agree, with all rows. It is missing somebody as long as it is not settled. */
#define HERE(k) (EVERY(ARRIVED_##k) && EVERY(AGREES_##k) && EVERY(ROW_HERE_##k))
#define DISAGREES(k) (EVERY(ARRIVED_##k) && !EVERY(AGREES_##k))
#define MISSES(k) (!DISAGREES(k) && !HERE(k) && ANY(MISSES_##k))
#define IS_LATE(k) (((TIME_LIMITS >> r) & 1) && generation[r] == 0 && !DISAGREES(k) && !HERE(k))

/* Whether a lane can go on, or has to end. */
#define SETTLES(k) (IS_LEFT_OUT || IS_TOLD(k, PHASE_OF(k)) || HERE(k) || DISAGREES(k) || MISSES(k) || IS_LATE(k))
#define MOVES(k) ((stage[k] == IDLE && rounds[k] > 0) || stage[k] == RECEIVED || (stage[k] > RECEIVED && SETTLES(k)))
