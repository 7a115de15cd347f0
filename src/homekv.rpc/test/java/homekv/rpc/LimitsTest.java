package homekv.rpc;

import static homekv.rpc.Harness.bytes;
import static homekv.rpc.Harness.delete;
import static homekv.rpc.Harness.get;
import static homekv.rpc.Harness.put;
import static homekv.rpc.Harness.set;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.ByteString;
import com.google.protobuf.MessageLite;
import homekv.rpc.proto.DelRequest;
import homekv.rpc.proto.GetRequest;
import homekv.rpc.proto.GetResponse;
import homekv.rpc.proto.HomeKvServiceGrpc.HomeKvServiceBlockingStub;
import homekv.rpc.proto.Record;
import homekv.rpc.proto.SetRequest;
import homekv.storage.Counters;
import homekv.storage.Limit;
import homekv.storage.Limits;
import io.grpc.Status;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/**
 * What every limit stops, exactly where, and what is left afterwards of a call that went wrong: nothing. A server's
 * memory for calls under way is known to be free when a request that needs all of it is taken.
 */
class LimitsTest {
    private static final String GET = "homekv_service.HomeKvService/Get";
    private static final String SET = "homekv_service.HomeKvService/Set";

    /** What one request, one response and all calls together may take. */
    private static final int ROOM = 1 << 17;

    /** What a key takes of it beside its bytes. */
    private static final int KEY = HomeKvService.KEY_OVERHEAD_BYTES;

    private static final Limits TIGHT = Harness.ROOMY
            .with(Limit.REQUEST_BYTES, ROOM)
            .with(Limit.RESPONSE_BYTES, ROOM)
            .with(Limit.IN_FLIGHT_BYTES, ROOM);

    /** A request of exactly so many bytes. */
    private static SetRequest setOf(int requestBytes) {
        for (int valueBytes = Math.max(0, requestBytes - 20); ; valueBytes++) {
            SetRequest request = set(put("full", bytes(valueBytes)));
            if (request.getSerializedSize() >= requestBytes) {
                assertEquals(requestBytes, request.getSerializedSize());
                return request;
            }
        }
    }

    /** All memory for calls under way is free again, and no more than that. */
    private static void assertNothingReserved(Harness kv, String after) {
        kv.awaitInFlight(0);
        assertTrue(kv.stub().set(setOf(ROOM - KEY)).getSucc(), after);
        kv.awaitInFlight(0);
    }

    private static Object leakDetectionBefore;

    /** From now on every buffer is tracked. Netty's module is none that the server's descriptor names. */
    @BeforeAll
    static void trackBuffers() throws ReflectiveOperationException {
        leakDetectionBefore = leakDetector().getMethod("getLevel").invoke(null);
        setLeakDetection("PARANOID");
    }

    private static Class<?> leakDetector() throws ClassNotFoundException {
        return Class.forName("io.netty.util.ResourceLeakDetector");
    }

    private static void setLeakDetection(Object level) throws ReflectiveOperationException {
        Class<?> levels = Class.forName("io.netty.util.ResourceLeakDetector$Level");
        Object named = levels.getMethod("valueOf", String.class).invoke(null, level.toString());
        leakDetector().getMethod("setLevel", levels).invoke(null, named);
    }

