package homekv.storage;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import homekv.storage.ModelTest.Generator;
import homekv.storage.ModelTest.Reference;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.TreeMap;
import org.junit.jupiter.api.Test;

/**
 * Random commands over a disk that loses what was not forced, with power cuts, kills and failures at any operation,
 * those of recovery included, against the reference of {@link ModelTest}.
 */
class CrashTest {
    private static final int COMMANDS = 500;

    @Test
    void whatComesBackIsAPrefixOfTheCommandsWithAllThatWasPromised() throws Exception {
        Harness.seeded(Harness.count(150, 10_000), random -> new Run(random).run());
    }

    /** D1 and D2 with the log's own threads: group commit, and snapshot files that are written meanwhile. */
    @Test
    void manyWritersAtOnceFindEverythingThatWasAnsweredAndNothingInPart() throws Exception {
        Harness.seeded(Harness.count(20, 2_000), CrashTest::writeAtOnce);
    }

    private static void writeAtOnce(SplittableRandom random) throws Exception {
        Bytes total = Bytes.utf8("total");
        int writers = 1 + random.nextInt(12);
        long[] answered = new long[writers];
        SimulatedDisk disk = new SimulatedDisk(random.split());
        LogOptions options = LogOptions.defaults()
                .withSegmentBytes(1 + random.nextInt(5_000))
                .withSnapshotLogBytes(1 + random.nextInt(20_000))
                .withMinFreeBytes(0);
        for (int start = 0; start < 4; start++) {
            List<String> notices = Collections.synchronizedList(new ArrayList<>());
            SplittableRandom numbers = random.split();
            WriteAheadLog log = WriteAheadLog.open(
                    disk, Harness.ROOMY, options, notices::add, System::nanoTime, numbers::nextLong, true);
            MvccStore store = log.store();
            long sum = 0;
            for (int i = 0; i < writers; i++) {
                Entry entry = store.get(Harness.key(i));
                long there = entry == null ? 0 : Harness.number(entry);
                long last = answered[i];
                assertTrue(there == last || there == last + 1, () -> there + ", answered " + last + " " + notices);
                answered[i] = there;
                sum += there;
            }
            assertEquals(sum, sum == 0 ? 0 : Harness.number(store.get(total)), "D2: a transaction in part");
            assertEquals(sum, store.revision());
            disk.crashAt(random.nextInt(300));
            long[] seen = {0};
            try (Harness.Crew crew = new Harness.Crew()) {
                for (int i = 0; i < writers; i++) {
                    int writer = i;
                    crew.startVirtual(() -> {
                        try {
                            while (true) {
                                Bytes next = Harness.value(answered[writer] + 1);
                                log.submit(
                                        Txn.of(new Op.Put(Harness.key(writer), next, 0), new Op.Increment(total, 1)));
                                answered[writer]++;
                            }
                        } catch (LogStoppedException e) {
                            assertNotNull(log.failure());
                        }
                    });
                }
                crew.start(() -> {
                    while (log.failure() == null && !crew.failed()) {
                        seen[0] = store.revision();
                    }
                    seen[0] = store.revision();
                });
            }
            log.close();
            disk = disk.crash();
            List<String> again = new ArrayList<>();
            WriteAheadLog recovered = WriteAheadLog.open(
                    disk, Harness.ROOMY, options, again::add, System::nanoTime, numbers::nextLong, false);
            assertTrue(recovered.store().revision() >= seen[0], () -> "D1: " + seen[0] + " was seen; " + again);
            recovered.store().close();
            disk = disk.kill();
        }
    }

    /** What the store is after so many commands; the entries are the reference's at that revision. */
    private record Position(long revision, List<Held> leases, long compacted) {}

    /** What has to come back of a lease, whenever it comes back. */
    private record Held(long id, long ttlMillis, long keys, boolean ended) {
        static Held of(LeaseStatus status) {
            return new Held(status.id(), status.ttlMillis(), status.keys(), status.leftMillis() == 0);
        }
    }

    /** A store and what became of it, from its first start on. */
    private static final class Run {
        private final SplittableRandom random;
        private final List<Bytes> keys;
        private final boolean keepsAllHistory;
        private final Limits limits;
        private final int failurePercent;
        private final List<String> trace = new ArrayList<>();

