package homekv.storage;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;

/** A segment of the log gives back what was written to it, and nothing else, whatever happens to its bytes. */
class SegmentTest {
    private static final long NUMBER = 5;
    private static final long FIRST_SEQUENCE = 100;

    /** What a test writes: a record, and how far the log is known to be forced then. */
    private record Written(LogRecord record, long forcedSequence) {}

    /** What a reader finds: the good records, and what ends them. */
    private record Found(List<Written> good, long offset, String badness, long laterForcedSequence) {}

    private static SegmentHeader header(SplittableRandom random) {
        Durability[] durabilities = {Durability.WRITTEN, Durability.INTERVAL, Durability.FORCED};
        return new SegmentHeader(
                random.nextLong(),
                random.nextLong(),
                NUMBER,
                FIRST_SEQUENCE,
                random.nextLong(),
                durabilities[random.nextInt(durabilities.length)]);
    }

    private static List<Written> records(SplittableRandom random, int count, int writes, int valueBytes) {
        List<Written> records = new ArrayList<>();
        long forced = FIRST_SEQUENCE - 1;
        for (int i = 0; i < count; i++) {
            forced = random.nextLong(forced, FIRST_SEQUENCE + i);
            records.add(new Written(LogRecords.random(random, writes, valueBytes), forced));
        }
        return records;
    }

    /** The bytes of a segment, and after those the offsets of its records and of its end are put into the list. */
    private static byte[] write(
            SplittableRandom random, SegmentHeader header, List<Written> records, List<Long> offsets)
            throws IOException {
        SimulatedDisk disk = new SimulatedDisk(random);
        String name = FileNames.segment(header.number());
        try (SegmentWriter writer = SegmentWriter.begin(disk, header)) {
            offsets.add(writer.size());
            for (int i = 0; i < records.size(); i++) {
                Written written = records.get(i);
                writer.add(written.record, header.firstSequence() + i, written.forcedSequence);
                offsets.add(writer.size() + writer.bufferedBytes());
                if (random.nextInt(3) == 0) {
                    writer.flush();
                    assertEquals(0, writer.bufferedBytes());
                }
            }
            writer.flush();
            assertEquals(offsets.getLast(), writer.size());
        }
        byte[] bytes = disk.files().get(name);
        assertEquals(offsets.getLast(), bytes.length);
        return bytes;
    }

    private static SegmentReader reader(SplittableRandom random, byte[] bytes) throws IOException {
        String name = FileNames.segment(NUMBER);
        return SegmentReader.open(SimulatedDisk.of(random, Map.of(name, bytes)), name);
    }

    /** Reads all of it, as recovery does. */
    private static Found read(SplittableRandom random, byte[] bytes) throws IOException {
        try (SegmentReader reader = reader(random, bytes)) {
            List<Written> good = new ArrayList<>();
            while (reader.next()) {
                assertNull(reader.badness());
                good.add(new Written(reader.record(), reader.forcedSequence()));
                assertEquals(reader.header().firstSequence() + good.size() - 1, reader.sequence());
            }
            assertFalse(reader.next(), "it stays at the end");
            if (reader.badness() == null) {
                assertEquals(bytes.length, reader.offset());
            }
            assertEquals(reader.header().firstSequence() + good.size() - 1, reader.sequence());
            return new Found(good, reader.offset(), reader.badness(), reader.laterForcedSequence());
        }
    }

    @Test
    void everyRecordIsReadAsItWasWritten() throws Exception {
        Harness.seeded(Harness.count(200, 5_000), random -> {
            SegmentHeader header = header(random);
            boolean large = random.nextInt(20) == 0;
            List<Written> records = records(random, random.nextInt(30), large ? 200 : 5, large ? 40_000 : 200);
            List<Long> offsets = new ArrayList<>();
            byte[] bytes = write(random, header, records, offsets);
            try (SegmentReader reader = reader(random, bytes)) {
                assertEquals(header, reader.header());
                for (int i = 0; reader.next(); i++) {
                    assertEquals(offsets.get(i), reader.offset());
                }
            }
            assertEquals(new Found(records, bytes.length, null, -1), read(random, bytes));
        });
    }

