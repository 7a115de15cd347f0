package homekv.rpc;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.ByteString;
import com.google.protobuf.CodedOutputStream;
import com.google.protobuf.WireFormat;
import homekv.rpc.proto.GetRequest;
import homekv.rpc.proto.Record;
import homekv.rpc.proto.SetRequest;
import homekv.storage.Bytes;
import homekv.storage.Limit;
import homekv.storage.Limits;
import homekv.storage.Result;
import homekv.storage.Write;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;

/** The decoder of requests against protobuf's own parsers. */
class RequestDecoderTest {
    private static final Limits LIMITS =
            Harness.ROOMY.with(Limit.KEY_BYTES, 60).with(Limit.VALUE_BYTES, 200).with(Limit.REQUEST_KEYS, 20);

    // ---- Both, and what they say ----

    private static RequestDecoder decoder(byte[] message, Limits limits) {
        return new RequestDecoder(new ByteArrayInputStream(message), limits);
    }

    private static Bytes bytes(ByteString string) {
        return Bytes.unsafeWrap(string.toByteArray());
    }

    /** What protobuf reads, or null where it reads nothing. */
    private static List<Bytes> expectedKeys(byte[] message) {
        try {
            return GetRequest.parseFrom(message).getKeysList().stream()
                    .map(RequestDecoderTest::bytes)
                    .toList();
        } catch (IOException e) {
            return null;
        }
    }

    private static List<Write> expectedWrites(byte[] message) {
        try {
            List<Write> writes = new ArrayList<>();
            for (Record record : SetRequest.parseFrom(message).getRecordsList()) {
                Bytes key = bytes(record.getKey());
                writes.add(record.hasValue() ? new Write.Put(key, bytes(record.getValue())) : new Write.Delete(key));
            }
            return writes;
        } catch (IOException e) {
            return null;
        }
    }

    private interface Decode<T> {
        List<T> from(RequestDecoder decoder) throws IOException, RefusedException;
    }

    /**
     * Where protobuf reads a message, the decoder reads the same or refuses what is over a limit; where protobuf reads
     * none, the decoder refuses or fails too. Nothing but the two exceptions ever comes out.
     */
    private static <T> boolean compare(byte[] message, List<T> expected, Decode<T> decode, String what) {
        try {
            List<T> decoded = decode.from(decoder(message, LIMITS));
            assertEquals(expected, decoded, () -> what + " " + HexFormat.of().formatHex(message));
            return true;
        } catch (RefusedException e) {
            assertTrue(
                    expected == null || mayBeRefused(message, e.refused),
                    () -> what + " " + HexFormat.of().formatHex(message) + " " + e.refused);
        } catch (IOException e) {
            assertTrue(
                    expected == null || hasOverlongVarint(message),
                    () -> what + " " + HexFormat.of().formatHex(message) + " " + e);
        }
        return false;
    }

    /**
     * Whether a varint may go on after its tenth byte. Protobuf skips an unknown field with one or fails, depending on
     * where the bytes lie in its buffer.
     */
    private static boolean hasOverlongVarint(byte[] message) {
        int run = 0;
        for (int i = 0; i < message.length && run < 10; i++) {
            run = message[i] < 0 ? run + 1 : 0;
        }
        return run == 10;
    }

    private static boolean mayBeRefused(byte[] message, Result.Refused refused) {
        return switch (refused.limit()) {
            case KEY_BYTES, VALUE_BYTES, REQUEST_KEYS ->
                refused.allowed() == LIMITS.get(refused.limit())
                        && (refused.actual() > refused.allowed() || refused.actual() == 0)
                        && refused.actual() <= message.length;
            default -> false;
        };
    }

    // ---- Messages ----

    private static byte[] random(SplittableRandom random, int maxLength) {
        byte[] bytes = new byte[random.nextInt(maxLength + 1)];
        random.nextBytes(bytes);
        return bytes;
    }

