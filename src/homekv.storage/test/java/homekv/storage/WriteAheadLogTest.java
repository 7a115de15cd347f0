package homekv.storage;

import static homekv.storage.Harness.ROOMY;
import static homekv.storage.Harness.bytes;
import static homekv.storage.Harness.del;
import static homekv.storage.Harness.key;
import static homekv.storage.Harness.put;
import static homekv.storage.Harness.set;
import static homekv.storage.Harness.value;
import static org.junit.jupiter.api.Assertions.assertDoesNotThrow;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import homekv.storage.SimulatedDisk.Operation;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.concurrent.ConcurrentSkipListSet;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Groups that share a force, and what becomes of commands when something fails; D1 to D4. */
class WriteAheadLogTest {
    private static final Bytes A = Bytes.utf8("a");

    static final LogOptions FORCED = LogOptions.defaults().withMinFreeBytes(0).withSnapshotIntervalMillis(0);

    private final List<String> notices = Collections.synchronizedList(new ArrayList<>());

    private final SimulatedDisk disk = new SimulatedDisk(new SplittableRandom(1));

    private final AtomicLong nanos = new AtomicLong();

    @TempDir
    private Path temporary;

    private WriteAheadLog open(SimulatedDisk from, LogOptions options) throws IOException {
        return WriteAheadLog.open(
                from, ROOMY, options, notices::add, System::nanoTime, new SplittableRandom(2)::nextLong, true);
    }

    /** Without threads of its own, and with the test's clock. */
    private WriteAheadLog openStepwise(SimulatedDisk from, LogOptions options) throws IOException {
        return WriteAheadLog.open(
                from, ROOMY, options, notices::add, nanos::get, new SplittableRandom(2)::nextLong, false);
    }

    private long forces() {
        return disk.operations(Operation.FORCE);
    }

    private long appends() {
        return disk.operations(Operation.APPEND);
    }

    private static Command one(int number) {
        return Command.put(key(number), value(number));
    }

    private static Result.Applied applied(WriteAheadLog log, Command command) {
        return assertInstanceOf(Result.Applied.class, log.submit(command));
    }

    /** Holds up the next force of a file until it is let go. */
    private final class Gate {
        final CountDownLatch reached = new CountDownLatch(1);
        final CountDownLatch open = new CountDownLatch(1);

        Gate() {
            disk.before((operation, name) -> {
                if (operation == Operation.FORCE && name.startsWith("log-") && reached.getCount() > 0) {
                    reached.countDown();
                    assertDoesNotThrow(() -> assertTrue(open.await(60, TimeUnit.SECONDS)));
                }
            });
        }

        void awaitReached() throws InterruptedException {
            assertTrue(reached.await(60, TimeUnit.SECONDS));
        }
    }

    private static void awaitWaiting(List<Thread> threads) {
        Harness.await("all wait", () -> threads.stream().allMatch(thread -> thread.getState() == Thread.State.WAITING));
    }

    // ---- Groups ----

    @Test
    void aWriterAlonePaysOneForceACommand() throws Exception {
        try (WriteAheadLog log = open(disk, FORCED)) {
            long before = forces();
            for (int i = 1; i <= 20; i++) {
                assertEquals(i, applied(log, one(i)).revision());
                assertEquals(before + i, forces());
            }
        }
    }

    @Test
    void writersThatWaitShareAForce() throws Exception {
        try (WriteAheadLog log = open(disk, FORCED);
                Harness.Crew crew = new Harness.Crew()) {
            Gate gate = new Gate();
            long forcesBefore = forces();
            long appendsBefore = appends();
            crew.start(() -> applied(log, one(0)));
            gate.awaitReached();
            List<Thread> threads = new ArrayList<>();
            for (int i = 1; i <= 50; i++) {
                Command command = one(i);
                threads.add(crew.start(() -> applied(log, command)));
            }
            awaitWaiting(threads);
            gate.open.countDown();
            Harness.await("all are answered", () -> log.store().revision() == 51);
            for (Thread thread : threads) {
                thread.join();
            }
            assertEquals(forcesBefore + 2, forces());
            assertEquals(appendsBefore + 2, appends());
        }
    }

    @Test
    void virtualThreadsThatWaitShareForces() throws Exception {
        try (WriteAheadLog log = open(disk, FORCED)) {
            long before = forces();
            Set<Long> revisions = new ConcurrentSkipListSet<>();
            try (Harness.Crew crew = new Harness.Crew()) {
                for (int i = 0; i < 500; i++) {
                    int number = i;
                    crew.startVirtual(() -> {
                        for (int j = 0; j < 20; j++) {
                            revisions.add(applied(log, one(number)).revision());
                        }
                    });
                }
            }
            assertEquals(10_000, revisions.size());
            assertEquals(10_000, log.store().revision());
            assertTrue(forces() - before <= 10_000);
            log.store().checkInvariants();
        }
    }