    @Test
    void aRecordOfACommandWithAHundredThousandKeysFits() throws Exception {
        SplittableRandom random = new SplittableRandom(1);
        List<Write> writes = new ArrayList<>();
        for (int i = 0; i < 100_000; i++) {
            writes.add(new Write.Put(Harness.key(i), Harness.bytes(i % 400), i % 3));
        }
        List<Written> records = List.of(
                new Written(new LogRecord.Compacted(1), FIRST_SEQUENCE - 1),
                new Written(new LogRecord.Committed(2, writes, 0, 0), FIRST_SEQUENCE),
                new Written(new LogRecord.Committed(3, writes.subList(0, 50_000), 7, 8), FIRST_SEQUENCE + 1),
                new Written(new LogRecord.Compacted(4), FIRST_SEQUENCE + 2));
        byte[] bytes = write(random, header(random), records, new ArrayList<>());
        assertTrue(bytes.length > 20 << 20);
        assertEquals(new Found(records, bytes.length, null, -1), read(random, bytes));
        bytes[bytes.length - 100] ^= 1;
        assertEquals(2, read(random, bytes).good.size());
    }

    @Test
    void aByteThatIsNotWhatWasWrittenIsFoundWhereverItIs() throws Exception {
        Harness.seeded(Harness.count(2, 20), random -> {
            List<Written> records = records(random, 12, 4, 60);
            List<Long> offsets = new ArrayList<>();
            byte[] bytes = write(random, header(random), records, offsets);
            for (int i = 0; i < bytes.length; i++) {
                byte was = bytes[i];
                for (int bit = 0; bit < 9; bit++) {
                    bytes[i] = (byte) (bit == 8 ? was + random.nextInt(1, 256) : was ^ 1 << bit);
                    assertDetected(random, records, offsets, bytes, i);
                }
                bytes[i] = was;
            }
        });
    }

    private static void assertDetected(
            SplittableRandom random, List<Written> records, List<Long> offsets, byte[] bytes, int changed)
            throws IOException {
        if (changed < SegmentHeader.BYTES) {
            assertThrows(DataDirectoryException.class, () -> read(random, bytes));
            return;
        }
        int bad = 0;
        while (offsets.get(bad + 1) <= changed) {
            bad++;
        }
        Found found = read(random, bytes);
        assertEquals(records.subList(0, bad), found.good);
        assertEquals(offsets.get(bad), found.offset);
        assertNotNull(found.badness);
        boolean headerIsGood = changed >= offsets.get(bad) + RecordFormat.HEADER_BYTES;
        assertEquals(
                records.subList(headerIsGood ? bad : bad + 1, records.size()).stream()
                        .mapToLong(Written::forcedSequence)
                        .max()
                        .orElse(-1),
                found.laterForcedSequence,
                "the witnesses behind the change");
    }

    @Test
    void aSegmentTornAtAnyByteHasItsWholeRecordsAndNoOther() throws Exception {
        Harness.seeded(Harness.count(3, 50), random -> {
            List<Written> records = records(random, 12, 4, 60);
            List<Long> offsets = new ArrayList<>();
            byte[] bytes = write(random, header(random), records, offsets);
            for (int length = 0; length < bytes.length; length++) {
                byte[] torn = Arrays.copyOf(bytes, length);
                assertTorn(random, records, offsets, torn, length);
                // A file's size may be durable before its bytes are: there are others, or none, in their place.
                byte[] garbled = new byte[bytes.length];
                random.nextBytes(garbled);
                System.arraycopy(bytes, 0, garbled, 0, length);
                garbled[length] = (byte) ~bytes[length];
                assertTorn(random, records, offsets, garbled, length);
                assertTorn(random, records, offsets, Arrays.copyOf(torn, bytes.length), length);
            }
        });
    }

