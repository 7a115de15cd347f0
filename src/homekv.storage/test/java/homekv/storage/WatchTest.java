package homekv.storage;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.TreeMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.Test;

/** S14 and S15: what a watch returns is what happened, in order, whole, and once; and what watching costs. */
class WatchTest {
    private static final Limits WINDOW =
            Harness.ROOMY.with(Limit.HISTORY_BYTES, 1L << 30).with(Limit.HISTORY_MILLIS, 1L << 40);

    private static final long FOREVER = Long.MAX_VALUE;

    private static Bytes randomKey(SplittableRandom random) {
        return Bytes.utf8("k" + random.nextInt(4) + random.nextInt(4));
    }

    private static Command randomCommand(SplittableRandom random, long step) {
        if (random.nextInt(8) == 0) {
            return new Txn(
                    List.of(),
                    List.of(
                            new Op.Put(randomKey(random), Harness.value(-step), 0),
                            new Op.Delete(Range.key(randomKey(random)), false),
                            new Op.Put(randomKey(random), Harness.value(step), 0)),
                    List.of());
        }
        List<Write> writes = new ArrayList<>();
        for (int i = 1 + random.nextInt(4); i > 0; i--) {
            Bytes key = randomKey(random);
            writes.add(random.nextInt(3) == 0 ? Harness.delete(key) : Harness.put(key, Harness.value(step)));
        }
        return new Command.Set(writes);
    }

    private static Range randomRange(SplittableRandom random) {
        return switch (random.nextInt(4)) {
            case 0 -> Range.all();
            case 1 -> Range.prefix(Bytes.utf8("k" + random.nextInt(4)));
            case 2 -> new Range(randomKey(random), randomKey(random));
            default -> Range.key(randomKey(random));
        };
    }

    /** What happened, as an observer notes it who compares the whole store before and after every command. */
    private static final class Observer {
        private final List<List<Event>> byRevision = new ArrayList<>(List.of(List.of()));
        private Map<Bytes, Entry> last = new TreeMap<>();

        void submit(Harness kv, Command command) {
            kv.log.submit(command);
            try (Snapshot snapshot = kv.store.snapshot()) {
                if (snapshot.revision() < byRevision.size()) {
                    return;
                }
                Map<Bytes, Entry> now = new TreeMap<>();
                snapshot.scan(Range.all(), false).forEachRemaining(entry -> now.put(entry.key(), entry));
                List<Event> events = new ArrayList<>();
                now.forEach((key, entry) -> {
                    if (!entry.equals(last.get(key))) {
                        events.add(new Event.Put(entry, last.get(key)));
                    }
                });
                last.forEach((key, entry) -> {
                    if (!now.containsKey(key)) {
                        events.add(new Event.Delete(key, snapshot.revision(), entry));
                    }
                });
                byRevision.add(events);
                last = now;
            }
        }

        /** What a watch with these wishes has to return of a revision, by key, since the order within is the command's. */
        Map<Bytes, Event> expected(long revision, Range range, boolean puts, boolean deletes, boolean previous) {
            Map<Bytes, Event> expected = new TreeMap<>();
            for (Event event : byRevision.get((int) revision)) {
                if (range.contains(event.key()) && (event instanceof Event.Put ? puts : deletes)) {
                    expected.put(event.key(), previous ? event : without(event));
                }
            }
            return expected;
        }

        private static Event without(Event event) {
            return switch (event) {
                case Event.Put put -> new Event.Put(put.entry(), null);
                case Event.Delete delete -> new Event.Delete(delete.key(), delete.revision(), null);
            };
        }
    }

    /** A watch with random wishes, and what it has returned so far. */
    private static final class Watcher {
        final Range range;
        final boolean puts;
        final boolean deletes;
        final boolean previous;
        final LinkedHashMap<Long, Map<Bytes, Event>> seen = new LinkedHashMap<>();
        final List<long[]> covered = new ArrayList<>();
        Watch watch;
        long from;