    @Test
    void aGroupIsBoundedInCommandsAndInBytes() throws Exception {
        try (WriteAheadLog log = openStepwise(disk, FORCED)) {
            long before = forces();
            List<Command> many = new ArrayList<>();
            for (int i = 0; i < 2 * WriteAheadLog.GROUP_COMMANDS + 1; i++) {
                many.add(one(i % 100));
            }
            assertEquals(many.size(), log.submitAll(many).size());
            assertEquals(before + 3, forces());
            List<Command> large = new ArrayList<>();
            for (int i = 0; i < 4; i++) {
                large.add(Command.put(key(i), bytes(WriteAheadLog.GROUP_BYTES / 2)));
            }
            log.submitAll(large);
            assertEquals(before + 5, forces());
        }
    }

    @Test
    void whatIsAnsweredBoundsAGroup() throws Exception {
        try (WriteAheadLog log = openStepwise(disk, FORCED)) {
            List<Write> writes = new ArrayList<>();
            for (int i = 0; i < WriteAheadLog.GROUP_ANSWER_PARTS / 4; i++) {
                writes.add(put(key(i), value(i)));
            }
            log.submit(new Command.Set(writes));
            long before = forces();
            List<Command> scans = new ArrayList<>();
            for (int i = 0; i < 8; i++) {
                scans.add(Txn.of(new Op.Scan(Range.all(), false, 0, false), new Op.Put(A, value(i), 0)));
            }
            for (Result result : log.submitAll(scans)) {
                assertInstanceOf(Result.Transacted.class, result);
            }
            assertEquals(before + 2, forces());
        }
    }

    /** Later commands of a group see what earlier ones are about to do, and answers say so. */
    @Test
    void commandsOfAGroupTakeEffectInTheirOrder() throws Exception {
        try (WriteAheadLog log = openStepwise(disk, FORCED)) {
            List<Result> results = log.submitAll(List.of(
                    Txn.of(new Op.Increment(A, 1)),
                    Txn.of(new Op.Increment(A, 1)),
                    del(A, key(1)),
                    del(A),
                    Txn.of(new Op.Increment(A, 1))));
            assertEquals(
                    List.of(
                            new Result.Transacted(1, true, List.of(new OpResult.Incremented(1))),
                            new Result.Transacted(2, true, List.of(new OpResult.Incremented(2))),
                            new Result.Applied(3, 1),
                            new Result.Applied(3, 0),
                            new Result.Transacted(4, true, List.of(new OpResult.Incremented(1)))),
                    results);
            log.store().checkInvariants();
        }
    }

    @Test
    void nothingIsVisibleBeforeItHasBeenForced() throws Exception {
        try (WriteAheadLog log = open(disk, FORCED)) {
            Gate gate = new Gate();
            try (Harness.Crew crew = new Harness.Crew();
                    Watch watch = log.store().watch(Range.all(), 0, true, true, false)) {
                AtomicReference<Result> result = new AtomicReference<>();
                Thread writer = crew.start(() -> result.set(log.submit(set(put(A, value(1))))));
                gate.awaitReached();
                awaitWaiting(List.of(writer));
                assertNull(result.get());
                assertNull(log.store().get(A));
                assertEquals(0, log.store().revision());
                assertEquals(List.of(), watch.next(1, 0));
                assertThrows(
                        RevisionOutOfRangeException.class, () -> log.store().snapshot(1));
                gate.open.countDown();
                writer.join();
                assertEquals(new Result.Applied(1, 0), result.get());
                assertEquals(value(1), log.store().get(A).value());
            }
        }
    }

    @Test
    void commandsWithoutEffectAreNotWaitedForByTheDisk() throws Exception {
        try (WriteAheadLog log = open(disk, FORCED)) {
            applied(log, one(1));
            long before = disk.operations();
            assertEquals(new Result.Applied(1, 0), log.submit(del(A)));
            assertEquals(new Result.NoLease(9), log.submit(new Command.Revoke(9, 1)));
            assertInstanceOf(Result.Transacted.class, log.submit(Txn.of(new Op.Get(key(1)))));
            assertInstanceOf(Result.Refused.class, log.submit(Command.put(Bytes.utf8(""), A)));
            assertEquals(before, disk.operations());
        }
    }

    // ---- The weaker promises ----

