package homekv.storage;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;

/** A snapshot file gives back what was written to it, whole, or says that it cannot. */
class SnapshotFileTest {
    private static final long NUMBER = 7;

    /** What a visitor is told, or a source tells, as text. */
    private static final class Recorder implements SnapshotVisitor {
        final List<String> told = new ArrayList<>();
        String finish;

        @Override
        public void lease(LeaseLeft lease) {
            told.add(lease.toString());
        }

        @Override
        public void key(Bytes key, List<SavedVersion> newestFirst) {
            StringBuilder text = new StringBuilder(key.toString());
            for (SavedVersion version : newestFirst) {
                text.append(' ')
                        .append(version.revision())
                        .append(' ')
                        .append(version.createRevision())
                        .append(' ')
                        .append(version.version())
                        .append(' ')
                        .append(version.lease())
                        .append(' ')
                        .append(version.value() == null ? "gone" : Arrays.hashCode(version.value()));
            }
            told.add(text.toString());
        }

        @Override
        public void finish(long revision, long compactRevision, long grants) {
            assertNull(finish);
            finish = revision + " " + compactRevision + " " + grants;
        }
    }

    private static SnapshotSource cut(Harness harness) {
        harness.store.turn.lock();
        try {
            return harness.store.cut();
        } finally {
            harness.store.turn.unlock();
        }
    }

    private static SnapshotHeader header(SplittableRandom random, SnapshotSource source, long number) {
        return new SnapshotHeader(
                random.nextLong(),
                source.historyId(),
                number,
                source.revision(),
                random.nextLong() >>> 1,
                source.grants(),
                random.nextLong());
    }

    /** A file, what was written to it, and what its writing answered. */
    private record File(SnapshotHeader header, byte[] bytes, Recorder written, SnapshotFileInfo info, int blocks) {}

    /** A store after some commands, and the file of it. */
    private static File file(SplittableRandom random, long number, int commands, int keys, int valueBytes)
            throws IOException {
        Limits limits = random.nextBoolean() ? Harness.ROOMY : Harness.ROOMY.with(Limit.HISTORY_BYTES, 1 << 30);
        try (Harness harness = new Harness(limits)) {
            int leases = random.nextInt(4);
            for (int i = 1; i <= leases; i++) {
                harness.applied(new Command.Grant(i, 1_000 + i));
            }
            for (int i = 0; i < commands; i++) {
                Bytes key = Harness.key(random.nextInt(keys));
                if (random.nextInt(4) == 0) {
                    harness.log.submit(Harness.del(key));
                } else {
                    Bytes value = LogRecords.bytes(random, random.nextInt(valueBytes + 1));
                    harness.applied(Harness.set(new Write.Put(key, value, random.nextInt(leases + 1))));
                }
            }
            Recorder expected = new Recorder();
            try (SnapshotSource source = cut(harness)) {
                source.leases().forEach(expected::lease);
                while (source.next()) {
                    List<SavedVersion> versions = new ArrayList<>();
                    for (int i = 0; i < source.versions(); i++) {
                        versions.add(source.version(i));
                    }
                    expected.key(source.key(), versions);
                }
                expected.finish(source.revision(), source.compactRevision(), source.grants());
            }
            try (SnapshotSource source = cut(harness)) {
                SnapshotHeader header = header(random, source, number);
                ByteArrayOutputStream out = new ByteArrayOutputStream();
                AtomicInteger blocks = new AtomicInteger();
                SnapshotFileInfo info = SnapshotFileWriter.write(source, header, out, blocks::incrementAndGet);
                assertEquals(harness.store.counters().keys(), info.keys());
                return new File(header, out.toByteArray(), expected, info, blocks.get());
            }
        }
    }

    private static SnapshotHeader load(SplittableRandom random, byte[] bytes, SnapshotVisitor visitor)
            throws IOException {
        String name = FileNames.snapshotFile(NUMBER);
        return SnapshotFileReader.load(SimulatedDisk.of(random, Map.of(name, bytes)), name, visitor);
    }

    /** Fails to load, as damage, having told nothing but what is true. */
    private static void assertDamaged(SplittableRandom random, File file, byte[] bytes) {
        Recorder recorder = new Recorder();
        DataDirectoryException e = assertThrows(DataDirectoryException.class, () -> load(random, bytes, recorder));
        assertTrue(e.isDamage(), e::getMessage);
        assertEquals(1, e.getMessage().lines().count());
        assertTrue(e.getMessage().startsWith("/simulated/snapshot-0000000000000007 at byte "), e::getMessage);
        assertNull(recorder.finish);
        assertEquals(file.written.told.subList(0, recorder.told.size()), recorder.told);
    }

