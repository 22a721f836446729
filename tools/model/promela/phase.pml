/*
 * Parts of a phase of rank `r` on lane `l`: what is chosen, stored, taken, and what is free then. Each is one step, which
 * ends with a statement of its own (a loop at the end would be left by a jump, which Spin does not take).
 */

/* A rank's first failure, and whether it may happen in this world at all. */
inline note(code) {
  assert(code != ABORTED || ABORTS);
  assert(code != MISSING || TIME_LIMITS || LAST_RESORT || GIVE_UPS);
  assert(code != GONE || CRASH == 2 || CLOSE == 2);
  assert(code != MISMATCH || DISAGREE);
  assert(code != LEFT_OUT || (RESET >= 2 && r == LAST));
  assert(generation[r] == 0 || GIVE_UPS);
  printf("rank %d fails: %e\n", r, code);
  failed[r] = code
}

/* What of a round is decided outside: m, the same on all ranks, and how many tokens this rank has. */
inline choose() {
  n[l] = nextRound[AT(r, l)];
  nextRound[AT(r, l)] = n[l] + 1;
  rounds[l]--;
  m[l] = PLANNED(n[l], generation[r]);
#if DISAGREE == 1
  if
  :: r == LAST && l == 0 && n[l] == FIRST -> m[l] = 2
  :: r == LAST && l == 0 && n[l] == FIRST -> m[l] = 0
#if PACKETS
  :: r == LAST && l == 0 && n[l] == FIRST -> m[l] = 3
#endif
  :: else
  fi;
#endif
#if TOKENS == 0
  if
  :: m[l] > 0 -> tokens[l] = 1
  :: tokens[l] = 0
  fi
#elif TOKENS == 1
  tokens[l] = (m[l] > 0 -> 1 : 0)
#elif TOKENS == 2
  tokens[l] = (m[l] > 0 && r > 0 -> 1 : 0)
#else
  tokens[l] = (m[l] > 0 -> (n[l] + r) % 2 : 0)
#endif
}

/* A line of a trail. */
#define TRACE(what) printf("rank %d: ", r); printf(what); printf(" %d, lane %d, to rank %d\n", n[l], l, s)

/* A row goes into the window of its expert's rank. */
inline sendRow() {
  if
  :: IS_PEER(s) ->
     assert(!HELD(s, l, n[l]));
     LANE(s).recv[ROW(n[l], r)] = CONTENT(r, n[l], generation[r]);
     TRACE("row of dispatch")
  :: else
  fi
}

inline storeHeader() {
  if
  :: !IS_PEER(s)
  :: IS_PEER(s) && stage[l] == IDLE ->
     assert(!UNREAD(s, r, l, n[l]));
     UNREAD(s, r, l, n[l]) = true;
     LANE(s).header[HEADER(n[l], r)] = HEAD(generation[r], n[l], m[l]) + tokens[l]
  :: IS_PEER(s) && stage[l] == RECEIVED ->
     assert(!unreadCombine[PAIR(s, r, l)]);
     unreadCombine[PAIR(s, r, l)] = true;
     LANE(s).combineHeader[r] = HEAD(generation[r], n[l], HIDDEN_SIZE(l))
  fi
}

inline storeFlag() {
  if
  :: !IS_PEER(s)
  :: IS_PEER(s) && stage[l] == IDLE -> window[s].lane[FLAG_LANE(l)].dispatchFlag[r] = WIRE(n[l]); TRACE("flag of dispatch")
  :: IS_PEER(s) && stage[l] == RECEIVED -> window[s].lane[FLAG_LANE(l)].combineFlag[r] = WIRE(n[l]); TRACE("flag of combine")
  fi
}

/* The rows as they were sent, or `bad`. */
inline lookAtRow() {
  bad = bad || ((counts[l] >> s) & 1 && LANE(r).recv[ROW(n[l], s)] != CONTENT(s, n[l], generation[r]))
}

inline letGoOfRow() {
  if
  :: (counts[l] >> s) & 1 -> LANE(r).recv[ROW(n[l], s)] = NOTHING
  :: else
  fi
}

inline letGoOfBuffer() {
  if
  :: m[l] > 0 -> HELD(r, l, n[l]) = false
  :: else
  fi;
  counts[l] = 0
}

