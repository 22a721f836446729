/*
 * The round protocol of docs/protocol.md on a small world, one process per rank. Every store into a peer's window and
 * every look at the own one is a step of its own. README.md says which name stands for which code.
 */
#include "world.pml"

#define IDLE 0           /* no round in flight */
#define RECEIVED 1       /* its dispatch has succeeded; the experts run */
#define DISPATCHING 2
#define COMBINING 3

#include "looks.pml"
#include "phase.pml"
#include "reset.pml"

#if CRASH
#define MAY_DIE :: r == LAST -> goto died
#else
#define MAY_DIE
#endif

/*
 * A dispatch sends rows, then headers and flags. Packets vouch for themselves, and flags of rows for these, so with them all
 * goes in any order.
 */
#define ROWS 1
#define HEADERS 2
#define FLAGS 3
#define ANY_ORDER 4
#define SENT 0
#ifdef MUTANT_FLAG_BEFORE_DATA
#define ROWS_FIRST false
#else
#define ROWS_FIRST true
#endif
#ifdef MUTANT_VERDICT_NOT_PASSED_ON
#define PASS_ON failAlone
#else
#define PASS_ON fail
#endif
#define HAS_ROWS (stage[l] == IDLE && tokens[l] > 0)

/* On to the next peer, and after the last one to what is sent next. */
inline nextPeer(first, next) {
  s = NEXT_PEER;
  if
  :: s >= N -> part = next; s = FIRST_PEER
  :: else -> part = first
  fi
}

/* One step each, for one rank each: Spin has no other way to choose among them. */
#if PACKETS
#define SENDS_HEADER(to) :: d_step { \
    part == ANY_ORDER && LEFT_TO_SEND(to) && !READS_ROWS -> \
    s = to; storeHeader(); storeFlag(); toSend = toSend - (1 << (to)); s = 0 }
#define SENDS_PACKET(to) :: d_step { \
    part == ANY_ORDER && LEFT_TO_SEND(N + to) && MAY_SEND_ROWS && HAS_STORED_ROW(to) -> s = to; sendPacket(); s = 0 }
#define SENDS_ROW(to) :: d_step { \
    part == ANY_ORDER && LEFT_TO_SEND(2 * N + to) -> s = to; sendRow(); toSend = toSend - (1 << (2 * N + to)); s = 0 }
#define TAKES_PACKET(k, of) :: d_step { failed[r] == NONE && TAKES(k, of) -> l = k; s = of; takePacket() }
#endif

#if LANES == 2
#define ALL_PLAYED (stage[0] == IDLE && rounds[0] == 0 && stage[1] == IDLE && rounds[1] == 0)
#define WAITS (stage[0] > RECEIVED || stage[1] > RECEIVED)
#else
#define ALL_PLAYED (stage[0] == IDLE && rounds[0] == 0)
#define WAITS (stage[0] > RECEIVED)
#endif