    @Test
    void whatIsReadIsWhatTheStoreHad() throws Exception {
        Harness.seeded(Harness.count(200, 5_000), random -> {
            boolean large = random.nextInt(20) == 0;
            File file = file(random, NUMBER, random.nextInt(200), 30, large ? 200_000 : 100);
            Recorder read = new Recorder();
            assertEquals(file.header, load(random, file.bytes, read));
            assertEquals(file.written.told, read.told);
            assertEquals(file.written.finish, read.finish);
            assertEquals(file.header, load(random, file.bytes, null));
            assertEquals(FileNames.snapshotFile(NUMBER), file.info.name());
            assertEquals(file.header.revision(), file.info.revision());
            assertEquals(file.bytes.length, file.info.bytes());
            assertEquals(blockOffsets(file.bytes).size() - 1, file.blocks);
        });
    }

    @Test
    void aValueLargerThanABlockIsReadAsItWasWritten() throws Exception {
        SplittableRandom random = new SplittableRandom(1);
        for (int bytes : new int[] {256 << 10, 3 << 20, 20 << 20}) {
            Limits limits = Harness.ROOMY.with(Limit.VALUE_BYTES, 32 << 20);
            try (Harness harness = new Harness(limits)) {
                for (int i = 0; i < 3; i++) {
                    harness.applied(Harness.set(Harness.put(Harness.key(i), LogRecords.bytes(random, bytes))));
                }
                try (SnapshotSource source = cut(harness)) {
                    ByteArrayOutputStream out = new ByteArrayOutputStream();
                    SnapshotFileWriter.write(source, header(random, source, NUMBER), out, () -> {});
                    List<Bytes> values = new ArrayList<>();
                    load(random, out.toByteArray(), new SnapshotVisitor() {
                        @Override
                        public void lease(LeaseLeft lease) {}

                        @Override
                        public void key(Bytes key, List<SavedVersion> newestFirst) {
                            values.add(Bytes.unsafeWrap(newestFirst.getFirst().value()));
                        }

                        @Override
                        public void finish(long revision, long compactRevision, long grants) {}
                    });
                    try (Snapshot snapshot = harness.store.snapshot()) {
                        for (int i = 0; i < 3; i++) {
                            assertEquals(snapshot.get(Harness.key(i)).value(), values.get(i));
                        }
                    }
                }
            }
        }
    }

    @Test
    void aByteThatIsNotWhatWasWrittenIsFoundWhereverItIs() throws Exception {
        Harness.seeded(Harness.count(2, 20), random -> {
            File file = file(random, NUMBER, 40, 10, 40);
            byte[] bytes = file.bytes.clone();
            for (int i = 0; i < bytes.length; i++) {
                byte was = bytes[i];
                for (int bit = 0; bit < 9; bit++) {
                    bytes[i] = (byte) (bit == 8 ? was + random.nextInt(1, 256) : was ^ 1 << bit);
                    assertDamaged(random, file, bytes);
                }
                bytes[i] = was;
            }
        });
    }

    @Test
    void aFileThatIsTornOrGoesOnIsDamaged() throws Exception {
        Harness.seeded(Harness.count(3, 30), random -> {
            File file = file(random, NUMBER, 40, 10, 40);
            for (int length = 0; length < file.bytes.length; length++) {
                byte[] torn = Arrays.copyOf(file.bytes, length);
                assertDamaged(random, file, torn);
                byte[] garbled = new byte[file.bytes.length];
                random.nextBytes(garbled);
                System.arraycopy(torn, 0, garbled, 0, length);
                garbled[length] = (byte) ~file.bytes[length];
                assertDamaged(random, file, garbled);
            }
            Recorder recorder = new Recorder();
            byte[] longer = Arrays.copyOf(file.bytes, file.bytes.length + 1 + random.nextInt(3));
            assertThrows(DataDirectoryException.class, () -> load(random, longer, recorder));
            assertNull(recorder.finish);
        });
    }

    /** Where the blocks begin, and where the last one ends. */
    private static List<Integer> blockOffsets(byte[] bytes) {
        List<Integer> offsets = new ArrayList<>(List.of(SnapshotHeader.BYTES));
        while (offsets.getLast() < bytes.length) {
            int at = offsets.getLast();
            offsets.add(
                    at + SnapshotItem.BLOCK_HEADER_BYTES + Format.getInt(bytes, at + SnapshotItem.PAYLOAD_LENGTH_AT));
        }
        return offsets;
    }

