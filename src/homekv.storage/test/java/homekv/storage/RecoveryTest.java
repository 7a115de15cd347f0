package homekv.storage;

import static homekv.storage.Harness.ROOMY;
import static homekv.storage.Harness.bytes;
import static homekv.storage.Harness.del;
import static homekv.storage.Harness.key;
import static homekv.storage.Harness.put;
import static homekv.storage.Harness.set;
import static homekv.storage.Harness.value;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import homekv.storage.SimulatedDisk.Operation;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Iterator;
import java.util.List;
import java.util.Objects;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.TreeMap;
import java.util.concurrent.atomic.AtomicLong;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** What a directory comes to when it is opened: D2, D3, D6 to D9. */
class RecoveryTest {
    private static final LogOptions FORCED =
            LogOptions.defaults().withMinFreeBytes(0).withSnapshotIntervalMillis(0);

    private static final LogOptions WRITTEN = FORCED.withDurability(Durability.WRITTEN);

    private static final Bytes A = Bytes.utf8("a");
    private static final String LOG_1 = "log-0000000000000001";
    private static final String LOG_2 = "log-0000000000000002";
    private static final String SNAPSHOT_2 = "snapshot-0000000000000002";

    private final List<String> notices = new ArrayList<>();
    private final AtomicLong nanos = new AtomicLong();
    private final SplittableRandom random = new SplittableRandom(7);

    @TempDir
    private Path temporary;

    private WriteAheadLog open(Disk disk, LogOptions options) throws IOException {
        Limits limits = ROOMY.with(Limit.HISTORY_BYTES, 1 << 20);
        return WriteAheadLog.open(disk, limits, options, notices::add, nanos::get, random::nextLong, false);
    }

    private SimulatedDisk disk() {
        return new SimulatedDisk(random.split());
    }

    private static Result.Applied applied(WriteAheadLog log, Command command) {
        return assertInstanceOf(Result.Applied.class, log.submit(command));
    }

    private static Command one(int number) {
        return Command.put(key(number), value(number));
    }

    /** Everything that can be read: each revision of the window, and the leases with their keys. */
    private static String contents(MvccStore store) {
        StringBuilder all = new StringBuilder();
        Counters counters = store.counters();
        all.append(counters.keys())
                .append(' ')
                .append(counters.keyBytes())
                .append(' ')
                .append(counters.valueBytes());
        for (long revision = counters.compactRevision(); revision <= counters.revision(); revision++) {
            all.append("\n").append(revision);
            try (Snapshot snapshot = store.snapshot(revision)) {
                for (Iterator<Entry> entries = snapshot.scan(Range.all(), false); entries.hasNext(); ) {
                    Entry entry = entries.next();
                    all.append(' ')
                            .append(entry.key().utf8())
                            .append('=')
                            .append(entry.value().utf8());
                    all.append(Arrays.asList(
                            entry.createRevision(), entry.modificationRevision(), entry.version(), entry.lease()));
                }
            }
        }
        for (LeaseStatus lease : store.leases()) {
            all.append("\nlease ")
                    .append(lease.id())
                    .append(' ')
                    .append(lease.ttlMillis())
                    .append(' ')
                    .append(lease.keys());
        }
        return all.toString();
    }

    private static Command random(SplittableRandom random, MvccStore store) {
        Bytes key = key(random.nextInt(12));
        long lease = 1 + random.nextInt(3);
        return switch (random.nextInt(12)) {
            case 0 -> new Command.Grant(lease, 1_000_000);
            case 1 -> new Command.Revoke(lease, 2);
            case 2 -> new Command.Compact(Math.max(0, store.revision() - random.nextInt(8)));
            case 3 -> del(key, key(random.nextInt(12)));
            case 4 -> Txn.of(new Op.Increment(Bytes.utf8("n"), 1), new Op.Delete(Range.key(key), true));
            case 5 -> Txn.of(new Op.Delete(Range.key(key), false), new Op.Put(key, value(random.nextInt(9)), 0));
            case 6 -> new Command.Set(List.of(new Write.Put(key, value(random.nextInt(9)), lease)));
            case 7 -> Txn.of(new Op.Get(key));
            default -> set(put(key, value(random.nextInt(99))), put(key(random.nextInt(12)), value(3)));
        };
    }

    private static void submit(WriteAheadLog log, SplittableRandom random, int groups) {
        for (int i = 0; i < groups; i++) {
            List<Command> group = new ArrayList<>();
            for (int j = random.nextInt(4); j >= 0; j--) {
                group.add(random(random, log.store()));
            }
            log.submitAll(group);
        }
    }