proctype Rank(byte r) {
  byte l, s, why, part, names, number, next;
  byte stage[LANES], rounds[LANES], n[LANES], m[LANES], tokens[LANES], counts[LANES];
#if PACKETS
  byte taken[LANES], at;
  short toSend;
#endif
  bool bad;

  d_step {
    for (s : 0 .. LANES - 1) { rounds[s] = ROUNDS + (RESET >= 2 && r == LAST) - (CLOSE == 2 && r == LAST) }
    s = 0;
    number = (RESET == 3 && r == LAST)
  }

play:
  do
  :: failed[r] != NONE || ALL_PLAYED -> goto played
  :: atomic { failed[r] == NONE && MOVES(0) -> l = 0; goto move }
#if LANES == 2
  :: atomic { failed[r] == NONE && MOVES(1) -> l = 1; goto move }
#endif
#if PACKETS
  TAKES_PACKET(0, 0)
  TAKES_PACKET(0, 1)
#if N == 3
  TAKES_PACKET(0, 2)
#endif
#if LANES == 2
  TAKES_PACKET(1, 0)
  TAKES_PACKET(1, 1)
#endif
#endif
#if ABORTS
  :: atomic {
       failed[r] == NONE && r == 0 && mayAbort && generation[r] == 0 && !ALL_PLAYED ->
       mayAbort = false;
       why = ABORTED;
       goto fail
     }
#endif
#if LAST_RESORT
  :: atomic { timeout && failed[r] == NONE && WAITS -> assert(CRASH == 1); why = MISSING; goto fail }
#endif
  MAY_DIE
  od;

move:
  if
  :: stage[l] > RECEIVED -> goto settle
  :: atomic { stage[l] == IDLE -> choose() }
  :: d_step { stage[l] == RECEIVED -> offerResults() }
  fi;

  /* Before the first store into a peer's window: has a reset left this rank out, has a peer told a verdict? */
#ifdef MUTANT_ZERO_TOKENS_SKIP
  if
  :: stage[l] == IDLE && tokens[l] == 0 -> goto sent
  :: else
  fi;
#endif
  if
  :: atomic { MAY_NOT_STORE -> why = LEFT_OUT; goto failAlone }
  :: atomic { !MAY_NOT_STORE && IS_TOLD(l, NEXT_PHASE) -> why = window[r].record[TELLER].code; goto PASS_ON }
  :: d_step {
       !MAY_NOT_STORE && !IS_TOLD(l, NEXT_PHASE) ->
       printf("rank %d: %e %d, lane %d, begins with m = %d and %d tokens\n", r,
              (stage[l] == RECEIVED -> combine : dispatch), n[l], l, m[l], tokens[l]);
       storing[r] = true;
       begun[AT(r, l)] = NEXT_PHASE;
#if PACKETS
       taken[l] = 0;
       toSend = (IS_IN_PACKETS -> TO_SEND : 0);
#endif
       if
       :: stage[l] == RECEIVED -> startCombine()
       :: else
       fi;
       s = FIRST_PEER;
       part = (stage[l] == RECEIVED && m[l] == 0 -> SENT : (HAS_ROWS && ROWS_FIRST -> ROWS : HEADERS));
#if PACKETS
       if
       :: toSend != 0 -> part = ANY_ORDER; s = 0
       :: else
       fi
#endif
     }
  fi;
  do
  :: d_step { part == ROWS -> sendRow(); nextPeer(ROWS, (ROWS_FIRST -> HEADERS : SENT)) }
  :: d_step { part == HEADERS -> storeHeader(); part = FLAGS }
  :: d_step { part == FLAGS -> storeFlag(); nextPeer(HEADERS, (HAS_ROWS && !ROWS_FIRST -> ROWS : SENT)) }
#if PACKETS
  SENDS_HEADER(0)
  SENDS_HEADER(1)
  SENDS_PACKET(0)
  SENDS_PACKET(1)
#if N == 3
  SENDS_HEADER(2)
  SENDS_PACKET(2)
#endif
#if PACKETS & 4
  SENDS_ROW(0)
  SENDS_ROW(1)
#if N == 3
  SENDS_ROW(2)
#endif
#endif
  :: atomic { part == ANY_ORDER && toSend == 0 -> part = SENT; break }
#endif
  :: part == SENT -> break
  MAY_DIE
  od;
sent:
  atomic { storing[r] = false; s = 0; stage[l] = (stage[l] == IDLE -> DISPATCHING : COMBINING) };
  goto play;

settle:
  if
  :: atomic { IS_LEFT_OUT -> why = LEFT_OUT; goto failAlone }
  :: atomic { !IS_LEFT_OUT && DISAGREES(L) -> why = MISMATCH; goto fail }
  :: atomic { !IS_LEFT_OUT && !DISAGREES(L) && TOLD -> why = window[r].record[TELLER].code; goto PASS_ON }
  :: atomic { !IS_LEFT_OUT && IS_LATE(L) -> why = MISSING; goto fail }
#if CRASH == 2 || CLOSE
  :: !IS_LEFT_OUT && MISSES(L) -> goto gone
#endif
  :: !IS_LEFT_OUT && !TOLD && HERE(L)
#if PACKETS
  /* What was missing has come meanwhile, and is to be taken. */
  :: !IS_LEFT_OUT && !TOLD && SENT_BY_ALL(L) && !HERE(L) -> goto play
#endif
  fi;
  if
  :: d_step { stage[l] == DISPATCHING -> takeDispatch() }
  :: d_step { stage[l] == COMBINING -> takeCombine() }
  fi;
  /* What a reset that left this rank out let others overwrite meanwhile must not pass as good. */
  if
  :: atomic { MAY_NOT_SUCCEED -> bad = false; why = LEFT_OUT; goto failAlone }
  :: d_step {
       !MAY_NOT_SUCCEED ->
       succeed();
       if
       :: stage[l] == COMBINING -> release()
       :: else
       fi;
       assert(!bad);
       s = 0;
#if PACKETS
       taken[l] = 0;
#endif
       stage[l] = (stage[l] == DISPATCHING -> RECEIVED : IDLE)
     }
  fi;
  goto play;

#if CRASH == 2 || CLOSE
  /* What a rank stored before it left may have come after the first look: flags and verdicts. */
gone:
  if
#ifdef MUTANT_GONE_BEFORE_VERDICT
  :: atomic { MISSES(L) -> why = GONE; goto fail }
  :: !MISSES(L) -> goto play
#else
  :: atomic { MISSES(L) && !TOLD -> why = GONE; goto fail }
  :: !MISSES(L) || TOLD -> goto play
#endif
  fi;
#endif

  /* Whoever is told passes it on: the first to know may have died before it had told all. */
fail:
  atomic { note(why); s = FIRST_PEER };
  do
  :: d_step {
       s < N ->
#ifndef MUTANT_PEERS_NOT_TOLD
       if
       :: IS_PEER(s) ->
          window[s].record[r].generation = generation[r];
          window[s].record[r].completed[0] = completed[AT(r, 0)];
#if LANES == 2
          window[s].record[r].completed[1] = completed[AT(r, 1)];
#endif
          window[s].record[r].code = why;
          printf("rank %d tells rank %d\n", r, s)
       :: else
       fi;
#endif
       s = NEXT_PEER
     }
  :: s >= N -> break
  MAY_DIE
  od;
  goto played;

failAlone:
  atomic { note(why); storing[r] = false };

played:
  atomic { forget() };
#if CLOSE == 1
  if
  :: r == 0 && failed[r] == ABORTED -> left[r] = true; printf("rank %d closes\n", r)
  :: else
  fi;
#elif CLOSE == 2
  if
  :: r == LAST -> left[r] = true; printf("rank %d closes\n", r)
  :: else
  fi;
#endif
#if RESET
  resets();
#endif
  goto end;
#if CRASH
died:
  atomic { forget(); storing[r] = false; printf("rank %d dies\n", r) };
#if CRASH == 2
  left[r] = true;
#endif
#endif
end:
  over++
}

