/*
 * A reset: the named ranks meet, clean their windows, meet again, and start the next generation. How ranks meet is the
 * group's affair (packages/core/src/group); here a meeting is a set of ranks that are there, and of ranks that gave up.
 */
#define MEETINGS (2 + GIVE_UPS)
typedef Meeting {
  byte here;
  byte gaveUp;
  byte cleaned;
  byte generation;
  byte next[LANES]
};
Meeting meeting[MEETINGS];

#define M meeting[number]
#define BIT (1 << r)
#define MAX(a, b) ((a) > (b) -> (a) : (b))
#define NOBODY_GAVE_UP ((M.gaveUp & names) == 0)
#ifdef MUTANT_CLEAN_AT_ONCE
#define ALL_HERE true
#else
#define ALL_HERE ((M.here & names) == names)
#endif
#ifdef MUTANT_MEET_ONCE
#define ALL_CLEANED true
#else
#define ALL_CLEANED ((M.cleaned & names) == names)
#endif

/* Values of rounds that were given up or are over. */
inline forget() {
  for (l : 0 .. LANES - 1) {
    stage[l] = IDLE;
    rounds[l] = 0;
    n[l] = 0;
    m[l] = 0;
    tokens[l] = 0;
    counts[l] = 0;
#if PACKETS
    taken[l] = 0
#endif
  }
#if PACKETS
  toSend = 0;
#endif
  l = 0;
  s = 0;
  part = 0;
  why = 0;
  bad = false
}

inline come() {
  printf("rank %d comes to reset %d\n", r, number);
  M.here = M.here | BIT;
  M.generation = MAX(M.generation, window[r].generation);
  for (l : 0 .. LANES - 1) { M.next[l] = MAX(M.next[l], nextRound[AT(r, l)]) }
  l = 0
}

/* The window as it was before the first round, while nobody sends. */
inline clean() {
  for (l : 0 .. LANES - 1) {
#ifndef MUTANT_OWN_ROUNDS
    nextRound[AT(r, l)] = M.next[l];
#endif
    HELD(r, l, 0) = false;
    HELD(r, l, 1) = false;
    owed[AT(r, l)] = 0;
    for (s : 0 .. N - 1) {
#ifndef MUTANT_RESET_KEEPS_FLAGS
      LANE(r).dispatchFlag[s] = BEFORE(nextRound[AT(r, l)]);
      LANE(r).combineFlag[s] = BEFORE(nextRound[AT(r, l)]);
#endif
      LANE(r).header[s] = NOTHING;
      LANE(r).header[N + s] = NOTHING;
      LANE(r).combineHeader[s] = NOTHING;
      LANE(r).recv[s] = NOTHING;
      LANE(r).recv[N + s] = NOTHING;
      UNREAD(r, s, l, 0) = false;
      UNREAD(r, s, l, 1) = false;
      unreadCombine[PAIR(r, s, l)] = false;
      window[r].record[s].code = NONE
    }
  }
  l = 0;
  s = 0
}

#if PACKETS
/* Packets stay, as their tags never come again; but nobody needs those of a rank that was left out any more. */
inline forgetPackets() {
  for (l : 0 .. LANES - 1) {
    for (s : 0 .. 2 * N - 1) { UNREAD_PACKET(r, l, s) = false }
  }
  l = 0;
  s = 0
}
#else
#define forgetPackets() skip
#endif

inline startGeneration() {
  printf("rank %d starts generation %d\n", r, next);
  generation[r] = next;
  members[r] = names;
  failed[r] = NONE;
  for (l : 0 .. LANES - 1) {
    completed[AT(r, l)] = PHASE(2 * nextRound[AT(r, l)] + 2 * MOD - 1);
    begun[AT(r, l)] = 2 * nextRound[AT(r, l)] - 1;
    succeeded[AT(r, l)] = 2 * nextRound[AT(r, l)] - 1;
    for (s : 0 .. N - 1) { LANE(r).results[s] = NOTHING };
    rounds[l] = MORE
  }
  l = 0;
  s = 0;
  next = 0
}

/* Who resets after its rounds, and names whom. */
#if RESET == 1
#define RESETS (number == 0 || failed[r] != NONE)
#define NAMES ALL
#elif RESET == 2
#define RESETS (number == 0 && r != LAST)
#define NAMES OTHERS
#else
#define RESETS (number < 2)
#define NAMES (number == 0 -> OTHERS : ALL)
#endif

/* Resets after the rounds, once or twice, and on until one of them has met all it names. */
inline resets() {
  if
  :: !RESETS -> goto end
  :: RESETS -> names = NAMES
  fi;
  if
  :: d_step { NOBODY_GAVE_UP -> come() }
#if GIVE_UPS
  :: !NOBODY_GAVE_UP -> goto resetFailed
#endif
  fi;
  if
  :: ALL_HERE
#if GIVE_UPS
  :: !NOBODY_GAVE_UP -> goto resetFailed
  :: atomic { giveUps > 0 && !ALL_HERE -> giveUps--; goto resetFailed }
#endif
  fi;
  d_step { next = M.generation + 1; clean() };
  window[r].generation = next;
  /* The documented limit: stores of a rank that is left out and that is past its look at the generation. */
  if
#ifdef MUTANT_LEFT_OUT_UNTOLD
  :: true
#else
  :: names == ALL
  :: atomic { names != ALL && !storing[LAST] -> window[LAST].generation = next }
#endif
  fi;
  if
  :: d_step { NOBODY_GAVE_UP -> M.cleaned = M.cleaned | BIT; forgetPackets() }
#if GIVE_UPS
  :: !NOBODY_GAVE_UP -> goto resetFailed
#endif
  fi;
  if
  :: ALL_CLEANED
#if GIVE_UPS
  :: !NOBODY_GAVE_UP -> goto resetFailed
  :: atomic { giveUps > 0 && !ALL_CLEANED -> giveUps--; goto resetFailed }
#endif
  fi;
  d_step { startGeneration(); number++ };
  goto play;
#if GIVE_UPS
  /* Some may have met all the same: those have to hear of it, in the generation that they are in. */
resetFailed:
  atomic {
    M.gaveUp = M.gaveUp | BIT;
    printf("rank %d gives up reset %d\n", r, number);
    failed[r] = MISSING;
    s = FIRST_PEER
  };
  do
  :: d_step {
       s < N && next > 0 ->
#ifndef MUTANT_FAILED_RESET_UNTOLD
       window[s].record[r].generation = next;
       window[s].record[r].completed[0] = PHASE(2 * nextRound[AT(r, 0)] + 2 * MOD - 1);
#if LANES == 2
       window[s].record[r].completed[1] = PHASE(2 * nextRound[AT(r, 1)] + 2 * MOD - 1);
#endif
       window[s].record[r].code = MISSING;
#endif
       s = NEXT_PEER
     }
  :: s >= N || next == 0 -> break
  od;
  atomic { next = 0; s = 0; number++; goto played }
#endif
}