    // ---- The same store ----

    /** Through clean closes, deaths of the process and losses of power, with snapshot files in between. */
    @Test
    void whatIsRecoveredIsWhatThereWas() throws Exception {
        Harness.seeded(Harness.count(60, 1_000), seed -> {
            SimulatedDisk disk = new SimulatedDisk(seed.split());
            LogOptions options = FORCED.withSegmentBytes(1 + seed.nextInt(4_000));
            String before = null;
            Long id = null;
            for (int round = 0; round < 6; round++) {
                WriteAheadLog log = open(disk, options);
                if (before != null) {
                    assertEquals(before, contents(log.store()));
                    assertEquals(id, log.store().id());
                }
                log.store().checkInvariants();
                submit(log, seed, seed.nextInt(20));
                if (seed.nextInt(3) == 0) {
                    log.writeSnapshotFile();
                    submit(log, seed, seed.nextInt(10));
                }
                before = contents(log.store());
                id = log.store().id();
                if (seed.nextBoolean()) {
                    log.close();
                }
                disk = seed.nextBoolean() ? disk.kill() : disk.crash();
            }
        });
    }

    /** S7 and S9 with groups: the window gives way, snapshots expire, and puts are refused, in the midst of them. */
    @Test
    void aStoreThatIsFullIsRecoveredAsItWas() throws Exception {
        Harness.seeded(Harness.count(60, 1_000), seed -> {
            Limits limits = ROOMY.with(Limit.MEMORY_BYTES, 20_000 + seed.nextInt(40_000))
                    .with(Limit.HISTORY_BYTES, seed.nextInt(40_000));
            SimulatedDisk disk = new SimulatedDisk(seed.split());
            String before = null;
            for (int round = 0; round < 4; round++) {
                WriteAheadLog log = WriteAheadLog.open(
                        disk, limits, FORCED, notices::add, nanos::get, seed.split()::nextLong, false);
                MvccStore store = log.store();
                assertEquals(before == null ? now(store) : before, now(store));
                List<Snapshot> open = new ArrayList<>();
                for (int i = 0; i < 25; i++) {
                    List<Command> group = new ArrayList<>();
                    for (int j = seed.nextInt(25); j >= 0; j--) {
                        group.add(
                                switch (seed.nextInt(3)) {
                                    case 0 -> random(seed, store);
                                    case 1 -> Command.put(key(seed.nextInt(30)), bytes(seed.nextInt(3_000)));
                                    default ->
                                        seed.nextInt(4) > 0
                                                ? Command.put(key(seed.nextInt(30)), bytes(1))
                                                : Txn.of(new Op.Delete(Range.all(), false));
                                });
                    }
                    log.submitAll(group);
                    store.checkInvariants();
                    switch (seed.nextInt(4)) {
                        case 0 -> open.add(store.snapshot());
                        case 1 -> {
                            open.forEach(Snapshot::close);
                            open.clear();
                        }
                        case 2 -> log.writeSnapshotFile();
                        default -> store.backup(new ByteArrayOutputStream());
                    }
                }
                open.forEach(Snapshot::close);
                before = now(store);
                if (seed.nextBoolean()) {
                    log.close();
                }
                disk = seed.nextBoolean() ? disk.kill() : disk.crash();
            }
        });
    }

    private static String now(MvccStore store) {
        store.checkInvariants();
        List<String> all = new ArrayList<>(List.of("revision " + store.revision()));
        try (Snapshot snapshot = store.snapshot()) {
            snapshot.scan(Range.all(), false).forEachRemaining(entry -> all.add(entry.toString()));
        }
        store.leases().forEach(lease -> all.add(lease.id() + " " + lease.ttlMillis() + " " + lease.keys()));
        return all.toString();
    }

    @Test
    void recoveringTwiceIsRecoveringOnce() throws Exception {
        Harness.seeded(Harness.count(60, 1_000), seed -> {
            SimulatedDisk disk = new SimulatedDisk(seed.split());
            WriteAheadLog log = open(disk, WRITTEN.withSegmentBytes(2_000));
            submit(log, seed, 40);
            disk = disk.crash();
            String once = contents(open(disk, WRITTEN).store());
            int files = disk.files().size();
            for (int i = 0; i < 4; i++) {
                disk = seed.nextBoolean() ? disk.kill() : disk.crash();
                assertEquals(once, contents(open(disk, WRITTEN).store()));
                assertTrue(disk.files().size() <= files + 1, () -> "files pile up");
            }
            // Also if recovering is cut short anywhere.
            for (int operation = 0; ; operation++) {
                disk = disk.kill();
                disk.crashAt(operation);
                try {
                    open(disk, WRITTEN);
                    break;
                } catch (IOException e) {
                    disk = disk.crash();
                }
            }
            assertEquals(once, contents(open(disk.kill(), WRITTEN).store()));
        });
    }