    private static void assertTorn(
            SplittableRandom random, List<Written> records, List<Long> offsets, byte[] torn, int length)
            throws IOException {
        if (length < SegmentHeader.BYTES && torn.length == length) {
            assertThrows(DataDirectoryException.class, () -> read(random, torn));
            return;
        }
        Found found;
        try {
            found = read(random, torn);
        } catch (DataDirectoryException e) {
            assertTrue(length < SegmentHeader.BYTES, e::getMessage);
            return;
        }
        assertEquals(records.subList(0, found.good.size()), found.good, "a prefix");
        int whole = 0;
        while (whole + 1 < offsets.size() && offsets.get(whole + 1) <= length) {
            whole++;
        }
        // Zeros may be what was there anyway.
        assertTrue(found.good.size() >= whole, () -> found.badness);
        if (torn.length == length) {
            assertEquals(whole, found.good.size());
            assertEquals(offsets.get(whole), found.offset);
            assertEquals(found.offset == length, found.badness == null);
        }
    }

    @Test
    void sectorsThatWereNeverWrittenLeaveAPrefixAndTheWitnessesBehindThem() throws Exception {
        Harness.seeded(Harness.count(300, 20_000), random -> {
            List<Written> records = records(random, 30, 4, 300);
            List<Long> offsets = new ArrayList<>();
            byte[] bytes = write(random, header(random), records, offsets);
            int sectorBytes = 512;
            int firstLost = -1;
            boolean[] lost = new boolean[bytes.length];
            for (int at = sectorBytes; at < bytes.length; at += sectorBytes) {
                if (random.nextInt(3) == 0) {
                    for (int i = at; i < Math.min(at + sectorBytes, bytes.length); i++) {
                        lost[i] = bytes[i] != 0;
                        bytes[i] = 0;
                        firstLost = firstLost < 0 && lost[i] ? i : firstLost;
                    }
                }
            }
            Found found = read(random, bytes);
            if (firstLost < 0) {
                assertEquals(new Found(records, bytes.length, null, -1), found);
                return;
            }
            int bad = found.good.size();
            assertEquals(records.subList(0, bad), found.good);
            assertTrue(offsets.get(bad) <= firstLost && firstLost < offsets.get(bad + 1));
            long witness = -1;
            for (int i = bad; i < records.size(); i++) {
                boolean whole = true;
                for (int j = 0; j < RecordFormat.HEADER_BYTES; j++) {
                    whole &= !lost[(int) (offsets.get(i) + j)];
                }
                witness = whole ? Math.max(witness, records.get(i).forcedSequence) : witness;
            }
            assertEquals(witness, found.laterForcedSequence);
        });
    }

    /** As a client may have it that has read the disk: the same salt, and the same place in another segment. */
    @Test
    void whatIsCopiedFromASegmentIntoAValueIsNeverTakenForARecord() throws Exception {
        Harness.seeded(Harness.count(100, 5_000), random -> {
            SegmentHeader header = header(random);
            byte[] stolen = write(random, header, records(random, 8, 4, 100), new ArrayList<>());
            SegmentHeader other = new SegmentHeader(
                    header.storeIdentity(),
                    header.historyId(),
                    NUMBER,
                    FIRST_SEQUENCE,
                    random.nextLong(),
                    header.durability());
            byte[] otherSalt = write(random, other, records(random, 8, 4, 100), new ArrayList<>());
            Written hostile = new Written(
                    new LogRecord.Committed(
                            1,
                            List.of(
                                    new Write.Put(Bytes.utf8("a"), Bytes.unsafeWrap(stolen)),
                                    new Write.Put(Bytes.utf8("b"), Bytes.unsafeWrap(otherSalt))),
                            0,
                            0),
                    FIRST_SEQUENCE - 1);
            List<Written> records = List.of(hostile);
            List<Long> offsets = new ArrayList<>();
            byte[] bytes = write(random, header, records, offsets);
            int record = SegmentHeader.BYTES;
            bytes[record + random.nextInt(RecordFormat.HEADER_BYTES)] ^= 0x10;
            Found found = read(random, bytes);
            assertEquals(List.of(), found.good);
            assertEquals(record, found.offset);
            assertEquals(-1, found.laterForcedSequence);
            // And at its own offset, under another salt.
            byte[] grafted = bytes.clone();
            System.arraycopy(otherSalt, record, grafted, record, Math.min(otherSalt.length, grafted.length) - record);
            found = read(random, grafted);
            assertEquals(List.of(), found.good);
            assertEquals(-1, found.laterForcedSequence);
        });
    }