        private Reference reference;
        private Generator generator;

        /** All commands that may have been carried out, in order, and what the store was before and after each. */
        private final List<Command> submitted = new ArrayList<>();

        private final List<Position> positions = new ArrayList<>();

        /** How many of them have been answered; and how many have to survive a power cut. */
        private int answered;

        private int safe;

        /** By the number of the store: up to which revision there were answers or reads under it. */
        private final Map<Long, Long> seenRevisions = new HashMap<>();

        private long highestCompacted;
        private boolean started;
        private long historyId;
        private boolean alwaysForced = true;

        private SimulatedDisk disk;
        private WriteAheadLog log;
        private LogOptions options;
        private boolean failing;

        /** Whether the store has been open since the log was closed: leases may have been kept alive in that time. */
        private boolean openedSinceClosed;

        private boolean inSnapshotFile;
        private long nanos;
        private int commands;

        Run(SplittableRandom random) {
            this.random = random;
            this.keys = MvccStoreTest.keys(1 + random.nextInt(30));
            this.keepsAllHistory = random.nextInt(4) > 0;
            this.limits = Harness.ROOMY.with(
                    Limit.HISTORY_BYTES, keepsAllHistory ? Harness.ROOMY.memoryBytes() : random.nextInt(10_000));
            this.failurePercent = random.nextInt(3) == 0 ? 30 : 0;
            this.disk = new SimulatedDisk(random.split());
            rebuild(0);
        }

        void run() throws Exception {
            try {
                open(LogStop.FIRST_START);
                while (commands < COMMANDS) {
                    step();
                }
                restart(LogStop.CLOSED);
                log.store().close();
            } catch (Exception | Error e) {
                int from = Math.max(0, trace.size() - 60);
                throw new AssertionError(
                        e.getMessage() + "\n  " + String.join("\n  ", trace.subList(from, trace.size())), e);
            }
        }

        // ---- Commands ----

        private void step() throws Exception {
            nanos += random.nextInt(2) * 1_000_000L;
            switch (random.nextInt(60)) {
                case 0 -> restart(LogStop.POWER_CUT);
                case 1 -> restart(LogStop.KILLED);
                case 2 -> restart(LogStop.CLOSED);
                case 3 -> writeSnapshotFile();
                case 4, 5, 6 -> writeSnapshotFileIfDue();
                default -> submit(1 + random.nextInt(random.nextBoolean() ? 2 : 20));
            }
        }

        private void submit(int count) throws Exception {
            List<Command> group = new ArrayList<>();
            List<Result> expected = new ArrayList<>();
            int before = submitted.size();
            for (int i = 0; i < count; i++) {
                Command command = command();
                group.add(command);
                expected.add(reference.apply(command));
                submitted.add(command);
                positions.add(position());
            }
            commands += count;
            List<Result> results;
            try {
                results = log.submitAll(group);
            } catch (LogStoppedException e) {
                trace("%d commands: %s", count, e.getMessage());
                assertTrue(disk.isOver() || failing, () -> "the log has stopped though nothing has failed: " + e);
                if (count == 1 && !e.outcomeUnknown()) {
                    rebuild(before); // It says that nothing was changed.
                }
                stopped();
                return;
            }
            for (int i = 0; i < count; i++) {
                int index = i;
                assertEquals(
                        expected.get(i),
                        results.get(i),
                        () -> group.get(index) + " after " + group.subList(0, index) + " at " + positions.get(before));
            }
            trace("%d commands, revision %d", count, reference.revision());
            answered = submitted.size();
            see(reference.revision());
            assertEquals(reference.revision(), log.store().revision());
            if (options.durability() == Durability.FORCED) {
                safe = answered;
            }
            if (disk.isOver() || log.failure() != null) {
                stopped();
            }
        }

        private Command command() {
            while (true) {
                Command command = generator.command();
                if (keepsAllHistory || !(command instanceof Command.Compact)) {
                    return command;
                }
            }
        }

        private void see(long revision) {
            seenRevisions.merge(historyId, revision, Math::max);
        }