inline letGoOfRows() {
  for (next : 0 .. N - 1) {
    if
    :: (counts[l] >> next) & 1 -> LANE(r).recv[ROW(n[l], next)] = NOTHING
    :: else
    fi
  }
  next = 0;
  letGoOfBuffer()
}

#if PACKETS
/*
 * What of a phase in packets goes to whom, in any order: a bit for each header, one for each packet or flag of a row, and one
 * for each row with a flag, which comes after it.
 */
#define TO_SEND_HEADERS (ALL & members[r] & (ALL - (1 << r)))
#define TO_SEND_ROWS (stage[l] == IDLE -> (tokens[l] > 0 -> TO_SEND_HEADERS : 0) : counts[l])
#define SENDS_PIECES (stage[l] == IDLE && IN_PIECES(l, r))
#define IS_IN_PACKETS (stage[l] == IDLE -> ROWS_IN_PACKETS(l) || IN_PIECES(l, r) : RESULTS_IN_PACKETS(l))
#define TO_SEND (TO_SEND_HEADERS | TO_SEND_ROWS << N | (SENDS_PIECES -> TO_SEND_ROWS << (2 * N) : 0))
#define LEFT_TO_SEND(bit) ((toSend >> (bit)) & 1)

/* A combine's header lets go of the receive buffer, so it goes last where results still lie there. */
#ifdef MUTANT_IN_PLACE_HEADER_FIRST
#define READS_ROWS false
#else
#define READS_ROWS (IN_PLACE && stage[l] == RECEIVED && toSend >> N != 0)
#endif
/* Whoever waits has sent all it has to send. */
#ifdef MUTANT_WAITS_BEFORE_SENDING
#define OTHER (1 - r)
#define MAY_SEND_ROWS (stage[l] == RECEIVED || (DISPATCHED(l, OTHER) && \
  (COUNT(LANE(r).header[HEADER(n[l], OTHER)]) == 0 || LANE(r).packetTag[PLACE(m[l], OTHER)] == TAG(n[l], generation[r]))))
#else
#define MAY_SEND_ROWS true
#endif
#ifdef MUTANT_PIECE_BEFORE_ROWS
#define HAS_STORED_ROW(to) true
#else
#define HAS_STORED_ROW(to) (!LEFT_TO_SEND(2 * N + to))
#endif

/* A row goes to its expert's rank, a result to its token's: as a packet that is there at once. A flag has no data. */
inline sendPacket() {
  at = AREA(stage[l] == RECEIVED) + PLACE(m[l], r);
  assert(DISAGREE || !UNREAD_PACKET(s, l, at));
  UNREAD_PACKET(s, l, at) = true;
  if
  :: SENDS_PIECES
  :: else -> LANE(s).packet[at] = CONTENT(r, n[l], generation[r])
  fi;
  LANE(s).packetTag[at] = TAG(n[l], generation[r]);
  at = 0;
  TRACE("packet");
  toSend = toSend - (1 << (N + s));
  if
  :: stage[l] == RECEIVED && IN_PLACE -> lookAtRow(); assert(!bad)
  :: else
  fi;
  if
  :: stage[l] == RECEIVED && IN_PLACE && toSend >> N == 0 -> letGoOfRows()
  :: else
  fi
}

/* Into the receive buffer, or into the sum. */
#define WRONG (1 << N)
inline takePacket() {
  at = PACKET_AT(l, s);
  UNREAD_PACKET(r, l, at) = false;
  if
  :: stage[l] == DISPATCHING && IN_PIECES(l, s)
  :: stage[l] == DISPATCHING && !IN_PIECES(l, s) ->
     assert(!HELD(r, l, n[l]));
     LANE(r).recv[ROW(n[l], s)] = LANE(r).packet[at]
  :: stage[l] == COMBINING && LANE(r).packet[at] != CONTENT(s, n[l], generation[r]) -> taken[l] = taken[l] | WRONG
  :: else
  fi;
  taken[l] = taken[l] | (1 << s);
  printf("rank %d: takes a packet %d, lane %d, of rank %d\n", r, n[l], l, s);
  at = 0;
  s = 0;
  l = 0
}
#endif

/* What a dispatch takes once all are here and agree. */
inline takeDispatch() {
  s = FIRST_PEER;
  do
  :: s < N ->
     counts[l] = counts[l] | (IS_PEER(s) && COUNT(LANE(r).header[HEADER(n[l], s)]) -> 1 << s : 0);
     lookAtRow();
     s = NEXT_PEER
  :: else -> break
  od;
  HELD(r, l, n[l]) = (m[l] > 0);
  s = 0
}