    @Test
    void withAnIntervalTheFirstUnforcedCommandSaysWhenToForce() throws Exception {
        LogOptions options = FORCED.withDurability(Durability.INTERVAL).withForceIntervalMillis(100);
        try (WriteAheadLog log = openStepwise(disk, options)) {
            assertEquals(Durability.INTERVAL, log.durability());
            long before = forces();
            applied(log, one(1));
            nanos.addAndGet(60_000_000);
            applied(log, one(2));
            assertEquals(before, forces());
            assertEquals(2, log.store().revision());
            nanos.addAndGet(40_000_000);
            log.submit(del(A)); // Has no effect, but the log looks at its clock.
            assertEquals(before + 1, forces());
            nanos.addAndGet(1_000_000_000);
            log.submit(del(A));
            assertEquals(before + 1, forces());
            applied(log, one(3));
            assertEquals(before + 1, forces());
        }
    }

    @Test
    void anIdleLogForcesOnceAndSleeps() throws Exception {
        LogOptions options = FORCED.withDurability(Durability.INTERVAL).withForceIntervalMillis(1);
        try (WriteAheadLog log = open(disk, options)) {
            long before = forces();
            applied(log, one(1));
            Harness.await("it is forced without another command", () -> forces() == before + 1);
            applied(log, one(2));
            Harness.await("it is forced again", () -> forces() == before + 2);
        }
    }

    @Test
    void whatIsOnlyWrittenIsForcedWhenASegmentEndsAndAtTheEnd() throws Exception {
        LogOptions options = FORCED.withDurability(Durability.WRITTEN).withSegmentBytes(1_000);
        try (WriteAheadLog log = openStepwise(disk, options)) {
            long before = forces();
            applied(log, one(1));
            applied(log, one(2));
            assertEquals(before, forces());
            applied(log, Command.put(A, bytes(2_000)));
            assertEquals(before + 2, forces()); // This one, and the header of the next.
            applied(log, one(3));
        }
        SimulatedDisk next = disk.crash();
        try (WriteAheadLog log = openStepwise(next, options)) {
            assertEquals(4, log.store().revision());
        }
    }

    // ---- Failures ----

    @Test
    void aFailedForceStopsTheLogForGoodAndReadsGoOn() throws Exception {
        for (Operation failing : List.of(Operation.FORCE, Operation.APPEND)) {
            SimulatedDisk failingDisk = new SimulatedDisk(new SplittableRandom(3));
            AtomicInteger told = new AtomicInteger();
            WriteAheadLog log = open(failingDisk, FORCED);
            log.onFailure(told::incrementAndGet);
            applied(log, one(1));
            assertNull(log.failure());
            failingDisk.failAt(failing, 0);
            LogStoppedException unknown = assertThrows(LogStoppedException.class, () -> log.submit(one(2)));
            assertTrue(unknown.outcomeUnknown());
            long operations = failingDisk.operations();
            for (int i = 0; i < 3; i++) {
                LogStoppedException later = assertThrows(LogStoppedException.class, () -> log.submit(one(3)));
                assertFalse(later.outcomeUnknown());
                assertTrue(later.getMessage().contains("input/output error"), later.getMessage());
            }
            assertThrows(LogStoppedException.class, log::writeSnapshotFile);
            assertEquals(1, log.store().revision());
            assertEquals(value(1), log.store().get(key(1)).value());
            assertNull(log.store().get(key(2)));
            assertTrue(log.failure().contains("input/output error"), log.failure());
            Harness.await("it is told", () -> told.get() == 1);
            log.onFailure(told::incrementAndGet);
            assertEquals(2, told.get());
            log.close();
            log.close();
            assertEquals(operations, failingDisk.operations());
            assertEquals(value(1), log.store().get(key(1)).value());
            try (WriteAheadLog again = open(failingDisk.crash(), FORCED)) {
                assertEquals(value(1), again.store().get(key(1)).value());
                assertTrue(again.store().revision() <= 2);
                assertEquals(again.store().revision() == 2, again.store().get(key(2)) != null);
                applied(again, one(4));
            }
        }
    }

    /** Those in the group that was being forced cannot know; those behind it can. */
    @Test
    void whoWaitedBehindTheFailureLearnsThatNothingWasChanged() throws Exception {
        WriteAheadLog log = open(disk, FORCED);
        Gate gate = new Gate();
        AtomicInteger unknown = new AtomicInteger();
        AtomicInteger unchanged = new AtomicInteger();
        try (Harness.Crew crew = new Harness.Crew()) {
            Harness.Body submits = () -> {
                LogStoppedException e = assertThrows(LogStoppedException.class, () -> log.submit(one(1)));
                (e.outcomeUnknown() ? unknown : unchanged).incrementAndGet();
            };
            crew.start(submits);
            gate.awaitReached();
            List<Thread> behind = new ArrayList<>();
            for (int i = 0; i < 10; i++) {
                behind.add(crew.start(submits));
            }
            awaitWaiting(behind);
            disk.failAt(Operation.FORCE, 0);
            gate.open.countDown();
        }
        assertEquals(1, unknown.get());
        assertEquals(10, unchanged.get());
        log.close();
    }