    @Test
    void aStoreThatIsBegunIsBegunAgainWhereverThatIsCutShort() throws Exception {
        Harness.seeded(Harness.count(20, 300), seed -> {
            for (int operation = 0; ; operation++) {
                SimulatedDisk disk = new SimulatedDisk(seed.split());
                disk.crashAt(operation);
                try {
                    open(disk, FORCED);
                    assertFalse(disk.isOver());
                    return;
                } catch (IOException e) {
                    assertTrue(disk.isOver(), e.toString());
                }
                try (WriteAheadLog log = open(disk.crash(), FORCED)) {
                    assertEquals(0, log.store().revision());
                    applied(log, one(1));
                }
            }
        });
    }

    @Test
    void aSnapshotFileThatIsCutShortAnywhereLosesNothing() throws Exception {
        Harness.seeded(Harness.count(20, 300), seed -> {
            for (int operation = 0; ; operation++) {
                SimulatedDisk disk = new SimulatedDisk(seed.split());
                WriteAheadLog log = open(disk, FORCED.withSegmentBytes(500));
                submit(log, seed, 20);
                log.writeSnapshotFile();
                submit(log, seed, 20);
                String before = contents(log.store());
                disk.crashAt(operation);
                try {
                    log.writeSnapshotFile();
                } catch (IOException | LogStoppedException e) {
                    assertTrue(disk.isOver(), e.toString());
                }
                boolean over = disk.isOver();
                disk = disk.crash();
                assertEquals(before, contents(open(disk, FORCED).store()));
                if (!over) {
                    return;
                }
            }
        });
    }

    /**
     * D6: the name of the newest snapshot file may be in the page cache alone when it is read, and has to be forced
     * before what it replaces is deleted.
     */
    @Test
    void aSnapshotFileWhoseNameWasNotForcedReplacesNothingBeforeItIs() throws Exception {
        for (int operation = 0; operation < 12; operation++) {
            for (int attempt = 0; attempt < 8; attempt++) {
                SimulatedDisk disk = disk();
                WriteAheadLog log = open(disk, FORCED);
                applied(log, one(1));
                applied(log, one(2));
                String contents = contents(log.store());
                SimulatedDisk killed = disk;
                disk.after((done, name) -> {
                    if (done == Operation.RENAME && name.startsWith("snapshot-")) {
                        killed.halt();
                    }
                });
                assertThrows(IOException.class, log::writeSnapshotFile);
                SimulatedDisk next = disk.kill();
                next.crashAt(operation);
                try {
                    open(next, FORCED);
                } catch (IOException e) {
                    assertTrue(next.isOver(), e.toString());
                }
                assertEquals(contents, contents(open(next.crash(), FORCED).store()));
            }
        }
    }

    // ---- Leases and the store's number ----

    @Test
    void leasesHaveTheirTimeLeftAfterACleanCloseAndAllOfItAfterACrash() throws Exception {
        SimulatedDisk disk = disk();
        WriteAheadLog log = open(disk, FORCED);
        applied(log, new Command.Grant(1, 10_000));
        applied(log, new Command.Grant(2, 20_000));
        nanos.addAndGet(4_000_000_000L);
        log.store().keepAlive(2);
        nanos.addAndGet(1_000_000_000L);
        log.close();
        assertNull(log.store().keepAlive(1), "its time has been written down");
        nanos.addAndGet(1_000_000_000_000L); // The server is off.
        log = open(disk, FORCED);
        assertEquals(5_000, log.store().lease(1).leftMillis());
        assertEquals(19_000, log.store().lease(2).leftMillis());
        log.writeSnapshotFile();
        nanos.addAndGet(1_000_000_000L);
        log = open(disk.crash(), FORCED);
        assertEquals(10_000, log.store().lease(1).leftMillis());
        assertEquals(20_000, log.store().lease(2).leftMillis());
        nanos.addAndGet(10_000_000_001L);
        log.store().expireLeases();
        assertNull(log.store().lease(1));
    }