/* Results of the experts, in this rank's own window, unless they are sent; whose rows were received, reads them. */
inline offerResults() {
  s = FIRST_PEER;
  do
  :: s < N ->
     lookAtRow();
     if
     :: ((counts[l] >> s) & 1) && !RESULTS_IN_PACKETS(l) -> LANE(r).results[s] = CONTENT(r, n[l], generation[r])
     :: else
     fi;
     s = NEXT_PEER
  :: else -> break
  od;
  assert(!bad);
  assert(owed[AT(r, l)] == 0);
  owed[AT(r, l)] = (RESULTS_IN_PACKETS(l) -> 0 : counts[l])
}

/* A combine has started: headers of its dispatch are not needed any more, nor, in stream order, the rows. */
inline startCombine() {
  s = FIRST_PEER;
  do
  :: s < N ->
     bad = bad || (IS_PEER(s) && COUNT(LANE(r).header[HEADER(n[l], s)]) != ((counts[l] >> s) & 1));
     if
     :: IS_PEER(s) ->
        UNREAD(r, s, l, n[l]) = false;
        LANE(r).header[HEADER(n[l], s)] = NOTHING
     :: else
     fi;
     s = NEXT_PEER
  :: else -> break
  od;
  assert(!bad);
#if STREAM_ORDER
  /* Where results are pulled, they are in another place by now. */
  if
  :: IN_PLACE && RESULTS_IN_PACKETS(l) && counts[l] != 0
  :: else -> letGoOfRows()
  fi
#endif
}

/* Results are read where their owners left them, or were taken as they came. */
inline takeCombine() {
#if PACKETS
  bad = (taken[l] & WRONG) != 0;
#endif
  s = FIRST_PEER;
  do
  :: s < N ->
     bad = bad || (IS_PEER(s) && tokens[l] > 0 && !RESULTS_IN_PACKETS(l) &&
                   LANE(s).results[r] != CONTENT(s, n[l], generation[r]));
     s = NEXT_PEER
  :: else -> break
  od;
  s = 0
}

/* Rows, headers and results of this round are read: their writers may store there again. */
inline release() {
  s = FIRST_PEER;
  do
  :: s < N ->
     lookAtRow();
     if
     :: IS_PEER(s) && m[l] > 0 ->
        unreadCombine[PAIR(r, s, l)] = false;
        LANE(r).combineHeader[s] = NOTHING
     :: else
     fi;
     if
     :: IS_PEER(s) && tokens[l] > 0 && !RESULTS_IN_PACKETS(l) ->
        owed[AT(s, l)] = owed[AT(s, l)] & (ALL - (1 << r));
        LANE(s).results[r] = NOTHING
     :: else
     fi;
#if !STREAM_ORDER
     letGoOfRow();
#endif
#ifndef MUTANT_IDLE_COMBINE_FLAGS
     /* Nobody stored a flag: it is moved on all the same, lest it fall behind by half of all numbers. */
     if
     :: IS_PEER(s) && m[l] == 0 ->
        assert(LANE(r).combineFlag[s] == BEFORE(n[l]));
        LANE(r).combineFlag[s] = WIRE(n[l])
     :: else
     fi;
#endif
     s = NEXT_PEER
  :: else -> break
  od;
#if !STREAM_ORDER
  letGoOfBuffer();
#endif
  tokens[l] = 0
}

/* Success takes that every peer has begun the phase, and that all agree. */
inline succeed() {
  s = FIRST_PEER;
  do
  :: s < N ->
     assert(!IS_PEER(s) || (stage[l] == COMBINING && m[l] == 0) || begun[AT(s, l)] >= PHASE_OF(l));
     s = NEXT_PEER
  :: else -> break
  od;
  assert(!(DISAGREE == 1 && l == 0 && n[l] == FIRST && generation[r] == 0));
  assert(!(DISAGREE == 2 && l == 0 && n[l] == FIRST && generation[r] == 0 && stage[l] == COMBINING));
  printf("rank %d: %e %d, lane %d, succeeds\n", r, (stage[l] == COMBINING -> combine : dispatch), n[l], l);
  completed[AT(r, l)] = PHASE(PHASE_OF(l));
  succeeded[AT(r, l)] = PHASE_OF(l)
}