    /** Somebody has to learn of it also where there is not even the heap for a line. */
    @Test
    void whoAskedIsToldThatTheLogHasStoppedWhateverBecomesOfTheNotice() throws Exception {
        WriteAheadLog log = WriteAheadLog.open(
                disk,
                ROOMY,
                FORCED,
                line -> {
                    if (line.startsWith("the log has stopped") || line.startsWith("what was to be done")) {
                        throw new OutOfMemoryError("planted");
                    }
                },
                System::nanoTime,
                new SplittableRandom(2)::nextLong,
                true);
        AtomicInteger told = new AtomicInteger();
        log.onFailure(() -> {
            throw new IllegalStateException("planted");
        });
        log.onFailure(() -> {
            throw new OutOfMemoryError("planted");
        });
        log.onFailure(told::incrementAndGet);
        disk.failAt(Operation.FORCE, 0);
        assertThrows(LogStoppedException.class, () -> log.submit(one(1)));
        log.close();
        assertEquals(1, told.get());
    }

    /** Every waiter is told, whatever it was that broke; nothing has been written, so nothing is in doubt. */
    @Test
    void aBrokenInvariantStopsTheLog() throws Exception {
        AssertionError planted = new AssertionError("planted");
        AtomicInteger accesses = new AtomicInteger();
        Command broken = new Command.Set(Harness.list(1, index -> {
            if (accesses.incrementAndGet() > 1) { // Not when the limits are checked.
                throw planted;
            }
            return put(A, value(1));
        }));
        WriteAheadLog log = open(disk, FORCED);
        LogStoppedException stopped = assertThrows(LogStoppedException.class, () -> log.submit(broken));
        assertFalse(stopped.outcomeUnknown());
        assertTrue(log.failure().contains("planted"));
        assertThrows(LogStoppedException.class, () -> log.submit(one(1)));
        log.close();
    }

    @Test
    void aCommandForWhichThereIsNoMemoryFailsAlone() throws Exception {
        OutOfMemoryError planted = new OutOfMemoryError("planted");
        for (int failing = 1; failing < 10; failing++) {
            int failingAccess = failing;
            AtomicInteger accesses = new AtomicInteger();
            Command large = new Command.Set(Harness.list(1, index -> {
                if (accesses.incrementAndGet() == failingAccess + 1) {
                    throw planted;
                }
                return put(A, value(1));
            }));
            SimulatedDisk fresh = new SimulatedDisk(new SplittableRandom(4));
            try (WriteAheadLog log = open(fresh, FORCED)) {
                applied(log, one(1));
                try {
                    log.submit(large);
                } catch (OutOfMemoryError e) {
                    assertSame(planted, e);
                    assertNull(log.store().get(A));
                }
                assertNull(log.failure());
                applied(log, one(2));
                log.store().checkInvariants();
            }
        }
    }

    /** Such a command has been staged by the time that turns out; those before and behind it are none the wiser. */
    @Test
    void aCommandThatIsTooLargeForARecordFailsAlone() throws Exception {
        try (WriteAheadLog log = openStepwise(disk, FORCED)) {
            applied(log, new Command.Grant(5, 1_000));
            applied(log, set(put(A, value(0)), new Write.Put(key(0), value(0), 5)));
            Bytes value = bytes(ROOMY.valueBytes());
            List<Write> writes = new ArrayList<>();
            for (int i = 0; i < 130; i++) {
                writes.add(new Write.Put(key(i), value, 5));
            }
            assertThrows(IllegalArgumentException.class, () -> log.submit(new Command.Set(writes)));
            assertEquals(1, log.store().revision());
            assertNull(log.store().get(key(1)));
            assertEquals(1, log.store().lease(5).keys());
            log.store().sweep();
            log.store().checkInvariants();
            assertEquals(2, applied(log, one(1)).revision());
            assertEquals(3, applied(log, new Command.Revoke(5, 10)).revision());
            assertNull(log.store().get(key(0)));
        }
        try (WriteAheadLog log = openStepwise(disk, FORCED)) {
            assertEquals(3, log.store().revision());
        }
    }