        private void writeSnapshotFile() throws Exception {
            try {
                inSnapshotFile = true;
                SnapshotFileInfo info = log.writeSnapshotFile();
                trace("snapshot file %s", info);
            } catch (IOException | LogStoppedException e) {
                trace("snapshot file: %s", e.getMessage());
                assertTrue(disk.isOver() || failing, () -> "no snapshot file though nothing has failed: " + e);
            } finally {
                inSnapshotFile = false;
            }
            if (disk.isOver() || log.failure() != null) {
                stopped();
            }
        }

        private void writeSnapshotFileIfDue() throws Exception {
            inSnapshotFile = true;
            boolean due = log.runSnapshotFile();
            inSnapshotFile = false;
            if (due) {
                trace("snapshot file, as was due");
            }
            if (disk.isOver() || log.failure() != null) {
                stopped();
            }
        }

        /** The disk is about to do something. Whatever can be seen by now has to be there after a power cut. */
        private void beforeOperation(SimulatedDisk.Operation operation, String name) {
            if (log == null) {
                return;
            }
            see(log.store().revision());
            // What is done to the snapshot file is done by a thread of its own.
            if (inSnapshotFile && name.startsWith("snapshot-") && !disk.isOver() && random.nextInt(3) == 0) {
                try {
                    submit(1 + random.nextInt(5));
                } catch (Exception e) {
                    throw new AssertionError(e);
                }
            }
        }

        private void afterOperation(SimulatedDisk.Operation operation, String name) {
            if (operation == SimulatedDisk.Operation.FORCE && name.startsWith("log-") && log != null) {
                safe = Math.max(safe, answered);
            }
        }

        // ---- Ends and starts ----

        private enum LogStop {
            FIRST_START,
            POWER_CUT,
            KILLED,
            CLOSED
        }

        /** The log has stopped for good, or it should have. */
        private void stopped() throws Exception {
            if (inSnapshotFile) {
                disk.halt(); // A log with threads does nothing more. Without, it is in the midst of the snapshot
                // file here.
                return; // Whoever asked for the snapshot file comes here.
            }
            if (!disk.isOver()) {
                assertNotNull(log.failure());
                assertReads(log.store(), log.store().revision());
                LogStoppedException e = assertThrows(
                        LogStoppedException.class, () -> log.submit(Command.put(keys.get(0), keys.get(0))));
                assertFalse(e.outcomeUnknown());
            }
            assertTrue(log.store().revision() <= reference.revision());
            restart(disk.isOver() || random.nextBoolean() ? LogStop.POWER_CUT : LogStop.KILLED);
        }

        private void restart(LogStop stop) throws Exception {
            List<LeaseStatus> leases = log.store().leases();
            LogStop how = stop;
            if (stop == LogStop.CLOSED) {
                openedSinceClosed = false; // Also if it fails: the record may be there.
                try {
                    log.close();
                    disk = disk.kill();
                } catch (IOException | LogStoppedException e) {
                    trace("close: %s", e.getMessage());
                    assertTrue(disk.isOver() || failing, () -> "not closed though nothing has failed: " + e);
                    how = disk.isOver() || random.nextBoolean() ? LogStop.POWER_CUT : LogStop.KILLED;
                }
            }
            if (how == LogStop.POWER_CUT || disk.isOver() && how != LogStop.CLOSED) {
                disk = disk.crash();
            } else if (how == LogStop.KILLED) {
                disk = disk.kill();
            } else if (random.nextBoolean()) {
                disk = disk.crash(); // The power is cut after the log was closed.
            }
            log.store().close();
            log = null;
            trace("%s", how);
            open(how);
            if (how == LogStop.CLOSED) {
                assertLeasesHaveWhatTheyHadLeft(leases);
            }
        }

        private void open(LogStop stop) throws Exception {
            LogStop how = stop;
            for (int attempt = 0; ; attempt++) {
                chooseOptions();
                chooseFault(attempt);
                List<String> notices = new ArrayList<>();
                WriteAheadLog opened;
                try {
                    opened = WriteAheadLog.open(
                            disk, limits, options, notices::add, () -> nanos, random::nextLong, false);
                } catch (IOException e) {
                    alwaysForced &= options.durability() == Durability.FORCED;
                    trace("start: %s; %s", e, notices);
                    assertTrue(disk.isOver() || failing, () -> "no start though nothing has failed: " + e);
                    how = disk.isOver() || random.nextBoolean() ? LogStop.POWER_CUT : LogStop.KILLED;
                    disk = how == LogStop.POWER_CUT ? disk.crash() : disk.kill();
                    continue;
                }
                trace("start with %s: %s", options, notices);
                assertRecovered(opened, how);
                alwaysForced &= options.durability() == Durability.FORCED;
                if (random.nextInt(3) > 0) {
                    log = opened;
                    return;
                }
                // Recovering twice equals recovering once, whatever happens in between.
                how = disk.isOver() || random.nextBoolean() ? LogStop.POWER_CUT : LogStop.KILLED;
                disk = how == LogStop.POWER_CUT ? disk.crash() : disk.kill();
                opened.store().close();
            }
        }