    /** Buffers that nobody has given back are reported when the collector finds them and another one is allocated. */
    @AfterAll
    static void noBufferIsLost() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvServiceBlockingStub stub = kv.stub();
            for (int i = 0; i < 5; i++) {
                System.gc();
                for (int j = 0; j < 50; j++) {
                    stub.set(set(put("k", bytes(10_000))));
                }
            }
        } finally {
            setLeakDetection(leakDetectionBefore);
        }
    }

    // ---- At the limit and one over ----

    @Test
    void keysAreTakenAtTheirLimitAndRefusedAboveAndWhenEmpty() throws Exception {
        try (Harness kv = new Harness(Harness.ROOMY.with(Limit.KEY_BYTES, 100))) {
            HomeKvServiceBlockingStub stub = kv.stub();
            String longest = "k".repeat(100);
            stub.set(set(put(longest, "1"), put("k", "1")));
            stub.get(get(longest));
            stub.del(Harness.del(longest));
            stub.set(set(delete(longest)));
            String tooLong = longest + "k";
            kv.assertRefused(Limit.KEY_BYTES, 101, () -> stub.set(set(put("a", "1"), put(tooLong, "1"))));
            kv.assertRefused(Limit.KEY_BYTES, 101, () -> stub.set(set(delete("k"), delete(tooLong))));
            kv.assertRefused(Limit.KEY_BYTES, 101, () -> stub.get(get("k", tooLong)));
            kv.assertRefused(Limit.KEY_BYTES, 101, () -> stub.del(Harness.del("k", tooLong)));
            Counters before = kv.store.counters();
            List<Status> empty = List.of(
                    Harness.status(() -> stub.set(set(put("a", "1"), put("", "1")))),
                    Harness.status(() -> stub.set(set(delete("k"), delete("")))),
                    Harness.status(() -> stub.set(set(Record.getDefaultInstance()))),
                    Harness.status(() -> stub.get(get("k", ""))),
                    Harness.status(() -> stub.del(Harness.del("k", ""))));
            for (Status status : empty) {
                assertEquals(Status.Code.INVALID_ARGUMENT, status.getCode());
                assertEquals("a key is empty; a key has at least 1 byte", status.getDescription());
            }
            assertEquals(before.revision(), kv.store.counters().revision());
            assertEquals(before.commands(), kv.store.counters().commands());
        }
    }

    @Test
    void valuesAreTakenAtTheirLimitAndRefusedAbove() throws Exception {
        try (Harness kv = new Harness(Harness.ROOMY.with(Limit.VALUE_BYTES, 1_000))) {
            HomeKvServiceBlockingStub stub = kv.stub();
            stub.set(set(put("k", bytes(1_000))));
            SetRequest tooLong = set(put("a", "1"), put("k", bytes(1_001)), delete("k"));
            kv.assertRefused(Limit.VALUE_BYTES, 1_001, () -> stub.set(tooLong));
            assertEquals(1_000, stub.get(get("k")).getRecords(0).getValue().size());
        }
    }

    @Test
    void asManyKeysAsAllowedAreTakenAndOneMoreIsRefusedInEveryMethod() throws Exception {
        try (Harness kv = new Harness(Harness.ROOMY.with(Limit.REQUEST_KEYS, 50))) {
            HomeKvServiceBlockingStub stub = kv.stub();
            List<ByteString> keys = Collections.nCopies(50, bytes("k"));
            List<Record> records = Collections.nCopies(50, put("k", "1"));
            stub.set(SetRequest.newBuilder().addAllRecords(records).build());
            assertEquals(
                    50,
                    stub.get(GetRequest.newBuilder().addAllKeys(keys).build()).getRecordsCount());
            assertEquals(
                    1,
                    stub.del(DelRequest.newBuilder().addAllKeys(keys).build()).getDeleted());
            SetRequest.Builder set = SetRequest.newBuilder().addAllRecords(records);
            GetRequest.Builder get = GetRequest.newBuilder().addAllKeys(keys);
            DelRequest.Builder del = DelRequest.newBuilder().addAllKeys(keys);
            for (int count = 51; count <= 200; count += 149) {
                while (get.getKeysCount() < count) {
                    set.addRecords(put("k", "1"));
                    get.addKeys(bytes("k"));
                    del.addKeys(bytes("k"));
                }
                kv.assertRefused(Limit.REQUEST_KEYS, count, () -> stub.set(set.build()));
                kv.assertRefused(Limit.REQUEST_KEYS, count, () -> stub.get(get.build()));
                kv.assertRefused(Limit.REQUEST_KEYS, count, () -> stub.del(del.build()));
            }
        }
    }

    @Test
    void aRequestIsTakenAtItsLimitAndRefusedAboveWithItsSizeAsFarAsItWasReceived() throws Exception {
        try (Harness kv = new Harness(Harness.ROOMY.with(Limit.REQUEST_BYTES, ROOM))) {
            HomeKvServiceBlockingStub stub = kv.stub();
            assertTrue(stub.set(setOf(ROOM)).getSucc());
            for (int size : new int[] {ROOM + 1, 2 * ROOM}) {
                SetRequest tooLarge = setOf(size);
                kv.assertRefused(Limit.REQUEST_BYTES, size, () -> stub.set(tooLarge));
            }
            SetRequest farTooLarge = setOf(20 * ROOM);
            kv.assertRefused(Limit.REQUEST_BYTES, "\\d+ bytes or more", () -> stub.set(farTooLarge));
            GetRequest get = GetRequest.newBuilder()
                    .addAllKeys(Collections.nCopies(ROOM / 8, bytes("eight888")))
                    .build();
            kv.assertRefused(Limit.REQUEST_BYTES, get.getSerializedSize(), () -> stub.get(get));
            assertTrue(stub.set(setOf(ROOM)).getSucc());
            kv.troubles().assertNone();
        }
    }

    @Test
    void aResponseIsSentAtItsLimitAndRefusedAboveWithTheSizeThatItWouldHaveHad() throws Exception {
        // The sizes lie where the length of a length changes.
        for (int valueBytes : new int[] {0, 1, 121, 122, 123, 124, 16_376, 16_377, 16_380, 70_000}) {
            SetRequest set = set(put("k", bytes(valueBytes)));
            GetRequest get = get("k", "none", "k");
            GetResponse expected = GetResponse.newBuilder()
                    .addRecords(set.getRecords(0))
                    .addRecords(delete("none"))
                    .addRecords(set.getRecords(0))
                    .setRevision(1)
                    .build();
            int size = expected.getSerializedSize();
            try (Harness kv = new Harness(Harness.ROOMY.with(Limit.RESPONSE_BYTES, size))) {
                HomeKvServiceBlockingStub stub = kv.stub();
                stub.set(set);
                assertEquals(expected, stub.get(get));
            }
            try (Harness kv = new Harness(Harness.ROOMY.with(Limit.RESPONSE_BYTES, size - 1))) {
                HomeKvServiceBlockingStub stub = kv.stub();
                stub.set(set);
                kv.assertRefused(Limit.RESPONSE_BYTES, size, () -> stub.get(get));
            }
        }
    }

    /** It has more bytes than there can be in a message, let alone in memory. */
    @Test
    void aResponseOverItsLimitIsRefusedBeforeItIsBuilt() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvServiceBlockingStub stub = kv.stub();
            SetRequest set = set(put("k", bytes(1 << 20)));
            stub.set(set);
            int count = 100_000;
            long recordBytes = set.getSerializedSize(); // A GetResponse's record has the same number.
            GetRequest get = GetRequest.newBuilder()
                    .addAllKeys(Collections.nCopies(count, bytes("k")))
                    .build();
            kv.assertRefused(Limit.RESPONSE_BYTES, count * recordBytes + 2, () -> stub.get(get));
        }
    }

    // ---- Memory for calls under way ----

    @Test
    void requestsUnderWayShareTheirMemoryToTheLastByte() throws Exception {
        try (Harness kv = new Harness(TIGHT)) {
            HomeKvServiceBlockingStub stub = kv.stub();
            RawHttp2 raw = kv.raw();
            RawHttp2.Stream half = raw.start(SET);
            raw.send(half, Arrays.copyOf(RawHttp2.message(setOf(ROOM)), 5 + ROOM / 2), false);
            raw.roundTrip();
            assertTrue(stub.set(setOf(ROOM / 2 - KEY)).getSucc());
            SetRequest tooMuch = setOf(ROOM / 2 - KEY + 1);
            kv.assertRefused(Limit.IN_FLIGHT_BYTES, "\\d+", () -> stub.set(tooMuch));
            raw.cancel(half);
            assertNothingReserved(kv, "a request that was held");
        }
    }

    @Test
    void responsesUnderWayTakeFromTheSameMemory() throws Exception {
        try (Harness kv = new Harness(TIGHT)) {
            HomeKvServiceBlockingStub stub = kv.stub();
            stub.set(setOf(ROOM / 2));
            GetRequest get = get("full");
            int responseBytes = stub.get(get).getSerializedSize();
            int held = ROOM - responseBytes - get.getSerializedSize() - KEY;
            kv.awaitInFlight(0);
            RawHttp2 raw = kv.raw();
            byte[] message = RawHttp2.message(new byte[ROOM]);
            RawHttp2.Stream other = raw.start(SET);
            raw.send(other, Arrays.copyOf(message, 5 + held), false);
            raw.roundTrip();
            kv.awaitInFlight(held);
            assertEquals(1, stub.get(get).getRecordsCount(), "exactly enough is enough");
            kv.awaitInFlight(held);
            raw.send(other, new byte[1], false);
            raw.roundTrip();
            kv.assertRefused(Limit.IN_FLIGHT_BYTES, responseBytes, () -> stub.get(get));
        }
    }

    @Test
    void aResponseThatNobodyReadsKeepsItsMemoryUntilItsCallEnds() throws Exception {
        try (Harness kv = new Harness(TIGHT)) {
            HomeKvServiceBlockingStub stub = kv.stub();
            stub.set(setOf(ROOM - 100));
            kv.awaitInFlight(0);
            RawHttp2 raw = kv.raw();
            raw.slowReader = true;
            RawHttp2.Stream slow = raw.start(GET);
            raw.send(slow, RawHttp2.message(get("full")), true);
            raw.awaitBody(slow, 1);
            assertTrue(!slow.ended());
            SetRequest most = setOf(ROOM - 4 * KEY); // There is room for it beside the other call's request.
            for (int i = 0; i < 10; i++) {
                kv.assertRefused(Limit.IN_FLIGHT_BYTES, "\\d+", () -> stub.set(most));
            }
            raw.cancel(slow);
            assertNothingReserved(kv, "a reader that gave up");

            RawHttp2 leaver = kv.raw();
            leaver.slowReader = true;
            stub.set(setOf(ROOM - 100));
            kv.awaitInFlight(0);
            RawHttp2.Stream left = leaver.start(GET);
            leaver.send(left, RawHttp2.message(get("full")), true);
            leaver.awaitBody(left, 1);
            assertTrue(!left.ended());
            leaver.close();
            assertNothingReserved(kv, "a reader that is gone");
        }
    }

    // ---- Calls that go wrong ----

    private interface Attack {
        /** Returns the stream as it ended, or null where the client has ended it and awaits no answer. */
        RawHttp2.Stream on(RawHttp2 raw) throws Exception;
    }

    /** Does it several times over; then nothing has changed and nothing is held, and the connection goes on working. */
    private static void assertHarmless(String what, int expectedStatus, String words, Attack attack) throws Exception {
        try (Harness kv = new Harness(TIGHT)) {
            HomeKvServiceBlockingStub stub = kv.stub();
            stub.set(set(put("k", "1")));
            RawHttp2 raw = kv.raw();
            Counters before = kv.store.counters();
            for (int i = 0; i < 20; i++) {
                RawHttp2.Stream stream = attack.on(raw);
                if (stream != null) {
                    assertEquals(expectedStatus, stream.status(), () -> what + ": " + stream.message());
                    assertTrue(stream.message().matches(words), () -> what + ": " + stream.message());
                    Harness.assertNoTrace(stream.message());
                }
            }
            assertEquals(0, raw.call(GET, get("k").toByteArray()).status(), what);
            Counters after = kv.store.counters();
            assertEquals(before.revision(), after.revision(), what);
            assertEquals(before.commands() + 1, after.commands(), what);
            assertNothingReserved(kv, what);
        }
    }

    private static final int OK = Status.Code.OK.value();
    private static final int CANCELLED = Status.Code.CANCELLED.value();
    private static final int INVALID = Status.Code.INVALID_ARGUMENT.value();
    private static final int TOO_LARGE = Status.Code.RESOURCE_EXHAUSTED.value();
    private static final int UNIMPLEMENTED = Status.Code.UNIMPLEMENTED.value();

    /** The whole request of a Set that would be carried out if it were not for what a test does to it. */
    private static byte[] framed(int requestBytes) {
        return RawHttp2.message(setOf(requestBytes));
    }

    private static RawHttp2.Stream announced(RawHttp2 raw, String method, int announcedBytes, int sentBytes)
            throws Exception {
        RawHttp2.Stream stream = raw.start(method);
        raw.send(stream, RawHttp2.prefix(announcedBytes), false);
        raw.send(stream, new byte[sentBytes], false);
        return raw.await(stream);
    }

    @Test
    void aMessageOfAnyAnnouncedSizeIsRefusedOnceItIsTwiceTheLimitAndItsConnectionGoesOn() throws Exception {
        String words = ".*(--max-request-bytes|--max-in-flight-bytes).*";
        for (int announced : new int[] {2 * ROOM + 1, 900 << 20, Integer.MAX_VALUE}) {
            assertHarmless(
                    announced + " bytes announced", TOO_LARGE, words, raw -> announced(raw, SET, announced, 4 * ROOM));
        }
        try (Harness kv = new Harness(TIGHT.with(Limit.IN_FLIGHT_BYTES, 1 << 30))) {
            RawHttp2.Stream stream = announced(kv.raw(), SET, 900 << 20, 4 * ROOM);
            kv.assertRefusal(
                    Limit.REQUEST_BYTES,
                    "\\d+",
                    Status.fromCodeValue(stream.status()).withDescription(stream.message()));
        }
    }

    /** The length is an unsigned number of 32 bits; gRPC itself takes none from 2 GiB on, and says so in its log. */
    @Test
    void aMessageOfMoreThanGrpcCanHoldEndsItsCallAloneAndIsNothingForTheOperator() throws Exception {
        for (int length : new int[] {-1, Integer.MIN_VALUE, -1_000_000}) {
            try (Harness kv = new Harness(TIGHT)) {
                HomeKvServiceBlockingStub stub = kv.stub();
                RawHttp2 raw = kv.raw();
                RawHttp2.Stream stream = announced(raw, SET, length, 100);
                assertNotEquals(OK, stream.status());
                assertEquals(0, raw.call(SET, set(put("k", "1")).toByteArray()).status());
                assertNothingReserved(kv, "length " + length);
            }
        }
    }

    /** What comes after the refusal is read and thrown away, else the connection's window would never open again. */
    @Test
    void aClientThatGoesOnSendingAfterItWasRefusedHoldsUpNobodyElse() throws Exception {
        for (String method : List.of(SET, "no.Service/Get", "grpc.health.v1.Health/Check")) {
            try (Harness kv = new Harness(TIGHT)) {
                RawHttp2 raw = kv.raw();
                long sent = 0;
                while (sent < 16 << 20) {
                    RawHttp2.Stream stream = announced(raw, method, 900 << 20, 4 * ROOM);
                    assertTrue(stream.status() > 0, stream::message);
                    sent += 4 * ROOM + raw.insist(stream, 4 * ROOM);
                }
                assertEquals(OK, raw.call(SET, set(put("k", "1")).toByteArray()).status());
                assertNothingReserved(kv, method);
                kv.troubles().assertNone();
            }
        }
    }

    @Test
    void aRequestOverALimitLeavesNothing() throws Exception {
        byte[] emptyKey = set(put("k", "2"), put("", "2")).toByteArray();
        assertHarmless("an empty key", INVALID, "a key is empty.*", raw -> raw.call(SET, emptyKey));
        byte[] tooLarge = setOf(ROOM + 1).toByteArray();
        assertHarmless("a byte too many", TOO_LARGE, ".*--max-request-bytes.*", raw -> raw.call(SET, tooLarge));
    }

    @Test
    void aRequestThatIsCancelledBeforeItIsWholeLeavesNothing() throws Exception {
        byte[] message = framed(ROOM);
        for (int sent : new int[] {0, 3, 5, 6, ROOM / 2, ROOM + 4, ROOM + 5}) {
            for (boolean seen : new boolean[] {true, false}) {
                assertHarmless("cancelled after " + sent, CANCELLED, "", raw -> {
                    RawHttp2.Stream stream = raw.start(SET);
                    raw.send(stream, Arrays.copyOf(message, sent), false);
                    if (seen) {
                        raw.roundTrip();
                    }
                    raw.cancel(stream);
                    raw.roundTrip();
                    return null;
                });
            }
        }
    }

    /** Either it is carried out or it is not; but nothing of it stays. */
    @Test
    void aRequestThatIsCancelledWhenItIsWholeLeavesNothing() throws Exception {
        try (Harness kv = new Harness(TIGHT)) {
            HomeKvServiceBlockingStub stub = kv.stub();
            RawHttp2 raw = kv.raw();
            byte[] message = framed(ROOM / 8);
            for (int i = 0; i < Harness.count(500, 20_000); i++) {
                RawHttp2.Stream stream = raw.start(SET);
                raw.send(stream, message, true);
                if (i % 3 == 0) {
                    raw.roundTrip();
                }
                raw.cancel(stream);
            }
            raw.roundTrip();
            assertNothingReserved(kv, "cancelled when whole");
        }
    }

    /** The answer may be on its way, on the call's thread, while the cancellation arrives on the transport's. */
    @Test
    void aCancellationWhileTheResponseIsSentLeavesNothing() throws Exception {
        try (Harness kv = new Harness(TIGHT)) {
            HomeKvServiceBlockingStub stub = kv.stub();
            stub.set(setOf(ROOM / 8));
            RawHttp2 raw = kv.raw();
            byte[] message = RawHttp2.message(get("full"));
            Harness.seeded(Harness.count(4, 100), random -> {
                for (int i = 0; i < 200; i++) {
                    RawHttp2.Stream stream = raw.start(GET);
                    raw.send(stream, message, true);
                    for (int spins = random.nextInt(20_000); spins > 0; spins--) {
                        Thread.onSpinWait();
                    }
                    raw.cancel(stream);
                }
                raw.roundTrip();
            });
            assertNothingReserved(kv, "cancelled while answering");
        }
    }

    @Test
    void aDeadlineThatPassesWithinARequestLeavesNothing() throws Exception {
        byte[] message = framed(ROOM);
        for (int sent : new int[] {0, 5, ROOM / 2, ROOM + 5}) {
            assertHarmless("deadline after " + sent, Status.Code.DEADLINE_EXCEEDED.value(), ".*", raw -> {
                RawHttp2.Stream stream = raw.start(SET, "grpc-timeout", "1m");
                raw.send(stream, Arrays.copyOf(message, sent), false);
                raw.await(stream);
                return stream.status() < 0 ? null : stream; // gRPC resets the stream or says why.
            });
        }
    }

    @Test
    void aClientThatGoesAwayWithinARequestLeavesNothing() throws Exception {
        try (Harness kv = new Harness(TIGHT)) {
            HomeKvServiceBlockingStub stub = kv.stub();
            for (int i = 0; i < 20; i++) {
                RawHttp2 leaver = kv.raw();
                leaver.send(leaver.start(SET), Arrays.copyOf(framed(ROOM / 4), ROOM / 8), false);
                leaver.send(leaver.start(SET), framed(ROOM / 4), false);
                leaver.start(GET);
                if (i % 2 == 0) {
                    leaver.roundTrip();
                }
                leaver.close();
            }
            assertNothingReserved(kv, "a client that went away");
            assertEquals(0, stub.get(get("none")).getRecords(0).getValue().size());
        }
    }

    @Test
    void aCallWithTwoMessagesOrNoneIsRefused() throws Exception {
        String words = "this method takes exactly one request message";
        for (int size : new int[] {20, ROOM / 4}) {
            byte[] message = framed(size);
            assertHarmless("two messages", INVALID, words, raw -> {
                RawHttp2.Stream stream = raw.start(SET);
                raw.send(stream, message, false);
                raw.send(stream, message, true);
                return raw.await(stream);
            });
            assertHarmless("two messages at once", INVALID, words, raw -> {
                RawHttp2.Stream stream = raw.start(SET);
                byte[] twice = Arrays.copyOf(message, 2 * message.length);
                System.arraycopy(message, 0, twice, message.length, message.length);
                raw.send(stream, twice, true);
                return raw.await(stream);
            });
        }
        assertHarmless("no message", INVALID, words, raw -> {
            RawHttp2.Stream stream = raw.start(SET);
            raw.send(stream, new byte[0], true);
            return raw.await(stream);
        });
    }

    /** Else anybody could hold as much memory as he likes: one message that counts for nothing in each of many calls. */
    @Test
    void aWholeMessageStaysChargedWhenAnotherOneBegins() throws Exception {
        try (Harness kv = new Harness(TIGHT)) {
            RawHttp2 raw = kv.raw();
            byte[] message = framed(ROOM / 2);
            RawHttp2.Stream[] streams = new RawHttp2.Stream[8];
            for (int i = 0; i < streams.length; i++) {
                streams[i] = raw.start(SET);
                raw.send(streams[i], message, false);
                raw.send(streams[i], Arrays.copyOf(message, 6), false);
                raw.roundTrip();
            }
            int held = 0;
            for (RawHttp2.Stream stream : streams) {
                held += stream.ended() ? 0 : ROOM / 2;
            }
            assertTrue(held <= ROOM, held + " bytes are held, and " + ROOM + " may be");
        }
    }

    @Test
    void aCompressedRequestIsRefused() throws Exception {
        byte[] message = framed(100);
        message[0] = 1;
        assertHarmless("gzip", UNIMPLEMENTED, ".*gzip.*", raw -> {
            RawHttp2.Stream stream = raw.start(SET, "grpc-encoding", "gzip");
            raw.send(stream, message, true);
            return raw.await(stream);
        });
    }

    @Test
    void aRequestThatIsNoMessageIsRefused() throws Exception {
        byte[] noMessage = {(byte) 0xff, (byte) 0xff};
        assertHarmless("no message", INVALID, "not a valid SetRequest: .*", raw -> raw.call(SET, noMessage));
        assertHarmless("no message", INVALID, "not a valid GetRequest: .*", raw -> raw.call(GET, noMessage));
        byte[] cut = Arrays.copyOf(setOf(ROOM / 4).toByteArray(), ROOM / 8);
        assertHarmless("cut off", INVALID, "not a valid SetRequest: .*", raw -> raw.call(SET, cut));
        byte[] groups = new byte[ROOM / 2];
        Arrays.fill(groups, (byte) 0x1b);
        assertHarmless("groups", INVALID, "not a valid SetRequest: .*", raw -> raw.call(SET, groups));
    }

    @Test
    void aMethodThatIsNotThereIsUnimplementedWhateverIsSentToIt() throws Exception {
        for (String method : List.of("homekv_service.HomeKvService/Steal", "no.Service/Get")) {
            assertHarmless(method, UNIMPLEMENTED, ".*", raw -> {
                RawHttp2.Stream stream = raw.start(method);
                raw.send(stream, new byte[4 * ROOM], false);
                return raw.await(stream);
            });
        }
    }

    /** A frame costs memory of its own beside its bytes; many small ones must not cost more than is accounted for. */
    @Test
    void aRequestInTinyFramesIsTakenOrRefusedAsAnyOther() throws Exception {
        try (Harness kv = new Harness()) {
            RawHttp2 raw = kv.raw();
            byte[] message = RawHttp2.message(set(put("k", bytes(5_000))));
            RawHttp2.Stream stream = raw.start(SET);
            raw.send(stream, message, true, 1, 0);
            assertEquals(0, raw.await(stream).status());
            RawHttp2.Stream padded = raw.start(SET);
            raw.send(padded, message, true, 1, 255);
            assertEquals(0, raw.await(padded).status());
        }
    }

    // ---- The other services ----

    @Test
    void healthAndReflectionAreHeldToTheSameLimits() throws Exception {
        String words = ".*(--max-request-bytes|--max-in-flight-bytes).*";
        for (String method : List.of(
                "grpc.health.v1.Health/Check",
                "grpc.health.v1.Health/Watch",
                "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")) {
            assertHarmless(method, TOO_LARGE, words, raw -> announced(raw, method, 900 << 20, 4 * ROOM));
            assertHarmless(method + " cancelled", TOO_LARGE, words, raw -> {
                RawHttp2.Stream stream = raw.start(method);
                raw.send(stream, Arrays.copyOf(framed(ROOM), ROOM / 2), false);
                raw.cancel(stream);
                raw.roundTrip();
                return null;
            });
            byte[] noMessage = {(byte) 0xff, (byte) 0xff};
            try (Harness kv = new Harness(TIGHT)) {
                RawHttp2 raw = kv.raw();
                RawHttp2.Stream stream = raw.call(method, noMessage);
                assertNotEquals(OK, stream.status(), method);
                Harness.assertNoTrace(stream.message());
                assertEquals(0, raw.call(GET, get("k").toByteArray()).status(), method);
                assertNothingReserved(kv, method);
            }
        }
    }

    /** A hundred small messages of a stream that goes on do not add up. */
    @Test
    void aStreamOfMessagesIsChargedForOneAtATime() throws Exception {
        try (Harness kv = new Harness(TIGHT)) {
            RawHttp2 raw = kv.raw();
            RawHttp2.Stream stream = raw.start("grpc.reflection.v1.ServerReflection/ServerReflectionInfo");
            MessageLite list = io.grpc.reflection.v1.ServerReflectionRequest.newBuilder()
                    .setHost("h".repeat(ROOM / 2))
                    .setListServices("")
                    .build();
            for (int i = 0; i < 20; i++) {
                int received = stream.body.size();
                raw.send(stream, RawHttp2.message(list), false);
                raw.awaitBody(stream, received + ROOM / 2);
                assertTrue(!stream.ended(), stream::message);
            }
            raw.send(stream, new byte[0], true);
            assertEquals(OK, raw.await(stream).status());
            assertNothingReserved(kv, "a stream of messages");
        }
    }
}