    /** D1: what a group that failed was about to do to a lease is in no backup of what is left to be read. */
    @Test
    void aBackupOfAStoppedStoreHasNothingOfTheGroupThatFailed() throws Exception {
        WriteAheadLog log = openStepwise(disk, FORCED);
        applied(log, new Command.Grant(5, 1_000_000));
        applied(log, new Command.Set(List.of(new Write.Put(A, value(1), 5))));
        disk.failAt(Operation.FORCE, 0);
        assertThrows(LogStoppedException.class, () -> log.submit(new Command.Revoke(5, 10)));
        List<LeaseLeft> leases = new ArrayList<>();
        ByteArrayOutputStream backup = new ByteArrayOutputStream();
        assertEquals(1, log.store().backup(backup).keys());
        SnapshotFileReader.load(new ByteArrayInputStream(backup.toByteArray()), "the backup", new SnapshotVisitor() {
            @Override
            public void lease(LeaseLeft lease) {
                leases.add(lease);
            }

            @Override
            public void key(Bytes key, List<SavedVersion> newestFirst) {}

            @Override
            public void finish(long revision, long compactRevision, long grants) {}
        });
        assertEquals(List.of(new LeaseLeft(5, 1_000_000, 1_000_000, 1, false)), leases);
        log.close();
    }

    // ---- Interrupts ----

    @Test
    void anInterruptIsKeptAndChangesNothing() throws Exception {
        for (boolean virtual : new boolean[] {false, true}) {
            try (WriteAheadLog log = open(disk, FORCED);
                    Harness.Crew crew = new Harness.Crew()) {
                Gate gate = new Gate();
                AtomicReference<Result> result = new AtomicReference<>();
                Harness.Body submits = () -> {
                    result.set(log.submit(set(put(A, value(1)))));
                    assertTrue(Thread.currentThread().isInterrupted());
                };
                Thread writer = virtual ? crew.startVirtual(submits) : crew.start(submits);
                gate.awaitReached();
                awaitWaiting(List.of(writer));
                writer.interrupt();
                assertNull(result.get());
                gate.open.countDown();
                writer.join();
                assertNotNull(result.get());
                applied(log, one(2));
                disk.before((operation, name) -> {});
            }
        }
    }

    @Test
    void interruptsDoNotCloseARealFile() throws Exception {
        try (WriteAheadLog log = WriteAheadLog.open(temporary.resolve("data"), ROOMY, FORCED, notices::add);
                Harness.Crew crew = new Harness.Crew()) {
            for (int i = 0; i < 4; i++) {
                int number = i;
                crew.start(() -> {
                    for (int j = 0; j < 50; j++) {
                        Thread.currentThread().interrupt();
                        applied(log, one(number));
                        assertTrue(Thread.interrupted());
                        if (j == 25) {
                            Thread.currentThread().interrupt();
                            assertNotNull(log.writeSnapshotFile());
                            assertTrue(Thread.interrupted());
                        }
                    }
                });
            }
        }
        try (WriteAheadLog log = WriteAheadLog.open(temporary.resolve("data"), ROOMY, FORCED, notices::add)) {
            assertEquals(200, log.store().revision());
        }
    }

    // ---- Closing ----

    @Test
    void everythingThatWasAnsweredBeforeItWasClosedIsThereAfterwards() throws Exception {
        for (boolean virtual : new boolean[] {false, true}) {
            for (Durability durability : List.of(Durability.FORCED, Durability.INTERVAL, Durability.WRITTEN)) {
                SimulatedDisk loaded = new SimulatedDisk(new SplittableRandom(5));
                LogOptions options = FORCED.withDurability(durability).withSegmentBytes(4_000);
                Set<Integer> answered = new ConcurrentSkipListSet<>();
                try (Harness.Crew crew = new Harness.Crew()) {
                    WriteAheadLog log = open(loaded, options);
                    for (int i = 0; i < 8; i++) {
                        int first = i * 1_000_000;
                        Harness.Body submits = () -> {
                            for (int number = first; ; number++) {
                                try {
                                    applied(log, one(number));
                                } catch (IllegalStateException e) {
                                    assertFalse(e instanceof LogStoppedException);
                                    return;
                                }
                                answered.add(number);
                            }
                        };
                        if (virtual) {
                            crew.startVirtual(submits);
                        } else {
                            crew.start(submits);
                        }
                    }
                    Harness.await("there is load", () -> answered.size() > 500);
                    log.close();
                    assertNull(log.failure());
                }
                try (WriteAheadLog log = open(loaded.crash(), options)) {
                    for (int number : answered) {
                        assertNotNull(log.store().get(key(number)));
                    }
                    assertEquals(answered.size(), log.store().revision());
                }
            }
        }
    }