    /** D9: whoever began the segment that is given up may have kept the lease alive for long. */
    @Test
    void leasesHaveTheirWholeTimeAgainWhereWhatFollowedACleanCloseIsGivenUp() throws Exception {
        for (byte[] second : new byte[][] {null, new byte[100]}) {
            SimulatedDisk disk = disk();
            try (WriteAheadLog log = open(disk, FORCED)) {
                applied(log, new Command.Grant(5, 10_000));
                nanos.addAndGet(9_000_000_000L);
            }
            try (WriteAheadLog log = open(disk, FORCED)) {
                assertEquals(1_000, log.store().lease(5).leftMillis());
                log.store().keepAlive(5);
                applied(log, one(1));
            }
            try (WriteAheadLog log = open(disk, FORCED)) {
                applied(log, one(2));
            }
            SimulatedDisk damaged = with(disk, LOG_2, second);
            assertThrows(DataDirectoryException.class, () -> open(damaged.kill(), FORCED));
            try (WriteAheadLog log = open(damaged.kill(), FORCED.withRecoverToLastGood(true))) {
                assertEquals(10_000, log.store().lease(5).leftMillis());
            }
        }
    }

    @Test
    void theStoreKeepsItsNumberAsLongAsNothingVisibleCanHaveBeenLost() throws Exception {
        SimulatedDisk disk = disk();
        WriteAheadLog log = open(disk, FORCED);
        long id = log.store().id();
        applied(log, one(1));
        disk = disk.crash();
        log = open(disk, WRITTEN);
        assertEquals(id, log.store().id(), "everything was forced");
        applied(log, one(2));
        log.close();
        log = open(disk, WRITTEN);
        assertEquals(id, log.store().id(), "it was closed");
        disk = disk.crash();
        log = open(disk, FORCED);
        assertNotEquals(id, log.store().id(), "something that was only written may be lost");
        long next = log.store().id();
        log = open(disk.crash(), FORCED);
        assertEquals(next, log.store().id());
    }

    // ---- Directories that are not as they have to be ----

    private static SimulatedDisk with(SimulatedDisk disk, String name, byte[] bytes) {
        TreeMap<String, byte[]> files = disk.files();
        if (bytes == null) {
            files.remove(name);
        } else {
            files.put(name, bytes);
        }
        return SimulatedDisk.of(new SplittableRandom(1), files);
    }

    /** With three segments, 10 commands each, and a clean end. */
    private SimulatedDisk threeSegments() throws IOException {
        SimulatedDisk disk = disk();
        for (int i = 0; i < 3; i++) {
            try (WriteAheadLog log = open(disk, FORCED)) {
                for (int j = 0; j < 10; j++) {
                    applied(log, one(10 * i + j));
                }
            }
        }
        return disk;
    }

    private DataDirectoryException refused(Disk disk, String... wanted) {
        DataDirectoryException e = assertThrows(DataDirectoryException.class, () -> open(disk, FORCED));
        for (String each : wanted) {
            assertTrue(e.getMessage().contains(each), () -> "\"" + each + "\" is not in: " + e.getMessage());
        }
        assertFalse(e.getMessage().contains("\n"));
        return e;
    }

    @Test
    void whatIsMissingOrStrangeIsNamed() throws Exception {
        SimulatedDisk whole = threeSegments();
        refused(with(whole, LOG_2, null), "/simulated/" + LOG_2 + " is missing", "--recover-to-last-good");
        refused(with(whole, LOG_1, null), LOG_1 + " is missing");
        refused(with(whole, "HOMEKV", null), "/simulated/HOMEKV is missing");
        refused(with(disk(), "thesis.txt", new byte[] {1}), "/simulated/ is not empty", "HOMEKV");
        byte[] identity = whole.files().get("HOMEKV");
        identity[20] ^= 1;
        refused(with(whole, "HOMEKV", identity), "/simulated/HOMEKV", "checksum");
        SimulatedDisk other = threeSegments();
        refused(with(whole, LOG_2, other.files().get(LOG_2)), LOG_2, "the file is of store");
        refused(with(whole, LOG_2, whole.files().get(LOG_1)), LOG_2, "segment 0000000000000001");
        // All of the log is there, so the store can be made without this one.
        assertEquals(
                30, open(with(whole, SNAPSHOT_2, new byte[100]), FORCED).store().revision());
        // What is no file of ours is left alone.
        open(with(with(whole, "lost+found", new byte[0]), "notes.tmp", new byte[1]), FORCED)
                .close();
    }