        private void chooseOptions() {
            Durability[] durabilities = {
                Durability.FORCED, Durability.FORCED, Durability.FORCED, Durability.INTERVAL, Durability.WRITTEN
            };
            // Mostly the same all the time, since a promise that changes makes the history id change.
            Durability durability = options == null || random.nextInt(10) == 0
                    ? durabilities[random.nextInt(durabilities.length)]
                    : options.durability();
            long[] segmentBytes = {1, 300, 3_000, 30_000};
            long[] snapshotLogBytes = {1, 1_000, 10_000, 1L << 40};
            options = LogOptions.defaults()
                    .withDurability(durability)
                    .withForceIntervalMillis(1 + random.nextInt(30))
                    .withSegmentBytes(segmentBytes[random.nextInt(segmentBytes.length)])
                    .withSnapshotLogBytes(snapshotLogBytes[random.nextInt(snapshotLogBytes.length)])
                    .withSnapshotIntervalMillis(random.nextInt(3) * 20)
                    .withMinFreeBytes(0)
                    .withRecoverToLastGood(random.nextInt(4) == 0); // There is no damage.
        }

        private void chooseFault(int attempt) {
            failing = false;
            disk.limitTo(Long.MAX_VALUE);
            int[] bounds = {8, 40, 200, 1_000};
            int operation = random.nextInt(bounds[random.nextInt(bounds.length)]);
            int fault = random.nextInt(100);
            if (attempt > 6) {
                // Enough of that.
            } else if (fault < failurePercent) {
                failing = true;
                switch (random.nextInt(5)) {
                    case 0 -> disk.failReadAt(random.nextInt(20));
                    case 1 -> disk.limitTo(disk.usedBytes() + random.nextInt(20_000));
                    case 2 ->
                        disk.failAt(
                                SimulatedDisk.Operation.values()[
                                        random.nextInt(SimulatedDisk.Operation.values().length)],
                                random.nextInt(10));
                    default -> disk.failAt(operation);
                }
            } else if (fault < 90) {
                disk.crashAt(operation);
            }
            disk.before(this::beforeOperation);
            disk.after(this::afterOperation);
        }

        // ---- What came back ----

        private void assertRecovered(WriteAheadLog opened, LogStop how) throws Exception {
            MvccStore store = opened.store();
            store.checkInvariants();
            long id = store.id();
            long compactRevision = store.counters().compactRevision();
            boolean goesOn = started && id == historyId;
            List<Held> leases = store.leases().stream().map(Held::of).toList();
            int least = goesOn ? Math.max(safe, answered) : safe;
            int position = submitted.size();
            while (position >= least && !isAt(position, store.revision(), leases, compactRevision)) {
                position--;
            }
            if (position < least) {
                throw new AssertionError("came back at revision " + store.revision() + ", compacted to "
                        + compactRevision + ", with leases " + leases
                        + ", which it was not after " + least + " (of " + safe + " safe and " + answered
                        + " answered) to " + submitted.size() + " commands, " + positions.get(least) + " to "
                        + positions.get(submitted.size()));
            }
            if (id != historyId && started) {
                assertFalse(
                        alwaysForced || how == LogStop.CLOSED, "D8: another number though nothing visible can be lost");
            }
            long seen = seenRevisions.getOrDefault(id, 0L);
            assertTrue(store.revision() >= seen, () -> "D8: revision " + seen + " was seen under " + id);
            started = true;
            historyId = id;
            see(store.revision());

            if (keepsAllHistory) {
                assertTrue(
                        compactRevision <= highestCompacted,
                        () -> "S13: history is gone that nobody gave up: " + compactRevision + ", " + highestCompacted);
            }
            rebuild(position);
            reference.compacted = compactRevision;
            answered = position;
            safe = position; // What was recovered has been forced.
            assertReads(store, reference.revision());
            if (openedSinceClosed) {
                for (LeaseStatus lease : store.leases()) {
                    assertTrue(lease.leftMillis() == 0 || lease.leftMillis() == lease.ttlMillis(), lease::toString);
                }
            }
            openedSinceClosed = true;
        }