    @Test
    void aClosedLogCanStillBeReadAndTakesNothing() throws Exception {
        WriteAheadLog log = open(disk, FORCED);
        applied(log, one(1));
        log.close();
        assertNull(log.failure());
        assertFalse(assertThrows(IllegalStateException.class, () -> log.submit(one(2))) instanceof LogStoppedException);
        assertThrows(IllegalStateException.class, log::writeSnapshotFile);
        assertEquals(value(1), log.store().get(key(1)).value());
        log.close();
    }

    /** What it has taken already when it is closed is more than a group, and so is what waits behind that. */
    @Test
    void nobodyIsForgottenWhenMoreThanAGroupWaitsAsTheLogIsClosed() throws Exception {
        WriteAheadLog log = open(disk, FORCED);
        try (Harness.Crew crew = new Harness.Crew()) {
            Gate first = new Gate();
            crew.start(() -> applied(log, one(0)));
            first.awaitReached();
            List<Thread> writers = new ArrayList<>();
            for (int i = 1; i <= 4; i++) {
                Command large = Command.put(key(i), bytes(WriteAheadLog.GROUP_BYTES / 2));
                writers.add(crew.start(() -> applied(log, large)));
            }
            awaitWaiting(writers);
            Gate second = new Gate();
            first.open.countDown();
            second.awaitReached();
            Thread closing = crew.start(log::close);
            awaitWaiting(List.of(closing));
            second.open.countDown();
            closing.join();
            crew.start(() -> assertThrows(IllegalStateException.class, () -> log.submit(one(5))));
            assertNull(log.failure());
            assertEquals(5, log.store().revision());
        }
    }

    @Test
    void aFailureWhileItIsClosedIsThrown() throws Exception {
        WriteAheadLog log = open(disk, FORCED);
        applied(log, one(1));
        disk.failAt(Operation.FORCE, 0);
        assertThrows(IOException.class, log::close);
        assertNotNull(log.failure());
        log.close();
    }

    // ---- Snapshot files ----

    @Test
    void aSnapshotFileIsWrittenWhileWritesGoOnAndMakesWhatIsOlderSuperfluous() throws Exception {
        CountDownLatch writing = new CountDownLatch(1);
        CountDownLatch goOn = new CountDownLatch(1);
        disk.before((operation, name) -> {
            if (operation == Operation.APPEND && name.startsWith("snapshot-") && writing.getCount() > 0) {
                writing.countDown();
                assertDoesNotThrow(() -> goOn.await());
            }
        });
        try (WriteAheadLog log = open(disk, FORCED);
                Harness.Crew crew = new Harness.Crew()) {
            applied(log, set(put(A, value(1)), put(key(1), value(1))));
            AtomicReference<SnapshotFileInfo> written = new AtomicReference<>();
            crew.start(() -> written.set(log.writeSnapshotFile()));
            writing.await();
            applied(log, set(put(A, value(2))));
            applied(log, del(key(1)));
            // Whoever asks now gets one that holds these, too.
            AtomicReference<SnapshotFileInfo> another = new AtomicReference<>();
            crew.start(() -> another.set(log.writeSnapshotFile()));
            goOn.countDown();
            Harness.await("both are written", () -> written.get() != null && another.get() != null);
            assertEquals(1, written.get().revision());
            assertEquals(2, written.get().keys());
            assertEquals(3, another.get().revision());
            assertEquals(1, another.get().keys());
            assertEquals(
                    Set.of("HOMEKV", "log-0000000000000003", "snapshot-0000000000000003"),
                    disk.files().keySet());
            assertEquals(another.get().bytes(), disk.files().get("snapshot-0000000000000003").length);
            // Nothing has been logged since, so there is nothing to write.
            assertEquals(another.get(), log.writeSnapshotFile());
            assertEquals("snapshot-0000000000000003", another.get().name());
        }
        try (WriteAheadLog log = open(disk.crash(), FORCED)) {
            assertEquals(3, log.store().revision());
            assertEquals(value(2), log.store().get(A).value());
            assertNull(log.store().get(key(1)));
        }
    }