    @Test
    void anotherFormatVersionIsItsOwnError() throws Exception {
        SimulatedDisk whole = threeSegments();
        byte[] identity =
                Arrays.copyOf(whole.files().get("HOMEKV"), whole.files().get("HOMEKV").length);
        Format.putInt(identity, 8, 2);
        Format.seal(identity);
        DataDirectoryException e = refused(with(whole, "HOMEKV", identity), "format version 2", "reads version 1");
        assertFalse(e.isDamage());
        byte[] segment = whole.files().get("log-0000000000000003");
        byte[] header = Arrays.copyOf(segment, SegmentHeader.BYTES);
        Format.putInt(header, 8, 2);
        System.arraycopy(Format.seal(header), 0, segment, 0, header.length);
        assertFalse(refused(with(whole, "log-0000000000000003", segment), "format version 2")
                .isDamage());
    }

    @Test
    void aDirectoryIsUsedByOneLogAtATime() throws Exception {
        Path directory = temporary.resolve("data");
        try (WriteAheadLog log = WriteAheadLog.open(directory, ROOMY, FORCED, notices::add)) {
            DataDirectoryException e = assertThrows(
                    DataDirectoryException.class, () -> WriteAheadLog.open(directory, ROOMY, FORCED, notices::add));
            assertTrue(e.getMessage().contains("is in use"), e.getMessage());
            assertThrows(DataDirectoryException.class, () -> WriteAheadLog.check(directory, notices::add));
            applied(log, one(1));
        }
        WriteAheadLog.open(directory, ROOMY, FORCED, notices::add).close();
    }

    // ---- Tails and damage ----

    private static byte[] flipped(byte[] bytes, int offset) {
        byte[] copy = bytes.clone();
        copy[offset] ^= 1;
        return copy;
    }

    /** What is behind the last force may be anything, and goes, with a line that says so. */
    @Test
    void aTailThatWasNeverForcedIsCutOff() throws Exception {
        SimulatedDisk disk = disk();
        WriteAheadLog log = open(disk, WRITTEN);
        for (int i = 0; i < 10; i++) {
            applied(log, one(i));
        }
        byte[] segment = disk.files().get(LOG_1);
        for (int end = SegmentHeader.BYTES; end < segment.length; end += 7) {
            SimulatedDisk torn = with(disk, LOG_1, Arrays.copyOf(segment, end));
            notices.clear();
            MvccStore store = open(torn, WRITTEN).store();
            assertTrue(store.revision() < 10);
            long revision = store.revision();
            assertEquals(revision, store.counters().keys());
            boolean cut = torn.files().getOrDefault(LOG_1, new byte[0]).length < end;
            assertEquals(cut, notices.stream().anyMatch(line -> line.contains("cut off")), notices.toString());
            assertEquals(revision, open(torn.crash(), WRITTEN).store().revision());
        }
        // Zeros at the end, as a file has them that has become longer without its content.
        assertEquals(
                10,
                open(with(disk, LOG_1, Arrays.copyOf(segment, 4_096)), WRITTEN)
                        .store()
                        .revision());
        // A bad record and good ones behind it, none of which says that it had been forced.
        assertEquals(
                0,
                open(with(disk, LOG_1, flipped(segment, 100)), WRITTEN).store().revision());
    }

    @Test
    void damageStopsTheStartAndIsGivenUpOnlyWhenAsked() throws Exception {
        SimulatedDisk whole = threeSegments();
        byte[] second = whole.files().get(LOG_2);
        SimulatedDisk damaged = with(whole, LOG_2, flipped(second, second.length / 2));
        TreeMap<String, byte[]> before = damaged.files();
        refused(damaged, LOG_2 + " at byte ", "checksum", "--recover-to-last-good");
        assertEquals(before.keySet(), damaged.files().keySet(), "nothing is changed");
        damaged.close();
        long id = open(whole.kill(), FORCED).store().id();

        notices.clear();
        WriteAheadLog log = open(damaged, FORCED.withRecoverToLastGood(true));
        long revision = log.store().revision();
        assertTrue(revision >= 10 && revision < 20, () -> "revision " + revision);
        assertNotEquals(id, log.store().id());
        assertEquals(
                Set.of(
                        "HOMEKV",
                        LOG_2 + ".damaged",
                        "log-0000000000000003.damaged",
                        "log-0000000000000004",
                        "log-0000000000000005",
                        "snapshot-0000000000000004"),
                damaged.files().keySet());
        assertTrue(notices.stream().anyMatch(line -> line.contains("gave up /simulated/" + LOG_2)), notices.toString());
        applied(log, one(100));
        String contents = contents(log.store());
        SimulatedDisk after = damaged.crash();
        assertEquals(contents, contents(open(after, FORCED).store()));
        // Where nothing is damaged, the permission means nothing.
        assertEquals(
                contents,
                contents(open(after.crash(), FORCED.withRecoverToLastGood(true)).store()));
    }