        Watcher(SplittableRandom random, MvccStore store, boolean fromHistory) {
            range = randomRange(random);
            puts = random.nextInt(4) != 0;
            deletes = !puts || random.nextInt(4) != 0;
            previous = random.nextBoolean();
            long first = store.counters().compactRevision() + 1;
            long start = fromHistory ? first + random.nextLong(store.revision() + 2 - first) : 0;
            open(store, start);
        }

        void open(MvccStore store, long start) {
            watch = store.watch(range, start, puts, deletes, previous);
            from = watch.revision() + 1;
        }

        /** Takes what there is, and holds it against the promises that need no reference: order, wholeness, no repetition. */
        void next(long maxBytes, long waitNanos) throws InterruptedException {
            long before = watch.revision();
            List<Event> events = watch.next(maxBytes, waitNanos);
            for (Event event : events) {
                assertTrue(event.revision() > before, "an event of a revision that had been returned whole");
                assertTrue(
                        event.revision() <= watch.revision(), "an event ahead of the revision that is said to be seen");
                Map<Bytes, Event> commit = seen.computeIfAbsent(event.revision(), revision -> new TreeMap<>());
                assertEquals(null, commit.put(event.key(), event), "an event twice");
            }
            long last = 0;
            for (long revision : seen.keySet()) {
                assertTrue(revision > last, "commits out of order");
                last = revision;
            }
        }

        void fellBehind(MvccStore store, RevisionOutOfRangeException behind) {
            covered.add(new long[] {from, watch.revision()});
            watch.close();
            long start = behind.first();
            while (true) {
                try {
                    open(store, start);
                    return;
                } catch (RevisionOutOfRangeException again) {
                    start = again.first(); // The window has moved on meanwhile.
                }
            }
        }

        void check(Observer observer) {
            covered.add(new long[] {from, watch.revision()});
            int found = 0;
            for (long[] part : covered) {
                for (long revision = part[0]; revision <= part[1]; revision++) {
                    Map<Bytes, Event> expected = observer.expected(revision, range, puts, deletes, previous);
                    assertEquals(expected, seen.getOrDefault(revision, Map.of()), "at revision " + revision);
                    found += expected.isEmpty() ? 0 : 1;
                }
            }
            assertEquals(found, seen.size(), "commits that were not watched");
        }
    }

    @Test
    void everyChangeThatIsWatchedComesInOrderWholeAndOnceWhateverIsCompactedMeanwhile() throws Exception {
        Harness.seeded(Harness.count(60, 5_000), random -> {
            Limits limits = random.nextBoolean() ? WINDOW : WINDOW.with(Limit.HISTORY_BYTES, 5_000);
            try (Harness kv = new Harness(limits)) {
                Observer observer = new Observer();
                List<Watcher> watchers = new ArrayList<>();
                for (int step = 1; step <= 300; step++) {
                    observer.submit(kv, randomCommand(random, step));
                    if (watchers.size() < 12 && random.nextInt(10) == 0) {
                        watchers.add(new Watcher(random, kv.store, random.nextBoolean()));
                    }
                    if (random.nextInt(60) == 0) {
                        kv.log.submit(new Command.Compact(kv.store.revision() - random.nextLong(20)));
                    }
                    for (Watcher watcher : watchers) {
                        if (random.nextInt(20) == 0) {
                            drain(kv, watcher, random);
                        }
                    }
                }
                for (Watcher watcher : watchers) {
                    while (watcher.watch.revision() < kv.store.revision()) {
                        drain(kv, watcher, random);
                    }
                    watcher.check(observer);
                    watcher.watch.close();
                }
                kv.store.checkInvariants();
                assertEquals(0, kv.store.counters().watches());
            }
        });
    }

    private static void drain(Harness kv, Watcher watcher, SplittableRandom random) throws InterruptedException {
        try {
            watcher.next(1 + random.nextInt(100), 0);
        } catch (RevisionOutOfRangeException behind) {
            assertEquals(kv.store.counters().compactRevision() + 1, behind.first());
            watcher.fellBehind(kv.store, behind);
        }
    }

