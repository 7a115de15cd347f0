package homekv.storage;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import homekv.storage.ModelTest.Generator;
import homekv.storage.ModelTest.Reference;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.TreeMap;
import org.junit.jupiter.api.Test;

/**
 * D3: whatever becomes of the bytes of a data directory, opening it fails with one clear line, or what is in it then is
 * what was written, up to some command.
 */
class DamageTest {
    /** A data directory, and what the store was after each command that went into it. */
    private static final class Written {
        final Limits limits = Harness.ROOMY.with(Limit.HISTORY_BYTES, Harness.ROOMY.memoryBytes());
        final Reference reference = new Reference(limits);
        final List<State> states = new ArrayList<>();
        final TreeMap<String, byte[]> files;

        /** Where the records of the last segment with any end, and what the store was then. */
        final String lastSegment;

        final TreeMap<Integer, State> statesByEnd = new TreeMap<>();

        /**
         * @param snapshotFileAt before which command a snapshot file is written
         * @param closed whether the log is closed in the end; else its process is killed
         */
        Written(SplittableRandom random, LogOptions options, int commands, int snapshotFileAt, boolean closed)
                throws IOException {
            SimulatedDisk disk = new SimulatedDisk(random.split());
            Generator generator = new Generator(random, reference, MvccStoreTest.keys(8));
            WriteAheadLog log = open(disk, options, new ArrayList<>());
            states.add(State.of(log.store()));
            for (int i = 0; i < commands; i++) {
                if (i == snapshotFileAt) {
                    log.writeSnapshotFile();
                }
                Command command = generator.command();
                assertEquals(reference.apply(command), log.submit(command), command::toString);
                states.add(State.of(log.store()));
                TreeMap<String, byte[]> now = disk.files();
                statesByEnd.put(now.get(lastSegment(now)).length, states.getLast());
                if (statesByEnd.lastKey() != now.get(lastSegment(now)).length) {
                    statesByEnd.clear(); // In the segment before, which is the last one no more.
                    statesByEnd.put(SegmentHeader.BYTES, states.get(states.size() - 2));
                    statesByEnd.put(now.get(lastSegment(now)).length, states.getLast());
                }
            }
            if (closed) {
                log.close();
            } else {
                log.store().close();
            }
            files = disk.files();
            lastSegment = lastSegment(files);
            if (closed) {
                statesByEnd.put(files.get(lastSegment).length, states.getLast());
            }
        }

        static String lastSegment(TreeMap<String, byte[]> files) {
            return files.keySet().stream()
                    .filter(name -> FileNames.segmentNumber(name) > 0)
                    .reduce((first, second) -> second)
                    .orElseThrow();
        }

        /** A copy of the files in which a test may do anything. */
        TreeMap<String, byte[]> copy() {
            TreeMap<String, byte[]> copy = new TreeMap<>();
            files.forEach((name, bytes) -> copy.put(name, bytes.clone()));
            return copy;
        }

        WriteAheadLog open(SimulatedDisk disk, LogOptions options, List<String> notices) throws IOException {
            SplittableRandom random = new SplittableRandom(disk.usedBytes());
            return WriteAheadLog.open(disk, limits, options, notices::add, () -> 0, random::nextLong, false);
        }

        /** Opens files that are not what was written; the state they come to, or null where that is refused. */
        State openDamaged(TreeMap<String, byte[]> damaged, LogOptions options, List<String> messages) {
            SimulatedDisk disk = SimulatedDisk.of(new SplittableRandom(1), damaged);
            try (WriteAheadLog log = open(disk, options, messages)) {
                State state = assertWritten(log.store());
                for (String notice : messages) {
                    assertEquals(1, notice.lines().count(), notice);
                }
                return state;
            } catch (DataDirectoryException e) {
                assertEquals(1, e.getMessage().lines().count(), e::getMessage);
                assertTrue(e.getMessage().contains("/simulated/"), e::getMessage);
                messages.add(e.getMessage());
                return null;
            } catch (IOException e) {
                throw new AssertionError("not said as what it is: " + e, e);
            }
        }

        /** The store is what it was after some command, and older revisions read as they did. */
        State assertWritten(MvccStore store) {
            store.checkInvariants();
            State state = State.of(store);
            assertTrue(states.contains(state), () -> "it never was " + state);
            long first = store.counters().compactRevision();
            for (long revision = first; revision <= state.revision; revision++) {
                try (Snapshot snapshot = store.snapshot(revision)) {
                    assertEquals(
                            List.copyOf(reference.revisions.get((int) revision).values()),
                            ModelTest.list(snapshot.scan(Range.all(), false)));
                }
            }
            return state;
        }
    }