    @Test
    void blocksThatAreMissingOrDoubledOrChangePlacesOrComeFromAnotherFileAreFound() throws Exception {
        Harness.seeded(Harness.count(5, 50), random -> {
            File file = file(random, NUMBER, 100, 100, 60_000);
            File other = file(random, NUMBER, 100, 100, 60_000);
            List<Integer> offsets = blockOffsets(file.bytes);
            List<byte[]> blocks = new ArrayList<>();
            for (int i = 0; i + 1 < offsets.size(); i++) {
                blocks.add(Arrays.copyOfRange(file.bytes, offsets.get(i), offsets.get(i + 1)));
            }
            assertTrue(blocks.size() > 3);
            int at = random.nextInt(blocks.size() - 1);
            List<byte[]> missing = new ArrayList<>(blocks);
            missing.remove(at);
            List<byte[]> doubled = new ArrayList<>(blocks);
            doubled.add(at, blocks.get(at));
            List<byte[]> swapped = new ArrayList<>(blocks);
            Collections.swap(swapped, at, at + 1);
            List<byte[]> foreign = new ArrayList<>(blocks);
            List<Integer> otherOffsets = blockOffsets(other.bytes);
            foreign.set(0, Arrays.copyOfRange(other.bytes, otherOffsets.get(0), otherOffsets.get(1)));
            for (List<byte[]> wrong : List.of(missing, doubled, swapped, foreign)) {
                ByteArrayOutputStream out = new ByteArrayOutputStream();
                out.write(file.bytes, 0, SnapshotHeader.BYTES);
                wrong.forEach(out::writeBytes);
                assertDamaged(random, file, out.toByteArray());
            }
        });
    }

    @Test
    void aCopyUnderAnotherHeaderHoldsTheSame() throws Exception {
        Harness.seeded(50, random -> {
            File backup = file(random, 0, 100, 20, 20_000);
            assertEquals("", backup.info.name());
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            long identity = random.nextLong();
            SnapshotHeader copied = SnapshotFileReader.copy(
                    new ByteArrayInputStream(backup.bytes),
                    "backup",
                    old -> new SnapshotHeader(identity, 2, NUMBER, old.revision(), 0, old.grants(), old.salt()),
                    null,
                    out);
            Recorder read = new Recorder();
            SnapshotHeader header = load(random, out.toByteArray(), read);
            assertEquals(copied, header);
            assertEquals(identity, header.storeIdentity());
            assertEquals(backup.written.told, read.told);
            assertEquals(backup.written.finish, read.finish);

            byte[] damaged = backup.bytes.clone();
            damaged[random.nextInt(damaged.length)] ^= 4;
            assertThrows(
                    DataDirectoryException.class,
                    () -> SnapshotFileReader.copy(
                            new ByteArrayInputStream(damaged),
                            "backup",
                            old -> old,
                            null,
                            new ByteArrayOutputStream()));
            assertThrows(
                    DataDirectoryException.class,
                    () -> SnapshotFileReader.load(new ByteArrayInputStream(damaged), "backup", null));
        });
    }

    @Test
    void aFileUnderTheNameOfAnotherIsDamage() throws Exception {
        SplittableRandom random = new SplittableRandom(1);
        File file = file(random, NUMBER + 1, 10, 10, 10);
        DataDirectoryException e = assertThrows(DataDirectoryException.class, () -> load(random, file.bytes, null));
        assertEquals(
                "/simulated/snapshot-0000000000000007 at byte 0: the header is that of snapshot file 0000000000000008",
                e.finding());
    }

    @Test
    void whatAVisitorDoesNotTakeIsDamage() throws Exception {
        SplittableRandom random = new SplittableRandom(1);
        File file = file(random, NUMBER, 10, 10, 10);
        DataDirectoryException e = assertThrows(
                DataDirectoryException.class,
                () -> load(random, file.bytes, new SnapshotVisitor() {
                    @Override
                    public void lease(LeaseLeft lease) {}

                    @Override
                    public void key(Bytes key, List<SavedVersion> newestFirst) {}

                    @Override
                    public void finish(long revision, long compactRevision, long grants) {
                        throw new IllegalArgumentException("no such thing");
                    }
                }));
        assertTrue(e.isDamage());
        assertTrue(e.finding().endsWith("not what it says: no such thing"), e::finding);
    }