    @Test
    void everyChangeComesWhileWatchesWaitAndTheWindowMovesUnderSlowOnes() throws Exception {
        Harness.seeded(Harness.count(4, 200), random -> {
            Limits limits = WINDOW.with(Limit.HISTORY_BYTES, 40_000);
            try (Harness kv = new Harness(limits, true)) {
                Observer observer = new Observer();
                int steps = 2_000;
                AtomicReference<Long> end = new AtomicReference<>(Long.MAX_VALUE);
                List<Watcher> watchers = new ArrayList<>();
                try (Harness.Crew crew = new Harness.Crew()) {
                    for (int i = 0; i < 8; i++) {
                        Watcher watcher = new Watcher(random, kv.store, false);
                        watchers.add(watcher);
                        SplittableRandom own = random.split();
                        boolean slow = i % 4 == 0;
                        crew.startVirtual(() -> {
                            while (watcher.watch.revision() < end.get()) {
                                try {
                                    watcher.next(1 + own.nextInt(200), 1_000_000);
                                } catch (RevisionOutOfRangeException behind) {
                                    watcher.fellBehind(kv.store, behind);
                                }
                                for (int j = slow ? own.nextInt(2_000) : 0; j > 0; j--) {
                                    Thread.yield();
                                }
                            }
                        });
                    }
                    for (int step = 1; step <= steps && !crew.failed(); step++) {
                        observer.submit(kv, randomCommand(random, step));
                    }
                    end.set(kv.store.revision());
                }
                watchers.forEach(watcher -> watcher.check(observer));
            }
        });
    }

    @Test
    void aChangeWakesThoseThatItIsMeantForAndNobodyElse() throws Exception {
        int watches = 10_000;
        try (Harness kv = new Harness(WINDOW)) {
            AtomicInteger woken = new AtomicInteger();
            CountDownLatch begun = new CountDownLatch(watches);
            int platformThreads = Thread.activeCount();
            try (Harness.Crew crew = new Harness.Crew()) {
                List<Watch> open = new ArrayList<>();
                for (int i = 0; i < watches; i++) {
                    Range range =
                            i % 2 == 0 ? Range.key(Harness.key(i)) : Range.prefix(Bytes.utf8("prefix-" + i + "-"));
                    Watch watch = kv.store.watch(range, 0, true, true, false);
                    open.add(watch);
                    crew.startVirtual(() -> {
                        begun.countDown();
                        try {
                            assertEquals(1, watch.next(1, FOREVER).size());
                            woken.incrementAndGet();
                        } catch (IllegalStateException closed) {
                            assertTrue(watch.isClosed());
                        }
                    });
                }
                begun.await();
                kv.applied(Command.put(Harness.key(5_000), Harness.value(1)));
                kv.applied(Command.put(Bytes.utf8("prefix-77-x"), Harness.value(1)));
                kv.applied(Command.put(Bytes.utf8("nobody's"), Harness.value(1)));
                Harness.await("two are woken", () -> woken.get() == 2);
                assertEquals(2, woken.get());
                assertTrue(Thread.activeCount() <= platformThreads + 2, "platform threads: " + Thread.activeCount());
                open.forEach(Watch::close);
            }
            assertEquals(2, woken.get());
            assertEquals(0, kv.store.counters().watches());
        }
    }

    /** The hub looks at the commits in its place. */
    @Test
    void aWatchThatWaitsDoesNotFallBehindHoweverMuchElseIsWritten() throws Exception {
        try (Harness kv = new Harness(WINDOW.with(Limit.HISTORY_BYTES, 50_000))) {
            Watch watch = kv.store.watch(Range.prefix(Bytes.utf8("mine")), 0, true, true, true);
            AtomicReference<List<Event>> returned = new AtomicReference<>();
            try (Harness.Crew crew = new Harness.Crew()) {
                crew.startVirtual(() -> returned.set(watch.next(1, FOREVER)));
                Harness.await("the watch waits", () -> kv.store.waitingWatches() == 1);
                for (int i = 0; i < 20_000; i++) {
                    kv.applied(Command.put(Harness.key(i % 10), Harness.value(i)));
                    if (i % 100 == 0) {
                        long revision = kv.store.revision();
                        Harness.await("the hub has looked", () -> kv.store.watchedUpTo() >= revision);
                    }
                }
                assertTrue(kv.store.counters().compactRevision() > 1_000);
                kv.applied(Command.put(Bytes.utf8("mine"), Harness.value(1)));
            }
            assertEquals(1, returned.get().size());
            assertEquals(kv.store.revision(), watch.revision());
        }
    }