    @Test
    void damageInTheLastSegmentIsToldFromATailByWhatHadBeenForced() throws Exception {
        SimulatedDisk disk = disk();
        WriteAheadLog log = open(disk, FORCED);
        for (int i = 0; i < 10; i++) {
            applied(log, one(i));
        }
        byte[] segment = disk.files().get(LOG_1);
        refused(with(disk, LOG_1, flipped(segment, SegmentHeader.BYTES + 40)), "had been forced");
    }

    @Test
    void anOlderSnapshotFileServesWhereTheLogBehindItIsStillThere() throws Exception {
        SimulatedDisk disk = disk();
        WriteAheadLog log = open(disk, FORCED);
        applied(log, one(1));
        TreeMap<String, byte[]> before = disk.files();
        log.writeSnapshotFile();
        applied(log, one(2));
        TreeMap<String, byte[]> files = disk.files();
        byte[] snapshot = files.get(SNAPSHOT_2);
        files.put(SNAPSHOT_2, flipped(snapshot, snapshot.length - 20));
        refused(SimulatedDisk.of(random, files), SNAPSHOT_2, "checksum");
        files.put(LOG_1, before.get(LOG_1));
        notices.clear();
        assertEquals(2, open(SimulatedDisk.of(random, files), FORCED).store().revision());
        assertTrue(notices.stream().anyMatch(line -> line.contains(SNAPSHOT_2)), notices.toString());
    }

    @Test
    void nothingCanBeRecoveredToWhereThereIsNoBeginning() throws Exception {
        SimulatedDisk headless = with(threeSegments(), LOG_1, null);
        DataDirectoryException e =
                assertThrows(DataDirectoryException.class, () -> open(headless, FORCED.withRecoverToLastGood(true)));
        assertTrue(e.getMessage().contains("restore a backup"), e.getMessage());
        assertTrue(headless.files().containsKey(LOG_2));
    }

    @Test
    void anIdentityThatIsDamagedIsMadeAnewFromTheSegments() throws Exception {
        for (boolean missing : new boolean[] {false, true}) {
            SimulatedDisk whole = threeSegments();
            byte[] identity = whole.files().get("HOMEKV");
            SimulatedDisk damaged = with(whole, "HOMEKV", missing ? null : flipped(identity, 20));
            WriteAheadLog log = open(damaged, FORCED.withRecoverToLastGood(true));
            assertEquals(30, log.store().revision());
            log.close();
            assertEquals(30, open(damaged, FORCED).store().revision());
            assertEquals(DirectoryIdentity.read(whole.kill()), DirectoryIdentity.read(damaged));
        }
    }

    /** Accepting the loss is cut short anywhere: the next start, allowed the same, comes to the same. */
    @Test
    void recoveringToTheLastGoodCanBeCutShort() throws Exception {
        SimulatedDisk whole = threeSegments();
        byte[] second = whole.files().get(LOG_2);
        LogOptions options = FORCED.withRecoverToLastGood(true);
        String expected = contents(open(with(whole, LOG_2, flipped(second, second.length / 2)), options)
                .store());
        for (int operation = 0; ; operation++) {
            SimulatedDisk damaged = with(whole, LOG_2, flipped(second, second.length / 2));
            damaged.crashAt(operation);
            try {
                open(damaged, options);
                assertFalse(damaged.isOver());
                return;
            } catch (IOException e) {
                assertTrue(damaged.isOver(), e.toString());
            }
            assertEquals(expected, contents(open(damaged.crash(), options).store()));
        }
    }

    // ---- Backups ----

    private byte[] backup(WriteAheadLog log) throws IOException {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        log.store().backup(out);
        return out.toByteArray();
    }

    private void restore(SimulatedDisk disk, byte[] backup) throws IOException {
        Restore.run(disk, new ByteArrayInputStream(backup), notices::add, random::nextLong);
    }