    @Test
    void aSnapshotFileThatCannotBeWrittenStopsNothing() throws Exception {
        for (int failing = 0; ; failing++) {
            SimulatedDisk failingDisk = new SimulatedDisk(new SplittableRandom(6));
            int failingOperation = failing;
            AtomicInteger operations = new AtomicInteger();
            try (WriteAheadLog log = openStepwise(failingDisk, FORCED)) {
                applied(log, one(1));
                failingDisk.before((operation, name) -> {
                    boolean ofSnapshot = name.startsWith("snapshot-") || name.equals(".");
                    if (ofSnapshot && operations.getAndIncrement() == failingOperation + 1) {
                        failingDisk.failAt(0); // The first one is forcing the directory for the new segment.
                    }
                });
                try {
                    log.writeSnapshotFile();
                    if (operations.get() <= failing + 1) {
                        return;
                    }
                } catch (IOException e) {
                    assertTrue(e.getMessage().startsWith("no snapshot file could be written: "), e.getMessage());
                }
                assertNull(log.failure());
                assertTrue(failingDisk.files().keySet().stream().noneMatch(name -> name.endsWith(".tmp")));
                applied(log, one(2));
                SnapshotFileInfo info = log.writeSnapshotFile();
                assertEquals(2, info.revision());
                assertEquals(
                        3,
                        failingDisk.files().size(),
                        () -> failingDisk.files().keySet().toString());
                applied(log, one(3));
            }
            try (WriteAheadLog log = openStepwise(failingDisk.crash(), FORCED)) {
                assertEquals(3, log.store().revision());
            }
        }
    }

    /** D4: nothing is replaced and nothing is deleted on a disk that has failed, however far the file had come. */
    @Test
    void aSnapshotFileThatIsNearlyDoneWhenTheLogStopsIsGivenUp() throws Exception {
        CountDownLatch reached = new CountDownLatch(1);
        CountDownLatch goOn = new CountDownLatch(1);
        WriteAheadLog log = open(disk, FORCED);
        applied(log, one(1));
        disk.before((operation, name) -> {
            if (operation == Operation.FORCE && name.startsWith("snapshot-")) {
                reached.countDown();
                assertDoesNotThrow(() -> goOn.await());
            }
        });
        try (Harness.Crew crew = new Harness.Crew()) {
            crew.start(() -> assertThrows(LogStoppedException.class, log::writeSnapshotFile));
            reached.await();
            disk.failAt(Operation.FORCE, 0);
            assertThrows(LogStoppedException.class, () -> log.submit(one(2)));
            goOn.countDown();
        }
        log.close();
        assertEquals(
                Set.of("HOMEKV", "log-0000000000000001", "log-0000000000000002"),
                disk.files().keySet());
    }

    @Test
    void aSnapshotFileIsDueByTheLengthOfTheLogAndByTime() throws Exception {
        LogOptions options = FORCED.withSnapshotLogBytes(10_000).withSnapshotIntervalMillis(60_000);
        try (WriteAheadLog log = openStepwise(disk, options)) {
            assertFalse(log.runSnapshotFile());
            applied(log, Command.put(A, bytes(9_000)));
            assertFalse(log.runSnapshotFile());
            applied(log, Command.put(key(1), bytes(9_000)));
            assertTrue(log.runSnapshotFile());
            assertFalse(log.runSnapshotFile());
            // The next one not before there is as much log as that one is long.
            applied(log, Command.put(A, bytes(15_000)));
            assertFalse(log.runSnapshotFile());
            applied(log, Command.put(A, bytes(15_000)));
            assertTrue(log.runSnapshotFile());
            nanos.addAndGet(60_000_000_000L);
            assertFalse(log.runSnapshotFile());
            applied(log, del(A));
            assertTrue(log.runSnapshotFile());
            applied(log, one(1));
            nanos.addAndGet(59_999_999_999L);
            assertFalse(log.runSnapshotFile());
            nanos.addAndGet(1);
            assertTrue(log.runSnapshotFile());
        }
    }

    @Test
    void theLogBeginsSnapshotFilesOfItself() throws Exception {
        try (WriteAheadLog log = open(disk, FORCED.withSnapshotLogBytes(5_000))) {
            for (int i = 0; i < 20; i++) {
                applied(log, Command.put(A, bytes(1_000)));
            }
            Harness.await(
                    "one is written",
                    () -> disk.files().keySet().stream().anyMatch(name -> name.matches("snapshot-[0-9a-f]*")));
        }
    }

    // ---- Free space ----