    @Test
    void recordsThatAreLeftOutOrChangePlacesAreMissed() throws Exception {
        Harness.seeded(Harness.count(100, 5_000), random -> {
            List<Written> records = records(random, 10, 3, 40);
            List<Long> offsets = new ArrayList<>();
            byte[] bytes = write(random, header(random), records, offsets);
            int left = random.nextInt(records.size() - 1);
            ByteArrayOutputStream without = new ByteArrayOutputStream();
            without.write(bytes, 0, offsets.get(left).intValue());
            int next = offsets.get(left + 1).intValue();
            without.write(bytes, next, bytes.length - next);
            Found found = read(random, without.toByteArray());
            assertEquals(records.subList(0, left), found.good);
            assertNotNull(found.badness);
            assertEquals(-1, found.laterForcedSequence, "at other places they are nothing");
        });
    }

    @Test
    void aRecordOfAnotherNumberIsBadThoughItsChecksumsMatch() throws Exception {
        SplittableRandom random = new SplittableRandom(1);
        SimulatedDisk disk = new SimulatedDisk(random);
        LogRecord record = new LogRecord.Compacted(1);
        try (SegmentWriter writer = SegmentWriter.begin(disk, header(random))) {
            writer.add(record, FIRST_SEQUENCE, 0);
            writer.add(record, FIRST_SEQUENCE + 2, FIRST_SEQUENCE + 1);
            writer.flush();
        }
        Found found = read(random, disk.files().get(FileNames.segment(NUMBER)));
        assertEquals(List.of(new Written(record, 0)), found.good);
        assertEquals("record 102 is where record 101 has to be", found.badness);
        assertEquals(Long.MAX_VALUE, found.laterForcedSequence, "no write that was torn leaves this");
    }

    @Test
    void aSegmentUnderTheNameOfAnotherIsDamage() throws Exception {
        SplittableRandom random = new SplittableRandom(1);
        byte[] bytes = write(random, header(random), List.of(), new ArrayList<>());
        String name = FileNames.segment(NUMBER + 1);
        try (SegmentReader reader = SegmentReader.open(SimulatedDisk.of(random, Map.of(name, bytes)), name)) {
            DataDirectoryException e = assertThrows(DataDirectoryException.class, reader::header);
            assertEquals(
                    "/simulated/" + name + " at byte 0: the header is that of segment 0000000000000005", e.finding());
            assertTrue(e.isDamage());
        }
    }

    @Test
    void aSegmentOfAnotherFormatVersionIsToldFromDamage() throws Exception {
        SplittableRandom random = new SplittableRandom(1);
        byte[] bytes = write(random, header(random), List.of(), new ArrayList<>());
        Format.putInt(bytes, 8, 2);
        DataDirectoryException flipped = assertThrows(DataDirectoryException.class, () -> read(random, bytes));
        assertTrue(flipped.isDamage(), flipped::getMessage);
        Format.seal(bytes);
        DataDirectoryException other = assertThrows(DataDirectoryException.class, () -> read(random, bytes));
        assertFalse(other.isDamage());
        assertEquals(
                "/simulated/log-0000000000000005 has format version 2, and this HomeKV reads version 1; open it with a"
                        + " HomeKV that writes version 2",
                other.getMessage());
    }

    @Test
    void aSegmentThatHasBegunIsDurable() throws Exception {
        Harness.seeded(100, random -> {
            SegmentHeader header = header(random);
            SimulatedDisk disk = new SimulatedDisk(random);
            SegmentWriter.begin(disk, header).close();
            byte[] bytes = disk.crash().files().get(FileNames.segment(NUMBER));
            assertArrayEquals(header.encode(), bytes);
        });
    }