/* Success in a phase takes that all have begun it, so nobody is two phases ahead of a rank that failed. */
#define AHEAD(k) (a != b && failed[a] != NONE && \
  succeeded[AT(b, k)] > succeeded[AT(a, k)] + 1 + (SLOTS == 1 || SLOTS == 4))

inline judge() {
  for (a : 0 .. N - 1) {
    for (b : 0 .. N - 1) {
      assert(RESET || !AHEAD(0));
#if LANES == 2
      assert(RESET || !AHEAD(1))
#endif
    }
    assert(!DISAGREE || failed[a] == MISMATCH);
    assert(CLOSE != 2 || failed[a] == (a == LAST -> NONE : GONE));
    assert(CLOSE != 2 || a == LAST || succeeded[AT(a, 0)] == 2 * (FIRST + ROUNDS) - 3)
  }
}

init {
  byte a, b;
  atomic {
    d_step {
      for (a : 0 .. N * LANES - 1) {
        completed[a] = PHASE(2 * FIRST - 1);
        nextRound[a] = FIRST;
        begun[a] = 2 * FIRST - 1;
        succeeded[a] = 2 * FIRST - 1
      }
      for (a : 0 .. N - 1) {
        members[a] = ALL;
        for (b : 0 .. N * LANES - 1) {
          window[a].lane[b / N].dispatchFlag[b % N] = BEFORE(FIRST);
          window[a].lane[b / N].combineFlag[b % N] = BEFORE(FIRST)
        }
      }
      b = 0;
      mayAbort = ABORTS;
      giveUps = GIVE_UPS
    }
    for (a : 0 .. PLANS - 1) {
      if
#if SLOTS == 1 || SLOTS == 4
      :: plan[a] = 0
#endif
#if SLOTS == 2 || SLOTS == 4
      :: plan[a] = 2
#endif
#if SLOTS == 3 || SLOTS == 4
      :: plan[a] = 3
#endif
      :: plan[a] = 1
      fi
    }
    for (a : 0 .. N - 1) { run Rank(a) }
    a = 0
  }
  over == N;
  d_step { judge() }
}