    /** A watch of a key and one of a range that wait, for nothing but changes of "mine". */
    private static List<Watch> waiting(Harness kv, Harness.Crew crew, Ends ends) {
        Bytes mine = Bytes.utf8("mine");
        List<Watch> watches = new ArrayList<>();
        for (Range range : List.of(Range.key(mine), Range.prefix(mine))) {
            Watch watch = kv.store.watch(range, 0, true, true, false);
            watches.add(watch);
            crew.startVirtual(() -> ends.await(watch));
        }
        Harness.await("both wait", () -> kv.store.waitingWatches() == 2);
        return watches;
    }

    /** How the waits of watches have ended. */
    private static final class Ends {
        private final List<List<Event>> returned = Collections.synchronizedList(new ArrayList<>());
        private final List<RevisionOutOfRangeException> behind = Collections.synchronizedList(new ArrayList<>());

        void await(Watch watch) throws InterruptedException {
            try {
                returned.add(watch.next(FOREVER, FOREVER));
            } catch (RevisionOutOfRangeException e) {
                behind.add(e);
            }
        }

        int count() {
            return returned.size() + behind.size();
        }

        /** Each watch has returned the one commit that was meant for it, or has fallen behind by just that. */
        void check(long meant) {
            for (List<Event> events : returned) {
                assertEquals(
                        List.of(meant), events.stream().map(Event::revision).toList());
            }
            for (RevisionOutOfRangeException e : behind) {
                assertEquals(meant + 1, e.first());
            }
        }
    }

    /** Without a pause for the hub, which is left behind again and again. */
    @Test
    void aWatchThatWaitsDoesNotEndByTheCompactionOfCommitsThatAreNotMeantForIt() throws Exception {
        try (Harness kv = new Harness(WINDOW)) {
            Ends ends = new Ends();
            try (Harness.Crew crew = new Harness.Crew()) {
                waiting(kv, crew, ends);
                for (int i = 0; i < 5_000; i++) {
                    kv.applied(Command.put(Harness.key(i % 10), Harness.value(i)));
                    kv.applied(new Command.Compact(kv.store.revision()));
                }
                assertEquals(5_000, kv.store.counters().compactRevision());
                assertEquals(2, kv.store.waitingWatches());
                kv.applied(Command.put(Bytes.utf8("mine"), Harness.value(1)));
            }
            assertEquals(List.of(), ends.behind);
            assertEquals(2, ends.returned.size());
            ends.check(5_001);
        }
    }

    /** Every commit leaves the window at once. */
    @Test
    void aWatchThatWaitsWhereThereIsNoWindowDoesNotEndByCommitsThatAreNotMeantForIt() throws Exception {
        try (Harness kv = new Harness(WINDOW.with(Limit.HISTORY_BYTES, 0))) {
            Ends ends = new Ends();
            try (Harness.Crew crew = new Harness.Crew()) {
                waiting(kv, crew, ends);
                for (int i = 0; i < 10_000; i++) {
                    kv.applied(Command.put(Harness.key(i % 10), Harness.value(i)));
                }
                assertEquals(10_000, kv.store.counters().compactRevision());
                assertEquals(2, kv.store.waitingWatches());
                assertEquals(0, ends.count());
                kv.applied(Command.put(Bytes.utf8("mine"), Harness.value(1)));
            }
            assertEquals(2, ends.count());
            ends.check(10_001);
        }
    }