    /** Fields known and unknown, of every wire type, groups in groups, lengths that are right and some that lie. */
    private static void fields(SplittableRandom random, CodedOutputStream out, int depth) throws IOException {
        for (int i = random.nextInt(6); i > 0; i--) {
            int number = random.nextInt(8) == 0 ? 1 + random.nextInt(1 << 20) : 1 + random.nextInt(3);
            switch (random.nextInt(depth > 3 ? 7 : 12)) {
                case 0 -> out.writeUInt64(number, random.nextLong());
                case 1 -> out.writeFixed32(number, random.nextInt());
                case 2 -> out.writeFixed64(number, random.nextLong());
                case 3, 4, 5 -> out.writeByteArray(number, random(random, random.nextInt(10) == 0 ? 250 : 20));
                case 6 -> {
                    if (random.nextInt(20) == 0) {
                        out.writeTag(number, random.nextInt(8));
                        out.writeUInt32NoTag(random.nextInt());
                    }
                }
                case 7 -> {
                    out.writeTag(number, WireFormat.WIRETYPE_START_GROUP);
                    fields(random, out, depth + 1);
                    out.writeTag(random.nextInt(30) == 0 ? number + 1 : number, WireFormat.WIRETYPE_END_GROUP);
                }
                default -> {
                    ByteArrayOutputStream nested = new ByteArrayOutputStream();
                    CodedOutputStream nestedOut = CodedOutputStream.newInstance(nested);
                    if (random.nextBoolean()) {
                        nestedOut.writeByteArray(1, random(random, 10));
                    }
                    fields(random, nestedOut, depth + 1);
                    if (random.nextBoolean()) {
                        nestedOut.writeByteArray(2, random(random, 10));
                    }
                    nestedOut.flush();
                    out.writeByteArray(random.nextInt(4) == 0 ? number : 1, nested.toByteArray());
                }
            }
        }
    }

    private static byte[] message(SplittableRandom random) throws IOException {
        ByteArrayOutputStream message = new ByteArrayOutputStream();
        CodedOutputStream out = CodedOutputStream.newInstance(message);
        for (int i = random.nextInt(4); i >= 0; i--) {
            fields(random, out, 0);
        }
        out.flush();
        return message.toByteArray();
    }

    private static byte[] mutate(byte[] message, SplittableRandom random) {
        if (message.length == 0) {
            return message;
        }
        byte[] mutated = message.clone();
        return switch (random.nextInt(4)) {
            case 0 -> Arrays.copyOf(mutated, random.nextInt(mutated.length)); // Cut off.
            case 1 -> {
                mutated[random.nextInt(mutated.length)] = (byte) random.nextInt();
                yield mutated;
            }
            case 2 -> {
                mutated[random.nextInt(mutated.length)] ^= (byte) (1 << random.nextInt(8));
                yield mutated;
            }
            default -> {
                int at = random.nextInt(mutated.length);
                mutated = Arrays.copyOf(mutated, mutated.length + 1);
                System.arraycopy(message, at, mutated, at + 1, message.length - at);
                mutated[at] = (byte) random.nextInt();
                yield mutated;
            }
        };
    }

    // ---- Properties ----

    @Test
    void whateverProtobufReadsIsReadTheSameAndWhateverItRejectsIsRejected() throws Exception {
        Harness.seeded(Harness.count(20, 2_000), random -> {
            int read = 0;
            int count = 5_000;
            for (int i = 0; i < count; i++) {
                byte[] message = message(random);
                for (int j = random.nextInt(3); j > 0; j--) {
                    message = mutate(message, random);
                }
                read += compare(message, expectedKeys(message), RequestDecoder::keys, "keys") ? 1 : 0;
                read += compare(message, expectedWrites(message), RequestDecoder::writes, "writes") ? 1 : 0;
            }
            // Else the messages have become nonsense, and the test shows little.
            assertTrue(read > count / 5, () -> "too few messages are valid");
        });
    }