    @Test
    void writesAreRefusedBeforeTheDiskIsFullAndTakenAgainOnceThereIsRoom() throws Exception {
        disk.limitTo(100_000);
        LogOptions options = FORCED.withMinFreeBytes(20_000);
        try (WriteAheadLog log = openStepwise(disk, options)) {
            applied(log, new Command.Grant(5, 1_000));
            Result result;
            int taken = 0;
            do {
                nanos.addAndGet(1_000_000_000);
                result = log.submit(Command.put(key(taken++ % 10), bytes(1_000)));
            } while (result instanceof Result.Applied);
            Result.DiskFull full = assertInstanceOf(Result.DiskFull.class, result);
            assertEquals(20_000, full.requiredBytes());
            assertTrue(full.freeBytes() < 20_000 && full.freeBytes() > 15_000, full.toString());
            assertInstanceOf(Result.DiskFull.class, log.submit(new Command.Grant(6, 1_000)));
            assertInstanceOf(Result.DiskFull.class, log.submit(Txn.of(new Op.Increment(A, 1))));
            assertInstanceOf(Result.Transacted.class, log.submit(Txn.of(new Op.Get(key(1)))));
            applied(log, del(key(1)));
            applied(log, new Command.Revoke(5, 1));
            disk.limitTo(disk.usedBytes() + 4_000);
            full = assertInstanceOf(Result.DiskFull.class, log.submit(del(key(2))));
            assertEquals(5_000, full.requiredBytes());
            assertEquals(4_000, full.freeBytes());
            assertInstanceOf(Result.DiskFull.class, log.submit(new Command.Compact(2)));
            assertInstanceOf(Result.Transacted.class, log.submit(Txn.of(new Op.Get(key(2)))));
            disk.limitTo(disk.usedBytes() + 10_000);
            applied(log, del(key(2)));
            assertInstanceOf(Result.DiskFull.class, log.submit(one(1)));
            disk.limitTo(disk.usedBytes() + 30_000);
            applied(log, one(1));
            assertEquals(
                    2,
                    notices.stream()
                            .filter(line -> line.contains("of the disk are free"))
                            .count());
            assertNull(log.failure());
        }
    }

    /** Nothing was written, so nothing is in doubt. */
    @Test
    void aDiskThatDoesNotSayHowMuchOfItIsFreeIsAskedAgainAndStopsNothing() throws Exception {
        LogOptions options = FORCED.withMinFreeBytes(20_000);
        disk.limitTo(100_000);
        disk.failFreeBytes(true);
        try (WriteAheadLog log = openStepwise(disk, options)) {
            for (int i = 0; i < 3; i++) {
                nanos.addAndGet(1_000_000_000);
                applied(log, one(i));
            }
            assertEquals(
                    1,
                    notices.stream()
                            .filter(line -> line.contains("cannot be found out"))
                            .count());
            disk.failFreeBytes(false);
            disk.limitTo(disk.usedBytes() + 10_000);
            nanos.addAndGet(1_000_000_000);
            assertInstanceOf(Result.DiskFull.class, log.submit(one(4)));
            disk.failFreeBytes(true);
            assertInstanceOf(Result.DiskFull.class, log.submit(one(4)), "as it was found last");
            disk.failFreeBytes(false);
            disk.limitTo(100_000);
            applied(log, one(4));
            assertNull(log.failure());
        }
    }

    /** Where the log is larger than what it says, a snapshot file makes room. */
    @Test
    void aLogThatIsLargerThanTheStoreIsCutWhenTheDiskIsNearlyFull() throws Exception {
        disk.limitTo(100_000);
        try (WriteAheadLog log = openStepwise(disk, FORCED.withMinFreeBytes(20_000))) {
            Result result;
            do {
                nanos.addAndGet(1_000_000_000);
                result = log.submit(Command.put(A, bytes(1_000)));
            } while (result instanceof Result.Applied);
            assertTrue(log.runSnapshotFile());
            applied(log, Command.put(A, bytes(1_000)));
        }
    }

    /** What fills the disk may be the past, and that goes by. */
    @Test
    void roomIsMadeOnceWhatFilledTheDiskIsKeptNoLonger() throws Exception {
        disk.limitTo(100_000);
        Limits remembering = ROOMY.with(Limit.HISTORY_BYTES, 1 << 20).with(Limit.HISTORY_MILLIS, 1L << 40);
        try (WriteAheadLog log = WriteAheadLog.open(
                disk,
                remembering,
                FORCED.withMinFreeBytes(20_000),
                notices::add,
                nanos::get,
                new SplittableRandom(2)::nextLong,
                false)) {
            Result result;
            do {
                nanos.addAndGet(1_000_000_000);
                result = log.submit(Command.put(A, bytes(1_000)));
            } while (result instanceof Result.Applied);
            assertFalse(log.runSnapshotFile(), "it would be as large as the log");
            applied(log, new Command.Compact(log.store().revision()));
            nanos.addAndGet(60_000_000_000L);
            assertInstanceOf(Result.DiskFull.class, log.submit(Command.put(A, bytes(1_000))));
            assertTrue(log.runSnapshotFile());
            applied(log, Command.put(A, bytes(1_000)));
        }
    }
}