    @Test
    void aBackupBecomesAStoreOfItsOwn() throws Exception {
        SimulatedDisk disk = disk();
        WriteAheadLog log = open(disk, FORCED);
        submit(log, random, 60);
        log.submit(new Command.Grant(9, 10_000));
        nanos.addAndGet(4_000_000_000L);
        byte[] backup = backup(log);
        String contents = contents(log.store());
        SimulatedDisk restored = disk();
        restore(restored, backup);
        nanos.addAndGet(60_000_000_000L);
        restored = restored.crash();
        WriteAheadLog copy = open(restored, FORCED);
        assertEquals(contents, contents(copy.store()));
        assertEquals(6_000, copy.store().lease(9).leftMillis());
        assertNotEquals(log.store().id(), copy.store().id());
        assertNotEquals(DirectoryIdentity.read(disk), DirectoryIdentity.read(restored));
        applied(copy, one(1));
        copy.writeSnapshotFile();
        String more = contents(copy.store());
        SimulatedDisk crashed = restored.crash();
        assertEquals(more, contents(open(crashed, FORCED).store()));
        assertThrows(DataDirectoryException.class, () -> restore(crashed.kill(), backup));
    }

    @Test
    void aBackupThatIsNotWholeLeavesTheDirectoryEmpty() throws Exception {
        WriteAheadLog log = open(disk(), FORCED);
        submit(log, random, 20);
        byte[] backup = backup(log);
        for (byte[] bad : List.of(
                Arrays.copyOf(backup, backup.length - 1),
                Arrays.copyOf(backup, backup.length + 1),
                flipped(backup, backup.length / 2),
                new byte[0])) {
            SimulatedDisk disk = disk();
            DataDirectoryException e = assertThrows(DataDirectoryException.class, () -> restore(disk, bad));
            assertTrue(e.getMessage().contains("the backup"), e.getMessage());
            assertFalse(e.getMessage().contains("--recover-to-last-good"), "it is of no use here: " + e.getMessage());
            assertTrue(e.getMessage().endsWith("; restore another backup"), e.getMessage());
            assertEquals(Set.of(), disk.files().keySet());
            restore(disk, backup);
            assertEquals(log.store().revision(), open(disk, FORCED).store().revision());
        }
    }

    @Test
    void aRestoreThatIsCutShortIsNoStoreAndCanBeDoneAgain() throws Exception {
        WriteAheadLog log = open(disk(), FORCED);
        submit(log, random, 20);
        byte[] backup = backup(log);
        String contents = contents(log.store());
        for (int operation = 0; ; operation++) {
            SimulatedDisk disk = disk();
            disk.crashAt(operation);
            try {
                restore(disk, backup);
                assertFalse(disk.isOver());
                return;
            } catch (IOException e) {
                assertTrue(disk.isOver(), e.toString());
            }
            SimulatedDisk next = disk.crash();
            if (!next.files().containsKey("HOMEKV")) {
                if (!next.files().isEmpty() && !next.files().keySet().equals(Set.of("HOMEKV.tmp"))) {
                    refused(next.kill(), "restore");
                    next = next.crash();
                }
                restore(next, backup);
            }
            assertEquals(contents, contents(open(next, FORCED).store()));
        }
    }

    // ---- Looking at it ----

    private boolean check(SimulatedDisk disk, List<String> lines) throws IOException {
        lines.clear();
        TreeMap<String, byte[]> before = disk.files();
        long operations = disk.operations();
        boolean whole = DirectoryCheck.run(disk, lines::add);
        assertEquals(operations, disk.operations(), "nothing is changed");
        assertEquals(before.keySet(), disk.files().keySet());
        return whole;
    }

    private static boolean last(List<String> lines, String text) {
        return lines.get(lines.size() - 1).contains(text);
    }