    private record State(long revision, List<String> leases) {
        static State of(MvccStore store) {
            return new State(
                    store.revision(),
                    store.leases().stream()
                            .map(lease -> lease.id() + ":" + lease.ttlMillis() + ":" + lease.keys() + ":"
                                    + (lease.leftMillis() == 0))
                            .toList());
        }
    }

    private static LogOptions options() {
        return LogOptions.defaults()
                .withSegmentBytes(600)
                .withSnapshotLogBytes(1L << 40)
                .withSnapshotIntervalMillis(0)
                .withMinFreeBytes(0);
    }

    // ---- One byte ----

    @Test
    void noByteThatChangesGivesAWrongValueAndWhatWasForcedIsMissedIfItIsGone() throws Exception {
        Harness.seeded(
                Harness.count(1, 20), random -> flipEveryByte(random, new Written(random, options(), 40, 20, false)));
    }

    @Test
    void noByteThatChangesAfterACleanCloseGivesAWrongValue() throws Exception {
        Harness.seeded(
                Harness.count(1, 20), random -> flipEveryByte(random, new Written(random, options(), 20, 10, true)));
    }

    @Test
    void noByteThatChangesInALogAloneGivesAWrongValue() throws Exception {
        Harness.seeded(
                Harness.count(1, 20), random -> flipEveryByte(random, new Written(random, options(), 20, -1, false)));
    }

    private static void flipEveryByte(SplittableRandom random, Written written) {
        List<String> lines = new ArrayList<>();
        assertTrue(check(written.copy(), lines), lines::toString);
        assertEquals(written.states.getLast(), written.openDamaged(written.copy(), options(), new ArrayList<>()));
        for (String name : written.files.keySet()) {
            for (int offset = 0; offset < written.files.get(name).length; offset++) {
                for (int mask : new int[] {1 << random.nextInt(8), 1 + random.nextInt(255)}) {
                    flip(written, name, offset, mask);
                }
            }
        }
    }

    private static boolean check(TreeMap<String, byte[]> files, List<String> lines) {
        SimulatedDisk disk = SimulatedDisk.of(new SplittableRandom(1), files);
        try {
            return DirectoryCheck.run(disk, lines::add);
        } catch (DataDirectoryException e) {
            lines.add(e.getMessage());
            return false;
        } catch (IOException e) {
            throw new AssertionError(e);
        } finally {
            assertEquals(0, disk.operations(), "a check changes nothing");
        }
    }

    private static void flip(Written written, String name, int offset, int mask) {
        TreeMap<String, byte[]> damaged = written.copy();
        damaged.get(name)[offset] ^= (byte) mask;
        List<String> messages = new ArrayList<>();
        String where = name + " at byte " + offset + ", mask " + mask;
        try {
            State state = written.openDamaged(damaged, options(), messages);
            boolean last = name.equals(written.lastSegment);
            int end = written.files.get(name).length;
            Integer lastRecord = written.statesByEnd.lowerKey(end);
            if (last && lastRecord != null && offset >= lastRecord) {
                // Nothing says that the last record had been forced, so it may be one that never was.
                assertEquals(written.statesByEnd.get(lastRecord), state);
            } else if (state != null) {
                throw new AssertionError("opened at " + state + " though forced bytes are damaged: " + messages);
            } else {
                assertTrue(messages.getLast().contains(name), () -> messages.getLast());
                assertFalse(check(damaged, messages));
                recoverToLastGood(written, damaged);
            }
        } catch (AssertionError e) {
            throw new AssertionError(where + ": " + e.getMessage() + " " + messages, e);
        }
    }

    /** Refuses, or comes to something that was written, from where everything goes on. */
    private static void recoverToLastGood(Written written, TreeMap<String, byte[]> damaged) {
        SimulatedDisk disk = SimulatedDisk.of(new SplittableRandom(1), damaged);
        List<String> messages = new ArrayList<>();
        State kept;
        long id;
        try (WriteAheadLog log = written.open(disk, options().withRecoverToLastGood(true), messages)) {
            kept = written.assertWritten(log.store());
            id = log.store().id();
        } catch (DataDirectoryException e) {
            assertEquals(1, e.getMessage().lines().count(), e::getMessage);
            return;
        } catch (IOException e) {
            throw new AssertionError(e);
        }
        assertFalse(messages.isEmpty(), "a loss without a notice");
        SimulatedDisk again = disk.crash();
        try (WriteAheadLog log = written.open(again, options(), messages)) {
            assertEquals(kept, written.assertWritten(log.store()));
            assertEquals(id, log.store().id(), "D8");
            long revision = log.store().revision();
            assertEquals(
                    new Result.Applied(revision + 1, 0),
                    log.submit(Command.put(Bytes.utf8("more"), Bytes.utf8("more"))));
        } catch (IOException e) {
            throw new AssertionError("opened to the last good record, and then no more: " + e, e);
        }
    }