        private boolean isAt(int position, long revision, List<Held> leases, long compactRevision) {
            Position at = positions.get(position);
            return at.revision == revision
                    && at.leases.equals(leases)
                    && (at.compacted <= compactRevision || !keepsAllHistory);
        }

        private void assertReads(MvccStore store, long last) throws Exception {
            long first = store.counters().compactRevision();
            assertEntries(store, last);
            assertEntries(store, first);
            for (int i = 0; i < 4; i++) {
                assertEntries(store, random.nextLong(first, last + 1));
            }
            long from = random.nextLong(first, last + 1);
            Bytes key = keys.get(random.nextInt(keys.size()));
            assertEquals(
                    reference.history(key, from, 1_000).stream()
                            .filter(event -> event.revision() <= last)
                            .toList(),
                    store.history(key, from, 1_000));
            assertWatched(store, first, last);
            Map<Bytes, Entry> newest = reference.revisions.get((int) last);
            Counters counters = store.counters();
            assertEquals(newest.size(), counters.keys());
            assertEquals(newest.keySet().stream().mapToLong(Bytes::length).sum(), counters.keyBytes());
            assertEquals(
                    newest.values().stream()
                            .mapToLong(entry -> entry.value().length())
                            .sum(),
                    counters.valueBytes());
        }

        private void assertEntries(MvccStore store, long revision) {
            try (Snapshot snapshot = store.snapshot(revision)) {
                assertEquals(
                        List.copyOf(reference.revisions.get((int) revision).values()),
                        ModelTest.list(snapshot.scan(Range.all(), false)),
                        () -> "at revision " + revision);
            }
        }

        /** Every change since the first revision that can be read is in its commit. */
        private void assertWatched(MvccStore store, long first, long last) throws InterruptedException {
            if (first == last) {
                return;
            }
            Map<Long, Map<Bytes, Boolean>> expected = new TreeMap<>();
            reference.histories.forEach((key, lives) -> lives.tailMap(first, false)
                    .headMap(last, true)
                    .forEach((revision, live) -> expected.computeIfAbsent(revision, r -> new TreeMap<>())
                            .put(key, live)));
            Map<Long, Map<Bytes, Boolean>> watched = new TreeMap<>();
            try (Watch watch = store.watch(Range.all(), first + 1, true, true, false)) {
                while (watch.revision() < last) {
                    for (Event event : watch.next(1 << 20, 0)) {
                        watched.computeIfAbsent(event.revision(), r -> new TreeMap<>())
                                .put(event.key(), event instanceof Event.Put);
                    }
                }
            }
            assertEquals(expected, watched, "the commits of the history");
        }

        /** A lease never ends early (S16): closing gives it at least what it had left. */
        private void assertLeasesHaveWhatTheyHadLeft(List<LeaseStatus> before) {
            for (LeaseStatus lease : before) {
                LeaseStatus now = log.store().lease(lease.id());
                assertNotNull(now, lease::toString);
                assertTrue(now.leftMillis() >= lease.leftMillis(), () -> lease + ", " + now);
            }
        }

        // ---- The reference ----

        /** The reference as it is after so many commands; the others never happened. */
        private void rebuild(int position) {
            reference = new Reference(limits);
            generator = new Generator(random, reference, keys);
            submitted.subList(position, submitted.size()).clear();
            positions.clear();
            positions.add(position());
            for (Command command : submitted) {
                reference.apply(command);
                positions.add(position());
            }
        }

        private Position position() {
            highestCompacted = Math.max(highestCompacted, reference.compacted);
            return new Position(
                    reference.revision(),
                    reference.leases.keySet().stream()
                            .map(lease -> Held.of(reference.status(lease)))
                            .toList(),
                    reference.compacted);
        }

        private void trace(String format, Object... arguments) {
            trace.add(String.format(format, arguments));
        }
    }
}