    /** Every way to cut a message off, and every value of every byte. */
    @Test
    void everyTruncationAndEveryChangeOfOneByteIsReadAsProtobufDoes() {
        byte[] set = SetRequest.newBuilder()
                .addRecords(Harness.put("key", "value"))
                .addRecords(Harness.delete("k"))
                .addRecords(Harness.put("e", ""))
                .build()
                .toByteArray();
        byte[] get = Harness.get("key", "k", "another").toByteArray();
        for (byte[] message : List.of(set, get)) {
            for (int at = 0; at <= message.length; at++) {
                byte[] cut = Arrays.copyOf(message, at);
                compare(cut, expectedKeys(cut), RequestDecoder::keys, "keys");
                compare(cut, expectedWrites(cut), RequestDecoder::writes, "writes");
                for (int value = 0; at < message.length && value < 256; value++) {
                    byte[] changed = message.clone();
                    changed[at] = (byte) value;
                    compare(changed, expectedKeys(changed), RequestDecoder::keys, "keys");
                    compare(changed, expectedWrites(changed), RequestDecoder::writes, "writes");
                }
            }
        }
    }

    /** Protobuf merges: within one record, a field that stands again replaces what it said before. */
    @Test
    void theLastOfRepeatedFieldsInARecordWins() throws Exception {
        byte[] record = {0x0a, 1, 'a', 0x12, 1, '1', 0x0a, 1, 'b', 0x12, 1, '2'};
        byte[] message = {0x0a, (byte) record.length};
        message = Arrays.copyOf(message, 2 + record.length);
        System.arraycopy(record, 0, message, 2, record.length);
        List<Write> expected = List.of(new Write.Put(Bytes.utf8("b"), Bytes.utf8("2")));
        assertEquals(expected, expectedWrites(message));
        assertEquals(expected, decoder(message, LIMITS).writes());
    }

    /** The empty key that another one replaces is nobody's key. */
    @Test
    void aKeyThatReplacesAnEmptyOneInARecordIsTaken() throws Exception {
        byte[] message = {0x0a, 5, 0x0a, 0, 0x0a, 1, 'b'};
        assertEquals(List.of(new Write.Delete(Bytes.utf8("b"))), expectedWrites(message));
        assertEquals(expectedWrites(message), decoder(message, LIMITS).writes());
    }

    @Test
    void groupsThatNestWithoutEndAreRejectedAndDoNotOverflowTheStack() {
        byte[] message = new byte[1 << 20];
        Arrays.fill(message, (byte) 0x1b); // Group 3 begins, and again, and again.
        assertThrows(IOException.class, () -> decoder(message, LIMITS).keys());
        assertThrows(IOException.class, () -> decoder(message, LIMITS).writes());
    }

    /** A message may claim any length; what is not there is not allocated. */
    @Test
    void whatAMessageClaimsToContainCostsNoMemory() {
        Limits limits = LIMITS.with(Limit.KEY_BYTES, Limits.MAX_MESSAGE_BYTES)
                .with(Limit.VALUE_BYTES, Limits.MAX_MESSAGE_BYTES);
        byte[] aGibibyte = {(byte) 0x80, (byte) 0x80, (byte) 0x80, (byte) 0x80, 4};
        byte[] twoGibibytes = {(byte) 0xff, (byte) 0xff, (byte) 0xff, (byte) 0xff, 7};
        byte[] negative = {(byte) 0xff, (byte) 0xff, (byte) 0xff, (byte) 0xff, 15};
        for (byte[] length : List.of(aGibibyte, twoGibibytes, negative)) {
            byte[] key = join(new byte[] {0x0a}, length, new byte[100]);
            byte[] recordKey = join(new byte[] {0x0a, 100}, key);
            byte[] recordValue = join(new byte[] {0x0a, 100, 0x0a, 1, 'k', 0x12}, length, new byte[100]);
            byte[] longRecord = join(new byte[] {0x0a}, length, new byte[] {0x0a, 1, 'k', 0x12}, length, new byte[9]);
            byte[] unknown = join(new byte[] {0x1a}, length, new byte[100]);
            long before = allocated();
            for (int i = 0; i < 100; i++) {
                assertThrows(Exception.class, () -> decoder(key, limits).keys());
                assertThrows(Exception.class, () -> decoder(recordKey, limits).writes());
                assertThrows(Exception.class, () -> decoder(recordValue, limits).writes());
                assertThrows(Exception.class, () -> decoder(longRecord, limits).writes());
                assertThrows(Exception.class, () -> decoder(unknown, limits).keys());
            }
            assertTrue(allocated() - before < 100 << 20, () -> "allocates what a message only claims");
        }
    }