    @Test
    void aCheckSaysWhatIsThereAndWhatOpeningItWouldComeTo() throws Exception {
        List<String> lines = new ArrayList<>();
        SimulatedDisk whole = threeSegments();
        assertTrue(check(whole, lines), lines.toString());
        assertTrue(
                last(lines, "would open: at revision 30, record 33, from no snapshot file and 3 segments"),
                lines.toString());
        assertEquals(5, lines.size(), lines.toString());
        assertFalse(check(with(whole, LOG_2, null), lines));
        assertTrue(last(lines, "would not open: /simulated/" + LOG_2 + " is missing"), lines.toString());
        assertTrue(lines.contains(LOG_2 + ": MISSING"), lines.toString());
        byte[] second = whole.files().get(LOG_2);
        assertFalse(check(with(whole, LOG_2, flipped(second, 100)), lines));
        assertTrue(last(lines, "would not open: /simulated/" + LOG_2 + " at byte 64"), lines.toString());
        byte[] third = whole.files().get("log-0000000000000003");
        SimulatedDisk torn = with(whole, "log-0000000000000003", Arrays.copyOf(third, third.length - 5));
        assertTrue(check(torn, lines), lines.toString());
        assertTrue(last(lines, "cut off"), lines.toString());
        assertTrue(last(lines, "at revision 30"), lines.toString());
        try (WriteAheadLog log = open(whole, FORCED)) {
            log.writeSnapshotFile();
        }
        assertTrue(check(whole, lines), lines.toString());
        assertTrue(last(lines, "from snapshot-0000000000000004 and 1 segment"), lines.toString());
        assertThrows(DataDirectoryException.class, () -> check(disk(), lines));
    }

    /** It says so if and only if the directory opens. */
    @Test
    void aCheckAndAStartAgree() throws Exception {
        SimulatedDisk disk = disk();
        try (WriteAheadLog log = open(disk, FORCED.withSegmentBytes(300))) {
            submit(log, random, 10);
            log.writeSnapshotFile();
            submit(log, random, 15);
        }
        TreeMap<String, byte[]> files = disk.files();
        List<String> lines = new ArrayList<>();
        Harness.seeded(Harness.count(300, 5_000), seed -> {
            TreeMap<String, byte[]> changed = new TreeMap<>(files);
            String name = List.copyOf(changed.keySet()).get(seed.nextInt(changed.size()));
            byte[] bytes = changed.get(name).clone();
            switch (seed.nextInt(3)) {
                case 0 -> bytes[seed.nextInt(bytes.length)] ^= (byte) (1 + seed.nextInt(255));
                case 1 -> bytes = Arrays.copyOf(bytes, seed.nextInt(bytes.length));
                default -> bytes = null;
            }
            changed.put(name, bytes);
            changed.values().removeIf(Objects::isNull);
            boolean opens;
            try {
                check(SimulatedDisk.of(seed.split(), changed), lines);
                opens = last(lines, "would open: ");
            } catch (DataDirectoryException e) {
                opens = false;
            }
            boolean opened;
            try {
                open(SimulatedDisk.of(seed.split(), changed), FORCED);
                opened = true;
            } catch (DataDirectoryException e) {
                opened = false;
            }
            assertEquals(opened, opens, () -> name + " " + lines);
        });
    }

    /** Whatever names there are, it comes to an end. */
    @Test
    void aCheckSaysWhichSegmentsAreMissingHoweverManyThatAre() throws Exception {
        SimulatedDisk disk = threeSegments();
        for (String name : List.of("log-0000000000000009", "log-7fffffffffffffff")) {
            List<String> lines = new ArrayList<>();
            assertFalse(check(with(disk, name, disk.files().get(LOG_1)), lines));
            assertTrue(last(lines, "would not open: /simulated/log-0000000000000004 is missing"), lines.toString());
            assertTrue(lines.size() < 10, lines.toString());
            assertThrows(
                    DataDirectoryException.class,
                    () -> open(with(disk, name, disk.files().get(LOG_1)), FORCED));
        }
    }

    @Test
    void anEmptyDirectoryIsCalledEmptyWhenItIsChecked() {
        DataDirectoryException e =
                assertThrows(DataDirectoryException.class, () -> WriteAheadLog.check(temporary, notices::add));
        assertTrue(e.getMessage().endsWith(" is empty, so there is nothing to check"), e.getMessage());
    }

    @Test
    void aDirectoryThatIsNotThereIsNotChecked() throws Exception {
        Path missing = temporary.resolve("missing");
        assertThrows(IOException.class, () -> WriteAheadLog.check(missing, notices::add));
        assertFalse(Files.exists(missing));
        assertInstanceOf(
                NoSuchFileException.class, assertThrows(IOException.class, () -> FileDisk.openReadOnly(missing)));
    }

    @Test
    void aDirectoryThatIsFullCannotBeOpenedAndCanBeOnceThereIsRoom() throws Exception {
        SimulatedDisk disk = threeSegments();
        disk.failAt(Operation.CREATE, 0);
        assertThrows(IOException.class, () -> open(disk, FORCED));
        try (WriteAheadLog log = open(disk, FORCED)) {
            assertEquals(30, log.store().revision());
            applied(log, Command.put(A, bytes(100)));
        }
    }
}