    @Test
    void aFileIsForcedAsItIsWrittenAndWhatEndsTheWritingReachesTheCaller() throws Exception {
        SplittableRandom random = new SplittableRandom(1);
        SimulatedDisk disk = new SimulatedDisk(random);
        byte[] bytes = LogRecords.bytes(random, 20 << 20).unsafeArray();
        try (DiskFile file = disk.create("x.tmp")) {
            DiskFileOutput out = new DiskFileOutput(file);
            for (int at = 0; at < bytes.length; ) {
                int length = Math.min(random.nextInt(3 << 20), bytes.length - at);
                out.write(bytes, at, length);
                at += length;
            }
            out.write(77);
        }
        assertEquals(20, disk.operations(SimulatedDisk.Operation.FORCE));
        byte[] written = disk.files().get("x.tmp");
        assertArrayEquals(bytes, Arrays.copyOf(written, bytes.length));
        assertEquals(77, written[bytes.length]);

        try (Harness harness = new Harness()) {
            harness.applied(Harness.set(Harness.put(Harness.key(1), Harness.value(1))));
            try (SnapshotSource source = cut(harness)) {
                assertThrows(
                        IllegalStateException.class,
                        () -> SnapshotFileWriter.write(
                                source, header(random, source, NUMBER), new ByteArrayOutputStream(), () -> {
                                    throw new IllegalStateException("closed");
                                }));
            }
        }
    }

    /** Nothing but the header or a DataDirectoryException, and soon, in a heap that is too small for a lie. */
    @Test
    void whateverTheBytesAreReadingEndsInASmallHeap() throws Exception {
        Harness.seeded(
                1,
                random -> Harness.child(
                        Fuzz.class,
                        List.of("-Xmx32m"),
                        Long.toString(random.nextLong()),
                        Integer.toString(Harness.count(5_000, 200_000))));
    }

    static final class Fuzz {
        private Fuzz() {}

        public static void main(String[] arguments) throws Exception {
            long seed = Long.parseLong(arguments[0]);
            File file = null;
            for (int i = 0; i < Integer.parseInt(arguments[1]); i++) {
                SplittableRandom random = new SplittableRandom(seed + i);
                file = i % 50 == 0 ? file(new SplittableRandom(seed + i), NUMBER, 30, 10, 40) : file;
                try {
                    run(random, file);
                } catch (Exception | Error e) {
                    throw new AssertionError("run " + i + " of seed " + seed + ": " + e, e);
                }
            }
        }

        private static void run(SplittableRandom random, File file) throws IOException {
            byte[] bytes = random.nextInt(4) > 0
                    ? file.bytes.clone()
                    : Arrays.copyOf(file.bytes, random.nextInt(2 * file.bytes.length));
            boolean sealed = random.nextInt(3) > 0;
            if (sealed && bytes.length > SnapshotHeader.BYTES + SnapshotItem.BLOCK_HEADER_BYTES) {
                int first = SnapshotHeader.BYTES;
                boolean lie = random.nextInt(8) == 0;
                for (int mutations = random.nextInt(4); mutations > 0; mutations--) {
                    int at = first + random.nextInt(bytes.length - first);
                    bytes[at] = (byte) (random.nextBoolean() ? random.nextInt(8) : random.nextInt());
                }
                int payloadBytes = bytes.length - first - SnapshotItem.BLOCK_HEADER_BYTES;
                int said = lie ? random.nextInt(Integer.MAX_VALUE) : payloadBytes;
                Format.putInt(bytes, first + SnapshotItem.PAYLOAD_LENGTH_AT, said);
                Format.putInt(
                        bytes,
                        first + SnapshotItem.PAYLOAD_CRC_AT,
                        Format.crc(bytes, first + SnapshotItem.BLOCK_HEADER_BYTES, payloadBytes));
                byte[] saltAndPlace = new byte[16];
                Format.putLong(saltAndPlace, 0, file.header.salt());
                Format.putInt(
                        bytes, first, Format.placedCrc(bytes, first, SnapshotItem.BLOCK_HEADER_BYTES, saltAndPlace));
            } else {
                for (int mutations = random.nextInt(8); mutations > 0 && bytes.length > 0; mutations--) {
                    bytes[random.nextInt(bytes.length)] ^= (byte) (1 << random.nextInt(8));
                }
            }
            Recorder recorder = new Recorder();
            try {
                load(random, bytes, recorder);
            } catch (DataDirectoryException e) {
                assertNull(recorder.finish);
                return;
            }
            if (!sealed) {
                assertArrayEquals(file.bytes, bytes);
                assertFalse(recorder.finish.isEmpty());
            }
        }
    }
}