    // ---- The end of the log ----

    @Test
    void theLastRecordsTornAtAnyByteAreThereUpToTheLastWholeOne() throws Exception {
        Harness.seeded(Harness.count(1, 20), random -> {
            LogOptions options = options().withSegmentBytes(1 << 20);
            Written written = new Written(random, options, 30, 10, random.nextBoolean());
            byte[] whole = written.files.get(written.lastSegment);
            for (int length = SegmentHeader.BYTES; length <= whole.length; length++) {
                byte[] zeros = Arrays.copyOf(Arrays.copyOf(whole, length), whole.length);
                byte[] garbage = zeros.clone();
                for (int i = length; i < garbage.length; i++) {
                    garbage[i] = (byte) random.nextInt();
                }
                for (byte[] torn : List.of(Arrays.copyOf(whole, length), zeros, garbage)) {
                    TreeMap<String, byte[]> damaged = written.copy();
                    damaged.put(written.lastSegment, torn);
                    List<String> messages = new ArrayList<>();
                    State state = written.openDamaged(damaged, options, messages);
                    // What stands in for the bytes that are missing may happen to be right.
                    int same = Arrays.mismatch(torn, whole);
                    State expected = written.statesByEnd
                            .floorEntry(same < 0 ? whole.length : same)
                            .getValue();
                    int at = length;
                    assertEquals(expected, state, () -> "torn at byte " + at + ": " + messages);
                }
            }
        });
    }

    /** A segment gets its name when its header has been forced, so half a header is no torn write. */
    @Test
    void aSegmentThatEndsWithinItsHeaderIsDamagedAndAnUnfinishedOneIsNothing() throws Exception {
        Harness.seeded(1, random -> {
            Written written = new Written(random, options(), 20, 10, false);
            String next = FileNames.segment(FileNames.segmentNumber(written.lastSegment) + 1);
            for (int length = 0; length < SegmentHeader.BYTES; length++) {
                byte[] header = Arrays.copyOf(written.files.get(written.lastSegment), length);
                TreeMap<String, byte[]> damaged = written.copy();
                damaged.put(next, header);
                List<String> messages = new ArrayList<>();
                assertNull(written.openDamaged(damaged, options(), messages), messages::toString);
                assertTrue(messages.getLast().contains(next), messages::toString);
                TreeMap<String, byte[]> unfinished = written.copy();
                unfinished.put(next + FileNames.UNFINISHED, header);
                assertEquals(written.states.getLast(), written.openDamaged(unfinished, options(), messages));
            }
        });
    }

    // ---- Anything ----

    @Test
    void fuzzedDirectoriesAreRefusedOrReadAsTheyWereWritten() throws Exception {
        for (int directory = 0; directory < Harness.count(10, 200); directory++) {
            Harness.seeded(1, random -> {
                Written written = new Written(
                        random, options().withSegmentBytes(1 + random.nextInt(3_000)), 40, random.nextInt(60), false);
                for (int i = 0; i < 100; i++) {
                    TreeMap<String, byte[]> damaged = written.copy();
                    List<String> done = new ArrayList<>();
                    for (int changes = 1 + random.nextInt(3); changes > 0; changes--) {
                        done.add(fuzz(random, damaged));
                    }
                    List<String> messages = new ArrayList<>();
                    try {
                        written.openDamaged(damaged, options().withRecoverToLastGood(random.nextInt(4) == 0), messages);
                    } catch (RuntimeException | Error e) {
                        throw new AssertionError(done + ": " + e + " " + messages, e);
                    }
                }
            });
        }
    }