    /** Whether it is fast enough to get it is chance; that it hears of it is not. */
    @Test
    void aWatchThatWaitsForACommitThatIsGivenUpAtOnceGetsItOrFallsBehind() throws Exception {
        for (Limits limits : List.of(WINDOW, WINDOW.with(Limit.HISTORY_BYTES, 0))) {
            try (Harness kv = new Harness(limits)) {
                for (int round = 0; round < Harness.count(300, 20_000); round++) {
                    Ends ends = new Ends();
                    long meant;
                    try (Harness.Crew crew = new Harness.Crew()) {
                        List<Watch> watches = waiting(kv, crew, ends);
                        kv.applied(Command.put(Harness.key(1), Harness.value(round)));
                        kv.applied(Command.put(Bytes.utf8("mine"), Harness.value(round)));
                        meant = kv.store.revision();
                        kv.applied(new Command.Compact(meant));
                        Harness.await("both hear of it", () -> ends.count() == 2 || crew.failed());
                        watches.forEach(Watch::close);
                    }
                    ends.check(meant);
                }
            }
        }
    }

    @Test
    void aWaitThatIsOverSaysHowFarThereWasNothing() throws Exception {
        try (Harness kv = new Harness(WINDOW);
                Watch watch = kv.store.watch(Range.key(Harness.key(1)), 0, true, true, false)) {
            for (int i = 0; i < 100; i++) {
                kv.applied(Command.put(Harness.key(2), Harness.value(i)));
            }
            assertEquals(List.of(), watch.next(1, 0));
            assertEquals(100, watch.revision());
        }
    }

    @Test
    void aLargeCommitComesWholeHoweverLittleIsAskedFor() throws Exception {
        try (Harness kv = new Harness(WINDOW);
                Watch watch = kv.store.watch(Range.all(), 0, true, true, false)) {
            kv.applied(new Command.Set(Harness.list(1_000, i -> Harness.put(Harness.key(i), Harness.value(i)))));
            kv.applied(Command.put(Harness.key(0), Harness.value(0)));
            assertEquals(1_000, watch.next(1, 0).size());
            assertEquals(1, watch.revision());
            assertEquals(1, watch.next(1, 0).size());
        }
    }

    @Test
    void aKeyThatOneCommandPutsAndDeletesIsNotHeardOf() throws Exception {
        try (Harness kv = new Harness(WINDOW);
                Watch watch = kv.store.watch(Range.all(), 0, true, true, true)) {
            Bytes key = Harness.key(1);
            kv.log.submit(Txn.of(
                    new Op.Put(key, Harness.value(1), 0),
                    new Op.Delete(Range.key(key), false),
                    new Op.Put(Harness.key(2), Harness.value(2), 0)));
            assertEquals(
                    List.of(Harness.key(2)),
                    watch.next(1, 0).stream().map(Event::key).toList());
        }
    }

    @Test
    void aWatchBeginsWithAnyRevisionOfTheWindowAndNoOther() throws Exception {
        try (Harness kv = new Harness(WINDOW)) {
            for (int i = 1; i <= 20; i++) {
                kv.applied(Command.put(Harness.key(1), Harness.value(i)));
            }
            kv.log.submit(new Command.Compact(10));
            for (long from : new long[] {-1, 1, 10, 22}) {
                RevisionOutOfRangeException refused = assertThrows(
                        RevisionOutOfRangeException.class, () -> kv.store.watch(Range.all(), from, true, true, true));
                assertEquals(11, refused.first());
                assertEquals(21, refused.last());
            }
            for (long from = 11; from <= 21; from++) {
                try (Watch watch = kv.store.watch(Range.all(), from, true, true, true)) {
                    assertEquals(21 - from, watch.next(FOREVER, 0).size());
                }
            }
            try (Watch watch = kv.store.watch(Range.all(), 11, true, true, true)) {
                Event first = watch.next(1, 0).get(0);
                assertEquals(Harness.value(10), first.previous().value());
            }
            assertEquals(0, kv.store.counters().watches());
        }
    }

    @Test
    void aWatchThatFellBehindSaysWhereToBeginAgain() throws Exception {
        try (Harness kv = new Harness(WINDOW);
                Watch watch = kv.store.watch(Range.all(), 0, true, true, false)) {
            for (int i = 1; i <= 20; i++) {
                kv.applied(Command.put(Harness.key(1), Harness.value(i)));
            }
            kv.log.submit(new Command.Compact(10));
            RevisionOutOfRangeException behind =
                    assertThrows(RevisionOutOfRangeException.class, () -> watch.next(1, 0));
            assertEquals(11, behind.first());
        }
    }