    /** Nothing but an answer or a DataDirectoryException, and soon, in a heap that is too small for a lie. */
    @Test
    void whateverTheBytesAreReadingEndsInASmallHeap() throws Exception {
        Harness.seeded(
                1,
                random -> Harness.child(
                        Fuzz.class,
                        List.of("-Xmx24m"),
                        Long.toString(random.nextLong()),
                        Integer.toString(Harness.count(20_000, 500_000))));
    }

    static final class Fuzz {
        private Fuzz() {}

        public static void main(String[] arguments) throws Exception {
            long seed = Long.parseLong(arguments[0]);
            for (int i = 0; i < Integer.parseInt(arguments[1]); i++) {
                SplittableRandom random = new SplittableRandom(seed + i);
                try {
                    run(random);
                } catch (Exception | Error e) {
                    throw new AssertionError("run " + i + " of seed " + seed + ": " + e, e);
                }
            }
        }

        private static void run(SplittableRandom random) throws IOException {
            SegmentHeader header = header(random);
            List<Written> records = records(random, random.nextInt(8), 4, 60);
            List<Long> offsets = new ArrayList<>();
            byte[] bytes = write(random, header, records, offsets);
            int kind = random.nextInt(4);
            for (int mutations = 1 + random.nextInt(8); mutations > 0; mutations--) {
                mutate(random, bytes);
            }
            if (kind == 1) {
                random.nextBytes(bytes);
            }
            if (kind > 1) {
                seal(random, bytes, header, offsets);
            }
            Found found;
            try {
                found = read(random, bytes);
            } catch (DataDirectoryException e) {
                return;
            }
            if (kind <= 1) {
                assertEquals(records.subList(0, found.good.size()), found.good);
            }
        }

        private static void mutate(SplittableRandom random, byte[] bytes) {
            int at = random.nextInt(bytes.length);
            switch (random.nextInt(4)) {
                case 0 -> bytes[at] ^= (byte) (1 << random.nextInt(8));
                case 1 -> bytes[at] = (byte) random.nextInt();
                case 2 ->
                    Arrays.fill(bytes, at, Math.min(bytes.length, at + 4), (byte) (random.nextBoolean() ? 0x7f : -1));
                default -> {
                    int from = random.nextInt(bytes.length);
                    int length = random.nextInt(1 + bytes.length - Math.max(at, from));
                    System.arraycopy(bytes, from, bytes, at, length);
                }
            }
        }

        /** Makes the checksums right again, so that what lies behind them is met. */
        private static void seal(SplittableRandom random, byte[] bytes, SegmentHeader header, List<Long> offsets) {
            System.arraycopy(header.encode(), 0, bytes, 0, SegmentHeader.BYTES);
            byte[] saltAndPlace = new byte[16];
            Format.putLong(saltAndPlace, 0, header.salt());
            boolean sane = random.nextBoolean();
            for (int i = 0; i + 1 < offsets.size(); i++) {
                int at = offsets.get(i).intValue();
                int body = at + RecordFormat.HEADER_BYTES;
                int bodyBytes = offsets.get(i + 1).intValue() - body;
                if (sane) {
                    Format.putInt(bytes, at + RecordFormat.BODY_LENGTH_AT, bodyBytes);
                    Format.putLong(bytes, at + RecordFormat.SEQUENCE_AT, header.firstSequence() + i);
                    Format.putLong(bytes, at + RecordFormat.FORCED_SEQUENCE_AT, 0);
                }
                Format.putInt(bytes, at + RecordFormat.BODY_CRC_AT, Format.crc(bytes, body, bodyBytes));
                Format.putLong(saltAndPlace, 8, at);
                Format.putInt(bytes, at, Format.placedCrc(bytes, at, RecordFormat.HEADER_BYTES, saltAndPlace));
            }
        }
    }
}