    /** Empty records cost two bytes each on the wire, and an object each in memory. */
    @Test
    void aMessageWithTooManyKeysIsRefusedWithoutKeepingThem() {
        int count = 10_000_000;
        InputStream keys = endless(new byte[] {0x0a, 1, 'k'}, count);
        InputStream records = endless(new byte[] {0x0a, 3, 0x0a, 1, 'k'}, count);
        long before = allocated();
        Result.Refused expected = new Result.Refused(Limit.REQUEST_KEYS, count, LIMITS.requestKeys());
        assertEquals(
                expected, assertThrows(RefusedException.class, () -> new RequestDecoder(keys, LIMITS).keys()).refused);
        assertEquals(
                expected,
                assertThrows(RefusedException.class, () -> new RequestDecoder(records, LIMITS).writes()).refused);
        assertTrue(allocated() - before < 20 << 20, "keeps what it refuses");
    }

    @Test
    void everyLimitIsExact() throws Exception {
        Bytes longest = Bytes.unsafeWrap(new byte[LIMITS.keyBytes()]);
        assertEquals(List.of(longest), decoder(get(LIMITS.keyBytes()), LIMITS).keys());
        assertRefused(new Result.Refused(Limit.KEY_BYTES, 61, 60), get(61), RequestDecoder::keys);
        assertRefused(new Result.Refused(Limit.KEY_BYTES, 0, 60), get(0), RequestDecoder::keys);
        assertEquals(1, decoder(set(60, 200), LIMITS).writes().size());
        assertRefused(new Result.Refused(Limit.KEY_BYTES, 61, 60), set(61, 1), RequestDecoder::writes);
        assertRefused(new Result.Refused(Limit.KEY_BYTES, 0, 60), set(0, 1), RequestDecoder::writes);
        assertRefused(new Result.Refused(Limit.VALUE_BYTES, 201, 200), set(1, 201), RequestDecoder::writes);
        assertRefused(new Result.Refused(Limit.KEY_BYTES, 0, 60), new byte[] {0x0a, 0}, RequestDecoder::writes);
        assertRefused(
                new Result.Refused(Limit.KEY_BYTES, 0, 60), new byte[] {0x0a, 2, 0x12, 0}, RequestDecoder::writes);
    }

    private static <T> void assertRefused(Result.Refused expected, byte[] message, Decode<T> decode) {
        RefusedException e = assertThrows(RefusedException.class, () -> decode.from(decoder(message, LIMITS)));
        assertEquals(expected, e.refused);
    }

    private static byte[] get(int keyBytes) {
        return GetRequest.newBuilder().addKeys(Harness.bytes(keyBytes)).build().toByteArray();
    }

    private static byte[] set(int keyBytes, int valueBytes) {
        return SetRequest.newBuilder()
                .addRecords(Record.newBuilder().setKey(Harness.bytes(keyBytes)).setValue(Harness.bytes(valueBytes)))
                .build()
                .toByteArray();
    }

    private static byte[] join(byte[]... parts) {
        ByteArrayOutputStream joined = new ByteArrayOutputStream();
        for (byte[] part : parts) {
            joined.writeBytes(part);
        }
        return joined.toByteArray();
    }

    private static InputStream endless(byte[] part, int times) {
        long length = (long) part.length * times;
        return new InputStream() {
            private long position;

            @Override
            public int read() {
                return position < length ? part[(int) (position++ % part.length)] : -1;
            }

            @Override
            public int read(byte[] bytes, int offset, int count) {
                int read = (int) Math.min(count, length - position);
                for (int i = 0; i < read; i++) {
                    bytes[offset + i] = part[(int) (position++ % part.length)];
                }
                return read == 0 ? -1 : read;
            }
        };
    }

    /** Bytes of heap that this thread has allocated so far. */
    private static long allocated() {
        return ((com.sun.management.ThreadMXBean) java.lang.management.ManagementFactory.getThreadMXBean())
                .getCurrentThreadAllocatedBytes();
    }
}
