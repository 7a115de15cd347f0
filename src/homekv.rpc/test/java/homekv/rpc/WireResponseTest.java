package homekv.rpc;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import com.google.protobuf.ByteString;
import com.google.protobuf.MessageLite;
import homekv.rpc.proto.DelResponse;
import homekv.rpc.proto.Durability;
import homekv.rpc.proto.GetResponse;
import homekv.rpc.proto.Record;
import homekv.rpc.proto.SetResponse;
import homekv.storage.Bytes;
import homekv.storage.Entry;
import homekv.storage.Reading;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;

/** What is written without protobuf is what protobuf writes, and what it reads. */
class WireResponseTest {
    private static final int SEEDS = 20;
    private static final int MESSAGES = 200;

    @Test
    void everyResponseIsByteForByteWhatProtobufWritesAndReads() throws Exception {
        Harness.seeded(SEEDS, random -> {
            for (int i = 0; i < MESSAGES; i++) {
                checkGet(random);
                checkNumbers(random);
            }
        });
    }

    private static void checkGet(SplittableRandom random) throws IOException {
        GetResponse.Builder message = GetResponse.newBuilder().setRevision(number(random));
        List<Bytes> keys = new ArrayList<>();
        List<Entry> entries = new ArrayList<>();
        for (int i = random.nextInt(8); i > 0; i--) {
            Bytes key = bytes(random, 1);
            Record.Builder record = Record.newBuilder().setKey(ByteString.copyFrom(key.toByteArray()));
            Entry entry = null;
            if (random.nextInt(4) > 0) {
                Bytes value = bytes(random, 0);
                record.setValue(ByteString.copyFrom(value.toByteArray()));
                entry = new Entry(key, value, 1, 2, 3, 4);
            }
            keys.add(key);
            entries.add(entry);
            message.addRecords(record);
        }
        Reading reading = new Reading(message.getRevision(), entries);
        long bytes = WireResponse.getBytes(keys, reading);
        assertEquals(message.build().getSerializedSize(), bytes);
        check(message.build(), WireResponse.get(keys, reading, (int) bytes));
    }

    private static void checkNumbers(SplittableRandom random) throws IOException {
        long revision = number(random);
        long deleted = number(random);
        Durability durability = Durability.forNumber(random.nextInt(Durability.FORCED.getNumber() + 1));
        check(
                SetResponse.newBuilder()
                        .setSucc(true)
                        .setRevision(revision)
                        .setDurability(durability)
                        .build(),
                WireResponse.set(revision, durability.getNumber()));
        check(
                DelResponse.newBuilder()
                        .setSucc(true)
                        .setRevision(revision)
                        .setDeleted(deleted)
                        .setDurability(durability)
                        .build(),
                WireResponse.del(revision, deleted, durability.getNumber()));
    }

    private static void check(MessageLite expected, WireResponse response) throws IOException {
        byte[] wire = expected.toByteArray();
        assertEquals(wire.length, response.available());
        ByteArrayOutputStream written = new ByteArrayOutputStream();
        assertEquals(wire.length, response.drainTo(written));
        assertArrayEquals(wire, written.toByteArray());
        assertEquals(expected, expected.getParserForType().parseFrom(written.toByteArray()));
        assertEquals(0, response.available());
        assertEquals(0, response.drainTo(written));
    }

    /** Any number of any length on the wire. */
    private static long number(SplittableRandom random) {
        return random.nextLong() >>> random.nextInt(1, Long.SIZE);
    }

    /** Lengths around those where a length takes one more byte are as likely as all others together. */
    private static Bytes bytes(SplittableRandom random, int minLength) {
        int edge = random.nextBoolean() ? 1 << 7 : 1 << 14;
        int length = random.nextBoolean() ? random.nextInt(minLength, 40) : edge - 4 + random.nextInt(8);
        byte[] bytes = new byte[length];
        random.nextBytes(bytes);
        return Bytes.unsafeWrap(bytes);
    }
}