    private static String fuzz(SplittableRandom random, TreeMap<String, byte[]> files) {
        List<String> names = List.copyOf(files.keySet());
        if (names.isEmpty()) {
            return "nothing left";
        }
        String name = names.get(random.nextInt(names.size()));
        String other = names.get(random.nextInt(names.size()));
        byte[] bytes = files.get(name);
        int from = random.nextInt(bytes.length + 1);
        int length = random.nextInt(bytes.length - from + 1);
        switch (random.nextInt(9)) {
            case 0 -> {
                files.remove(name);
                return "deleted " + name;
            }
            case 1 -> {
                files.put(name, Arrays.copyOf(bytes, from));
                return "cut " + name + " at " + from;
            }
            case 2 -> {
                files.put(other, bytes.clone());
                return other + " is " + name;
            }
            case 3 -> {
                byte[] shorter = new byte[bytes.length - length];
                System.arraycopy(bytes, 0, shorter, 0, from);
                System.arraycopy(bytes, from + length, shorter, from, bytes.length - from - length);
                files.put(name, shorter);
                return "took " + length + " bytes at " + from + " out of " + name;
            }
            case 4 -> {
                byte[] longer = new byte[bytes.length + length];
                System.arraycopy(bytes, 0, longer, 0, from + length);
                System.arraycopy(bytes, from, longer, from + length, bytes.length - from);
                files.put(name, longer);
                return "doubled " + length + " bytes at " + from + " of " + name;
            }
            case 5 -> {
                Arrays.fill(bytes, from, from + length, (byte) 0);
                return "zeros in " + length + " bytes at " + from + " of " + name;
            }
            case 6 -> {
                for (int i = from; i < from + length; i++) {
                    bytes[i] = (byte) random.nextInt();
                }
                return "garbage in " + length + " bytes at " + from + " of " + name;
            }
            case 7 -> {
                long number = 1 + random.nextInt(12);
                String renamed = random.nextBoolean() ? FileNames.segment(number) : FileNames.snapshotFile(number);
                files.put(renamed, files.remove(name));
                return name + " renamed to " + renamed;
            }
            default -> {
                if (bytes.length > 0) {
                    bytes[random.nextInt(bytes.length)] ^= (byte) (1 << random.nextInt(8));
                }
                return "a bit of " + name;
            }
        }
    }

    /** Bodies that are nonsense under checksums that match: what they say may be wrong, but nothing breaks. */
    @Test
    void nonsenseUnderGoodChecksumsIsRefusedOrRead() throws Exception {
        Map<String, Integer> outcomes = new HashMap<>();
        Harness.seeded(Harness.count(20, 400), random -> {
            Written written = new Written(random, options().withSegmentBytes(1 << 20), 30, 10, random.nextBoolean());
            for (int i = 0; i < 40; i++) {
                TreeMap<String, byte[]> damaged = written.copy();
                List<String> names = damaged.keySet().stream()
                        .filter(name -> name.startsWith("log-") || name.startsWith("snapshot-"))
                        .toList();
                String name = names.get(random.nextInt(names.size()));
                boolean segment = name.startsWith("log-");
                byte[] bytes = damaged.get(name);
                changeBody(random, bytes, segment);
                SimulatedDisk disk = SimulatedDisk.of(new SplittableRandom(1), damaged);
                try (WriteAheadLog log = written.open(disk, options(), new ArrayList<>())) {
                    log.store().checkInvariants();
                    outcomes.merge("opened", 1, Integer::sum);
                } catch (DataDirectoryException e) {
                    assertEquals(1, e.getMessage().lines().count(), e::getMessage);
                    outcomes.merge("refused", 1, Integer::sum);
                }
            }
        });
        assertEquals(2, outcomes.size(), outcomes::toString);
    }

    /** Changes bytes of one body or payload and makes its checksums good again. */
    private static void changeBody(SplittableRandom random, byte[] bytes, boolean segment) {
        int header = segment ? RecordFormat.HEADER_BYTES : SnapshotItem.BLOCK_HEADER_BYTES;
        int lengthAt = segment ? RecordFormat.BODY_LENGTH_AT : SnapshotItem.PAYLOAD_LENGTH_AT;
        int crcAt = segment ? RecordFormat.BODY_CRC_AT : SnapshotItem.PAYLOAD_CRC_AT;
        byte[] saltAndPlace = new byte[2 * Long.BYTES];
        Format.putLong(saltAndPlace, 0, Format.getLong(bytes, segment ? 48 : 64));
        List<Integer> places = new ArrayList<>();
        int first = segment ? SegmentHeader.BYTES : SnapshotHeader.BYTES;
        for (int at = first; at < bytes.length; at += header + Format.getInt(bytes, at + lengthAt)) {
            places.add(at);
        }
        if (places.isEmpty()) {
            return;
        }
        int index = random.nextInt(places.size());
        int at = places.get(index);
        int length = Format.getInt(bytes, at + lengthAt);
        for (int changes = 1 + random.nextInt(3); changes > 0; changes--) {
            int offset = at + header + random.nextInt(length);
            switch (random.nextInt(4)) {
                case 0 -> bytes[offset] = (byte) random.nextInt();
                case 1 -> bytes[offset]++;
                case 2 -> bytes[offset] = -1;
                default -> bytes[offset] ^= (byte) (1 << random.nextInt(8));
            }
        }
        if (segment && random.nextInt(4) == 0) {
            Format.putLong(bytes, at + RecordFormat.FORCED_SEQUENCE_AT, random.nextLong(-2, 60));
        }
        Format.putInt(bytes, at + crcAt, Format.crc(bytes, at + header, length));
        Format.putLong(saltAndPlace, Long.BYTES, segment ? at : index);
        Format.putInt(bytes, at, Format.placedCrc(bytes, at, header, saltAndPlace));
    }
}
