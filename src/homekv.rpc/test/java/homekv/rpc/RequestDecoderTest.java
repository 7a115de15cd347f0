package homekv.rpc;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.ByteString;
import com.google.protobuf.CodedOutputStream;
import com.google.protobuf.DynamicMessage;
import com.google.protobuf.WireFormat;
import homekv.rpc.proto.GetRequest;
import homekv.rpc.proto.Record;
import homekv.rpc.proto.SetRequest;
import homekv.storage.Bytes;
import homekv.storage.Compare;
import homekv.storage.Limit;
import homekv.storage.Limits;
import homekv.storage.Op;
import homekv.storage.Range;
import homekv.storage.Result;
import homekv.storage.Txn;
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
    private static final Limits LIMITS = Harness.ROOMY
            .with(Limit.KEY_BYTES, 60)
            .with(Limit.VALUE_BYTES, 200)
            .with(Limit.REQUEST_KEYS, 20)
            .with(Limit.TXN_DEPTH, 4);

    // ---- Both, and what they say ----

    private static RequestDecoder decoder(byte[] message, Limits limits) {
        return new RequestDecoder(new ByteArrayInputStream(message), limits);
    }

    private static List<Bytes> keys(RequestDecoder decoder) throws IOException, RefusedException {
        return decoder.get().keys();
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
            SetRequest request = SetRequest.parseFrom(message);
            for (Record record : request.getRecordsList()) {
                Bytes key = bytes(record.getKey());
                writes.add(
                        record.hasValue()
                                ? new Write.Put(key, bytes(record.getValue()), request.getLease())
                                : new Write.Delete(key));
            }
            return writes;
        } catch (IOException e) {
            return null;
        }
    }

    /** A message that protobuf reads, but from which something is missing. */
    private static final class MeaninglessException extends RuntimeException {
        private static final long serialVersionUID = 1;
    }

    private static Bytes key(ByteString key) {
        if (key.isEmpty()) {
            throw new MeaninglessException();
        }
        return bytes(key);
    }

    private static long saturated(long unsigned) {
        return unsigned < 0 ? Long.MAX_VALUE : unsigned;
    }

    /** Protobuf's classes have the names of the store's. */
    private static Range meaning(homekv.rpc.proto.Range range) {
        if (range.hasPrefix()) {
            if (range.hasTo() || !range.getFrom().isEmpty()) {
                throw new MeaninglessException();
            }
            return Range.prefix(bytes(range.getPrefix()));
        }
        return new Range(bytes(range.getFrom()), range.hasTo() ? bytes(range.getTo()) : null);
    }

    private static Compare meaning(homekv.rpc.proto.Compare compare) {
        Range range = switch (compare.getTargetCase()) {
            case KEY -> Range.key(key(compare.getKey()));
            case RANGE -> meaning(compare.getRange());
            case TARGET_NOT_SET -> throw new MeaninglessException();
        };
        Compare.Operator operator = switch (compare.getOperator()) {
            case EQUAL -> Compare.Operator.EQUAL;
            case NOT_EQUAL -> Compare.Operator.NOT_EQUAL;
            case LESS -> Compare.Operator.LESS;
            case GREATER -> Compare.Operator.GREATER;
            case UNRECOGNIZED -> throw new MeaninglessException();
        };
        return switch (compare.getOperandCase()) {
            case VALUE -> new Compare.Value(range, operator, bytes(compare.getValue()));
            case VERSION -> new Compare.Number(range, Compare.Field.VERSION, operator, saturated(compare.getVersion()));
            case CREATE_REVISION ->
                new Compare.Number(
                        range, Compare.Field.CREATE_REVISION, operator, saturated(compare.getCreateRevision()));
            case MODIFICATION_REVISION ->
                new Compare.Number(
                        range,
                        Compare.Field.MODIFICATION_REVISION,
                        operator,
                        saturated(compare.getModificationRevision()));
            case LEASE -> new Compare.Number(range, Compare.Field.LEASE, operator, saturated(compare.getLease()));
            case COUNT -> new Compare.Count(range, operator, saturated(compare.getCount()));
            case OPERAND_NOT_SET -> throw new MeaninglessException();
        };
    }

    private static Op meaning(homekv.rpc.proto.Op op) {
        return switch (op.getOpCase()) {
            case GET -> new Op.Get(key(op.getGet().getKey()));
            case SCAN -> {
                var scan = op.getScan();
                int limit = scan.getLimit() < 0 ? Integer.MAX_VALUE : scan.getLimit();
                yield new Op.Scan(
                        meaning(scan.getRange()), scan.getDescending(), limit, scan.getKeysOnly(), scan.getCountOnly());
            }
            case PUT -> {
                var put = op.getPut();
                yield new Op.Put(key(put.getKey()), bytes(put.getValue()), put.getLease(), put.getPrevious());
            }
            case DELETE -> {
                var delete = op.getDelete();
                Range range = switch (delete.getTargetCase()) {
                    case KEY -> Range.key(key(delete.getKey()));
                    case RANGE -> meaning(delete.getRange());
                    case TARGET_NOT_SET -> throw new MeaninglessException();
                };
                yield new Op.Delete(range, delete.getPrevious());
            }
            case INCREMENT ->
                new Op.Increment(
                        key(op.getIncrement().getKey()), op.getIncrement().getBy());
            case TXN -> meaning(op.getTxn());
            case OP_NOT_SET -> throw new MeaninglessException();
        };
    }

    private static Txn meaning(homekv.rpc.proto.TxnRequest txn) {
        return new Txn(
                txn.getComparesList().stream().map(RequestDecoderTest::meaning).toList(),
                txn.getThenList().stream().map(RequestDecoderTest::meaning).toList(),
                txn.getOtherwiseList().stream().map(RequestDecoderTest::meaning).toList());
    }

    /**
     * By way of a message without generated code: the generated parser of a oneof remembers what a member had before
     * another one took its place, and merges it when that member comes again.
     */
    private static Txn expectedTxn(byte[] message) {
        try {
            DynamicMessage read = DynamicMessage.parseFrom(homekv.rpc.proto.TxnRequest.getDescriptor(), message);
            return meaning(homekv.rpc.proto.TxnRequest.parseFrom(read.toByteString()));
        } catch (IOException | MeaninglessException e) {
            return null;
        }
    }

    private interface Decode<T> {
        T from(RequestDecoder decoder) throws IOException, RefusedException;
    }

    /**
     * Where protobuf reads a message, the decoder reads the same or refuses what is over a limit; where protobuf reads
     * none, the decoder refuses or fails too. Nothing but the two exceptions ever comes out.
     */
    private static <T> boolean compare(byte[] message, T expected, Decode<T> decode, String what) {
        try {
            T decoded = decode.from(decoder(message, LIMITS));
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

    private static boolean mayBeRefused(byte[] message, Result result) {
        Result.Refused refused = (Result.Refused) result;
        return switch (refused.limit()) {
            case KEY_BYTES, VALUE_BYTES, REQUEST_KEYS ->
                refused.allowed() == LIMITS.get(refused.limit())
                        && (refused.actual() > refused.allowed() || refused.actual() == 0)
                        && refused.actual() <= message.length;
            case TXN_DEPTH -> refused.allowed() == LIMITS.txnDepth() && refused.actual() == LIMITS.txnDepth() + 1;
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

    /** A transaction, field by field, so that fields stand twice and members of a oneof beside each other. */
    private static byte[] txn(SplittableRandom random, int depth) throws IOException {
        ByteArrayOutputStream message = new ByteArrayOutputStream();
        CodedOutputStream out = CodedOutputStream.newInstance(message);
        for (int i = random.nextInt(depth == 1 ? 6 : 3); i > 0; i--) {
            int number = 1 + random.nextInt(3);
            out.writeByteArray(number, number == 1 ? compare(random) : op(random, depth));
        }
        unknown(random, out);
        out.flush();
        return message.toByteArray();
    }

    private static void unknown(SplittableRandom random, CodedOutputStream out) throws IOException {
        if (random.nextInt(20) == 0) {
            out.writeByteArray(20 + random.nextInt(100), random(random, 20));
            out.writeUInt64(1 + random.nextInt(10), random.nextLong());
        }
    }

    private static byte[] name(SplittableRandom random) {
        byte[] name = random(random, random.nextInt(50) == 0 ? 62 : 10);
        return name.length == 0 && random.nextInt(5) > 0 ? new byte[] {'k'} : name;
    }

    private static long number(SplittableRandom random) {
        return random.nextInt(10) == 0 ? random.nextLong() : random.nextInt(5);
    }

    private static byte[] range(SplittableRandom random) throws IOException {
        ByteArrayOutputStream message = new ByteArrayOutputStream();
        CodedOutputStream out = CodedOutputStream.newInstance(message);
        boolean prefix = random.nextInt(3) == 0;
        if (prefix) {
            out.writeByteArray(3, name(random));
        }
        if (!prefix || random.nextInt(20) == 0) {
            for (int i = random.nextInt(3); i > 0; i--) {
                out.writeByteArray(1 + random.nextInt(2), random.nextBoolean() ? name(random) : new byte[0]);
            }
        }
        unknown(random, out);
        out.flush();
        return message.toByteArray();
    }

    private static byte[] compare(SplittableRandom random) throws IOException {
        ByteArrayOutputStream message = new ByteArrayOutputStream();
        CodedOutputStream out = CodedOutputStream.newInstance(message);
        for (int i = random.nextInt(20) == 0 ? 0 : 1 + random.nextInt(2); i > 0; i--) {
            boolean key = random.nextBoolean();
            out.writeByteArray(key ? 1 : 2, key ? name(random) : range(random));
        }
        for (int i = random.nextInt(2); i > 0; i--) {
            out.writeEnum(3, random.nextInt(30) == 0 ? random.nextInt() : random.nextInt(4));
        }
        for (int i = random.nextInt(20) == 0 ? 0 : 1 + random.nextInt(2); i > 0; i--) {
            int operand = 4 + random.nextInt(6);
            if (operand == 4) {
                out.writeByteArray(operand, name(random));
            } else {
                out.writeUInt64(operand, number(random));
            }
        }
        unknown(random, out);
        out.flush();
        return message.toByteArray();
    }

    private static byte[] op(SplittableRandom random, int depth) throws IOException {
        ByteArrayOutputStream message = new ByteArrayOutputStream();
        CodedOutputStream out = CodedOutputStream.newInstance(message);
        int member = 1 + random.nextInt(6);
        for (int i = random.nextInt(20) == 0 ? 0 : 1 + random.nextInt(2); i > 0; i--) {
            member = random.nextInt(3) == 0 ? 1 + random.nextInt(6) : member;
            out.writeByteArray(member, member == 6 ? txn(random, depth + 1) : member(random, member));
        }
        unknown(random, out);
        out.flush();
        return message.toByteArray();
    }

    private static byte[] member(SplittableRandom random, int member) throws IOException {
        ByteArrayOutputStream message = new ByteArrayOutputStream();
        CodedOutputStream out = CodedOutputStream.newInstance(message);
        boolean hasRange = member == 2 || member == 4 && random.nextBoolean();
        if (!hasRange || random.nextInt(5) == 0) {
            out.writeByteArray(1, member == 2 ? range(random) : name(random));
        }
        if (hasRange) {
            out.writeByteArray(member == 2 ? 1 : 2, range(random));
        }
        for (int i = random.nextInt(5); i > 0; i--) {
            if (member == 3 && random.nextBoolean()) {
                out.writeByteArray(2, name(random));
            } else {
                out.writeUInt64(2 + random.nextInt(4), number(random));
            }
        }
        unknown(random, out);
        out.flush();
        return message.toByteArray();
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
                read += compare(message, expectedKeys(message), RequestDecoderTest::keys, "keys") ? 1 : 0;
                read += compare(message, expectedWrites(message), RequestDecoder::writes, "writes") ? 1 : 0;
            }
            // Else the messages have become nonsense, and the test shows little.
            assertTrue(read > count / 5, () -> "too few messages are valid");
        });
    }

    @Test
    void transactionsAreReadAsProtobufReadsThemWhateverStandsTwiceInThem() throws Exception {
        Harness.seeded(Harness.count(4, 2_000), random -> {
            int read = 0;
            int count = 5_000;
            for (int i = 0; i < count; i++) {
                byte[] message = txn(random, 1);
                for (int j = random.nextInt(3); j > 0; j--) {
                    message = mutate(message, random);
                }
                read += compare(message, expectedTxn(message), RequestDecoder::txn, "txn") ? 1 : 0;
            }
            assertTrue(read > count / 5, () -> "too few messages are valid");
        });
    }

    /** Except for an empty key, which is refused as soon as its step ends, though another one may take its place. */
    @Test
    void aTransactionThatIsWholeAndWithinTheLimitsIsNotRefused() throws Exception {
        Limits roomy = Harness.ROOMY.with(Limit.TXN_DEPTH, 64);
        Harness.seeded(Harness.count(2, 1_000), random -> {
            for (int i = 0; i < 2_000; i++) {
                byte[] message = txn(random, 1);
                Txn expected = expectedTxn(message);
                if (expected != null) {
                    try {
                        assertEquals(
                                expected,
                                decoder(message, roomy).txn(),
                                () -> HexFormat.of().formatHex(message));
                    } catch (RefusedException e) {
                        assertEquals(new Result.Refused(Limit.KEY_BYTES, 0, roomy.keyBytes()), e.refused);
                    }
                }
            }
        });
    }

    /** Steps and comparisons together, and those within other transactions with them. */
    @Test
    void theLimitsOfTransactionsAreExact() throws Exception {
        byte[] step = {0x12, 5, 0x0a, 3, 0x0a, 1, 'k'};
        byte[] compare = {0x0a, 5, 0x0a, 1, 'k', 0x28, 1};
        byte[] other = {0x1a, 5, 0x0a, 3, 0x0a, 1, 'k'};
        byte[] six = join(step, step, compare, compare, other, other);
        byte[] within = join(new byte[] {0x12, (byte) (six.length + 2), 0x32, (byte) six.length}, six);
        byte[] twenty = join(six, within, six, step);
        RequestDecoder decoder = decoder(twenty, LIMITS);
        decoder.txn();
        assertEquals(20, decoder.steps());
        assertRefused(new Result.Refused(Limit.REQUEST_KEYS, 21, 20), join(twenty, step), RequestDecoder::txn);
        assertRefused(new Result.Refused(Limit.REQUEST_KEYS, 21, 20), join(twenty, compare), RequestDecoder::txn);
        byte[] deep = {};
        for (int depth = 1; depth < LIMITS.txnDepth(); depth++) {
            deep = join(new byte[] {0x12, (byte) (deep.length + 2), 0x32, (byte) deep.length}, deep);
        }
        assertEquals(1, decoder(deep, LIMITS).txn().then().size());
        byte[] tooDeep = join(new byte[] {0x12, (byte) (deep.length + 2), 0x32, (byte) deep.length}, deep);
        assertRefused(
                new Result.Refused(Limit.TXN_DEPTH, LIMITS.txnDepth() + 1, LIMITS.txnDepth()),
                tooDeep,
                RequestDecoder::txn);
    }

    @Test
    void aTransactionWithTooManyStepsIsRefusedWithoutKeepingThem() {
        InputStream steps = endless(new byte[] {0x12, 5, 0x0a, 3, 0x0a, 1, 'k'}, 10_000_000);
        long before = allocated();
        assertEquals(
                new Result.Refused(Limit.REQUEST_KEYS, 21, 20),
                assertThrows(RefusedException.class, () -> new RequestDecoder(steps, LIMITS).txn()).refused);
        assertTrue(allocated() - before < 1 << 20, "keeps what it refuses");
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
        byte[] txn = homekv.rpc.proto.TxnRequest.newBuilder()
                .addCompares(homekv.rpc.proto.Compare.newBuilder()
                        .setKey(Harness.bytes("a"))
                        .setVersion(1))
                .addThen(homekv.rpc.proto.Op.newBuilder()
                        .setPut(homekv.rpc.proto.Op.Put.newBuilder()
                                .setKey(Harness.bytes("p"))
                                .setLease(3)))
                .addOtherwise(homekv.rpc.proto.Op.newBuilder()
                        .setDelete(homekv.rpc.proto.Op.Delete.newBuilder()
                                .setRange(homekv.rpc.proto.Range.newBuilder().setTo(Harness.bytes("t")))))
                .build()
                .toByteArray();
        for (byte[] message : List.of(set, get, txn)) {
            for (int at = 0; at <= message.length; at++) {
                byte[] cut = Arrays.copyOf(message, at);
                compare(cut, expectedKeys(cut), RequestDecoderTest::keys, "keys");
                compare(cut, expectedWrites(cut), RequestDecoder::writes, "writes");
                compare(cut, expectedTxn(cut), RequestDecoder::txn, "txn");
                for (int value = 0; at < message.length && value < 256; value++) {
                    byte[] changed = message.clone();
                    changed[at] = (byte) value;
                    compare(changed, expectedKeys(changed), RequestDecoderTest::keys, "keys");
                    compare(changed, expectedWrites(changed), RequestDecoder::writes, "writes");
                    compare(changed, expectedTxn(changed), RequestDecoder::txn, "txn");
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
        assertThrows(IOException.class, () -> decoder(message, LIMITS).get().keys());
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
                assertThrows(Exception.class, () -> decoder(key, limits).get().keys());
                assertThrows(Exception.class, () -> decoder(recordKey, limits).writes());
                assertThrows(Exception.class, () -> decoder(recordValue, limits).writes());
                assertThrows(Exception.class, () -> decoder(longRecord, limits).writes());
                assertThrows(
                        Exception.class, () -> decoder(unknown, limits).get().keys());
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
                expected,
                assertThrows(
                                RefusedException.class,
                                () -> new RequestDecoder(keys, LIMITS).get().keys())
                        .refused);
        assertEquals(
                expected,
                assertThrows(RefusedException.class, () -> new RequestDecoder(records, LIMITS).writes()).refused);
        assertTrue(allocated() - before < 20 << 20, "keeps what it refuses");
    }

    @Test
    void everyLimitIsExact() throws Exception {
        Bytes longest = Bytes.unsafeWrap(new byte[LIMITS.keyBytes()]);
        assertEquals(
                List.of(longest), decoder(get(LIMITS.keyBytes()), LIMITS).get().keys());
        assertRefused(new Result.Refused(Limit.KEY_BYTES, 61, 60), get(61), RequestDecoderTest::keys);
        assertRefused(new Result.Refused(Limit.KEY_BYTES, 0, 60), get(0), RequestDecoderTest::keys);
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