    @Test
    void closingOrInterruptingEndsAWaitAtOnceAndClosingTheStoreEndsThemAll() throws Exception {
        Harness kv = new Harness(WINDOW);
        List<Throwable> ends = new ArrayList<>();
        try (Harness.Crew crew = new Harness.Crew()) {
            Watch closed = kv.store.watch(Range.all(), 0, true, true, false);
            Watch interrupted = kv.store.watch(Range.key(Harness.key(1)), 0, true, true, false);
            Watch left = kv.store.watch(Range.all(), 0, true, true, false);
            Thread first = crew.startVirtual(() ->
                    add(ends, assertThrows(IllegalStateException.class, () -> closed.next(1, FOREVER))));
            Thread second = crew.startVirtual(() ->
                    add(ends, assertThrows(InterruptedException.class, () -> interrupted.next(1, FOREVER))));
            Thread third = crew.startVirtual(() ->
                    add(ends, assertThrows(IllegalStateException.class, () -> left.next(1, FOREVER))));
            Harness.await("three wait", () -> kv.store.waitingWatches() == 3);
            closed.close();
            second.interrupt();
            first.join();
            second.join();
            assertEquals(1, kv.store.waitingWatches());
            kv.close();
            third.join();
        }
        assertEquals(3, ends.size());
        assertEquals(0, kv.store.waitingWatches());
    }

    @Test
    void aClosedStoreIsNotWatched() {
        Harness kv = new Harness(WINDOW.with(Limit.OPEN_WATCHES, 1));
        kv.applied(Command.put(Harness.key(1), Harness.value(1)));
        kv.close();
        for (long from : new long[] {0, 1}) {
            IllegalStateException closed = assertThrows(
                    IllegalStateException.class, () -> kv.store.watch(Range.all(), from, true, true, false));
            assertEquals("the store has been closed", closed.getMessage());
        }
        assertEquals(0, kv.store.counters().watches());
    }

    private static void add(List<Throwable> ends, Throwable end) {
        synchronized (ends) {
            ends.add(end);
        }
    }

    @Test
    void noMoreWatchesAreOpenThanMayBe() {
        try (Harness kv = new Harness(WINDOW.with(Limit.OPEN_WATCHES, 2))) {
            Watch first = kv.store.watch(Range.all(), 0, true, true, false);
            kv.store.watch(Range.all(), 0, true, true, false);
            assertThrows(IllegalStateException.class, () -> kv.store.watch(Range.all(), 0, true, true, false));
            first.close();
            first.close();
            kv.store.watch(Range.all(), 0, true, true, false);
            assertThrows(IllegalStateException.class, () -> kv.store.watch(Range.all(), 0, true, true, false));
            assertEquals(2, kv.store.counters().watches());
        }
    }

    /** Heap: a child process with little of it. */
    @Test
    void watchesThatAreNeverReadKeepNothing() throws Exception {
        Harness.child(NeverReadProgram.class, List.of("-Xmx64m"));
    }

    static final class NeverReadProgram {
        public static void main(String[] args) {
            try (MvccStore store = new MvccStore(Limits.defaults())) {
                CommandLog log = new MemoryCommandLog(store);
                List<Watch> watches = new ArrayList<>();
                for (int i = 0; i < 1_000; i++) {
                    watches.add(store.watch(Range.all(), 0, true, true, true));
                }
                Bytes value = Harness.bytes(1_000);
                for (int i = 0; i < 500_000; i++) {
                    log.submit(Command.put(Harness.key(i % 1_000), value));
                }
                for (Watch watch : watches) {
                    assertThrows(RevisionOutOfRangeException.class, () -> watch.next(1, 0));
                }
                assertTrue(store.counters().heldBytes() <= store.limits().memoryBytes());
            }
        }
    }
}
