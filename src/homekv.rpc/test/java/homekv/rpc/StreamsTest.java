package homekv.rpc;

import static homekv.rpc.Harness.bytes;
import static homekv.rpc.Harness.delete;
import static homekv.rpc.Harness.get;
import static homekv.rpc.Harness.metrics;
import static homekv.rpc.Harness.put;
import static homekv.rpc.Harness.set;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.ByteString;
import homekv.rpc.proto.CompactRequest;
import homekv.rpc.proto.DiffRequest;
import homekv.rpc.proto.DiffResponse;
import homekv.rpc.proto.Entry;
import homekv.rpc.proto.Event;
import homekv.rpc.proto.HistoryRequest;
import homekv.rpc.proto.HistoryResponse;
import homekv.rpc.proto.HomeKvServiceGrpc;
import homekv.rpc.proto.HomeKvServiceGrpc.HomeKvServiceBlockingStub;
import homekv.rpc.proto.OutOfRange;
import homekv.rpc.proto.Range;
import homekv.rpc.proto.Record;
import homekv.rpc.proto.ScanRequest;
import homekv.rpc.proto.ScanResponse;
import homekv.rpc.proto.SetRequest;
import homekv.rpc.proto.WatchRequest;
import homekv.rpc.proto.WatchResponse;
import homekv.storage.Bytes;
import homekv.storage.Command;
import homekv.storage.CommandLog;
import homekv.storage.Limit;
import homekv.storage.Limits;
import homekv.storage.MemoryCommandLog;
import io.grpc.CallOptions;
import io.grpc.ClientCall;
import io.grpc.Context;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.netty.NettyChannelBuilder;
import java.lang.management.ManagementFactory;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** The methods that answer with a stream: what they send, how they wait for who reads it, and how they end. */
@Timeout(120) // A stream that does not end would else be read for ever.
class StreamsTest {
    private static final int PART = StreamedReads.PART_BYTES;
    private static final String SCAN = "homekv_service.HomeKvService/Scan";

    // ---- Filling and reading ----

    private static String key(int number) {
        return String.format("k%05d", number);
    }

    private static void fill(HomeKvServiceBlockingStub stub, int keys, int valueBytes) {
        for (int first = 0; first < keys; first += 500) {
            SetRequest.Builder request = SetRequest.newBuilder();
            for (int i = first; i < Math.min(keys, first + 500); i++) {
                request.addRecords(put(key(i), bytes(valueBytes)));
            }
            stub.set(request.build());
        }
    }

    private static <T> List<T> all(Iterator<T> responses) {
        List<T> all = new ArrayList<>();
        responses.forEachRemaining(all::add);
        return all;
    }

    private static List<String> keys(List<ScanResponse> responses) {
        return responses.stream()
                .flatMap(response -> response.getEntriesList().stream())
                .map(entry -> entry.getKey().toStringUtf8())
                .toList();
    }

    private static List<String> keys(int from, int to) {
        List<String> keys = new ArrayList<>();
        for (int i = from; i < to; i++) {
            keys.add(key(i));
        }
        return keys;
    }

    private static Range range(String from, String to) {
        return Range.newBuilder().setFrom(bytes(from)).setTo(bytes(to)).build();
    }

    private static Range prefix(String prefix) {
        return Range.newBuilder().setPrefix(bytes(prefix)).build();
    }

    private static ScanRequest.Builder scan() {
        return ScanRequest.newBuilder();
    }

    /** A call whose client takes a message when the test does, and not before. */
    private static final class Taker<T> {
        private final ClientCall<?, T> call;
        private final BlockingQueue<T> messages = new LinkedBlockingQueue<>();
        private final BlockingQueue<Status> end = new LinkedBlockingQueue<>();

        <Q> Taker(ManagedChannel channel, MethodDescriptor<Q, T> method, Q request) {
            ClientCall<Q, T> started = channel.newCall(method, CallOptions.DEFAULT);
            call = started;
            started.start(
                    new ClientCall.Listener<>() {
                        @Override
                        public void onMessage(T message) {
                            messages.add(message);
                        }

                        @Override
                        public void onClose(Status status, Metadata trailers) {
                            end.add(status);
                        }
                    },
                    new Metadata());
            started.sendMessage(request);
            started.halfClose();
        }

        T take() throws InterruptedException {
            call.request(1);
            T message = messages.poll(Harness.HANG_SECONDS, TimeUnit.SECONDS);
            assertTrue(message != null, () -> "no message; " + end.peek());
            return message;
        }

        /** Takes what is left, and how the call ends. */
        Status end() throws InterruptedException {
            call.request(1_000_000);
            Status status = end.poll(Harness.HANG_SECONDS, TimeUnit.SECONDS);
            assertTrue(status != null, "the call does not end");
            return status;
        }

        void cancel() {
            call.cancel("the test has seen enough", null);
        }
    }

    private static OutOfRange outOfRange(StatusRuntimeException e) {
        assertEquals(Status.Code.OUT_OF_RANGE, e.getStatus().getCode(), e::toString);
        Harness.assertNoTrace(e.getStatus().getDescription());
        return Status.trailersFromThrowable(e).get(Statuses.OUT_OF_RANGE);
    }

    private static StatusRuntimeException failure(org.junit.jupiter.api.function.Executable call) {
        return org.junit.jupiter.api.Assertions.assertThrows(StatusRuntimeException.class, call);
    }

    /** It is answered with OUT_OF_RANGE, which says in words and in numbers what can be read. */
    private static void assertOutOfRange(long first, long last, org.junit.jupiter.api.function.Executable call) {
        StatusRuntimeException e = failure(call);
        OutOfRange bounds = outOfRange(e);
        assertEquals(first, bounds.getFirstRevision());
        assertEquals(last, bounds.getLastRevision());
        String words = e.getStatus().getDescription();
        assertTrue(words.matches(".*\\b" + first + "\\b.*\\b" + last + "\\b.*"), words);
    }

    // ---- Scan ----

    @Test
    void aScanAnswersEveryKeyOfItsRangeInOrderInPartsOf64KiB() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvServiceBlockingStub stub = kv.stub();
            fill(stub, 3_000, 100);
            stub.set(set(put(key(7), "new"), delete(key(8))));
            List<ScanResponse> parts = all(stub.scan(scan().build()));
            List<String> expected = new ArrayList<>(keys(0, 3_000));
            expected.remove(8);
            assertEquals(expected, keys(parts));
            assertTrue(parts.size() > 3_000 * 100 / PART);
            for (ScanResponse part : parts) {
                assertTrue(part.getSerializedSize() <= PART + 100, () -> part.getSerializedSize() + " bytes");
                assertEquals(7, part.getRevision());
                assertEquals(
                        part == parts.get(parts.size() - 1), part.getPageToken().isEmpty());
            }
            assertEquals(
                    Entry.newBuilder()
                            .setKey(bytes(key(7)))
                            .setValue(bytes("new"))
                            .setCreateRevision(1)
                            .setModificationRevision(7)
                            .setVersion(2)
                            .build(),
                    parts.get(0).getEntries(7));

            List<String> backwards = new ArrayList<>(expected);
            java.util.Collections.reverse(backwards);
            assertEquals(
                    backwards, keys(all(stub.scan(scan().setDescending(true).build()))));
            assertEquals(
                    keys(20, 40),
                    keys(all(stub.scan(scan().setRange(range(key(20), key(40))).build()))));
            assertEquals(
                    keys(1_000, 2_000),
                    keys(all(stub.scan(scan().setRange(prefix("k01")).build()))));
            assertEquals(
                    keys(20, 25),
                    keys(all(stub.scan(
                            scan().setRange(range(key(20), key(40))).setLimit(5).build()))));
            assertEquals(
                    keys(0, 10),
                    keys(all(stub.scan(
                            scan().setRange(prefix("k0000")).setRevision(6).build()))));
        }
    }

    @Test
    void aRangeWithoutKeysIsAnsweredWithOneResponseThatNamesTheRevision() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvServiceBlockingStub stub = kv.stub();
            assertEquals(List.of(ScanResponse.getDefaultInstance()), all(stub.scan(scan().build())));
            stub.set(set(put("k", "1")));
            ScanResponse nothing = ScanResponse.newBuilder().setRevision(1).build();
            for (Range empty : List.of(range("l", "m"), range("k", "k"), range("z", "a"), prefix("kk"))) {
                for (boolean descending : new boolean[] {false, true}) {
                    assertEquals(
                            List.of(nothing),
                            all(stub.scan(scan().setRange(empty)
                                    .setDescending(descending)
                                    .build())));
                }
            }
        }
    }

    @Test
    void keysAloneComeWithoutValuesAndACountWithoutKeys() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvServiceBlockingStub stub = kv.stub();
            fill(stub, 100, 10_000);
            List<ScanResponse> keysOnly = all(stub.scan(scan().setKeysOnly(true).build()));
            assertEquals(1, keysOnly.size());
            assertEquals(keys(0, 100), keys(keysOnly));
            for (Entry entry : keysOnly.get(0).getEntriesList()) {
                assertFalse(entry.hasValue());
                assertEquals(1, entry.getVersion());
            }
            assertEquals(
                    List.of(ScanResponse.newBuilder()
                            .setRevision(1)
                            .setCount(10)
                            .build()),
                    all(stub.scan(scan().setRange(prefix("k0000"))
                            .setCountOnly(true)
                            .setLimit(3)
                            .build())));
        }
    }

    @Test
    void anEntryOfMoreThan64KiBIsAPartOfItsOwn() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvServiceBlockingStub stub = kv.stub();
            stub.set(set(put("a", "1"), put("b", bytes(300_000)), put("c", "3"), put("d", bytes(PART)), put("e", "5")));
            List<ScanResponse> parts = all(stub.scan(scan().build()));
            assertEquals(
                    List.of(List.of("a"), List.of("b"), List.of("c"), List.of("d"), List.of("e")),
                    parts.stream().map(part -> keys(List.of(part))).toList());
            assertEquals(300_000, parts.get(1).getEntries(0).getValue().size());
        }
    }

    @Test
    void aScanGoesOnFromThePageTokenOfAnyPartInTheSameSnapshotWhateverIsWrittenMeanwhile() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvServiceBlockingStub stub = kv.stub();
            fill(stub, 2_000, 300);
            for (boolean descending : new boolean[] {false, true}) {
                ScanRequest request = scan().setRange(range(key(10), key(1_990)))
                        .setDescending(descending)
                        .build();
                List<ScanResponse> whole = all(stub.scan(request));
                assertTrue(whole.size() > 5);
                stub.set(set(delete(key(500)), put(key(501), "new"), put(key(501) + "a", "new")));
                for (int part = 0; part < whole.size() - 1; part++) {
                    ScanRequest rest = request.toBuilder()
                            .setPageToken(whole.get(part).getPageToken())
                            .build();
                    assertEquals(entries(whole.subList(part + 1, whole.size())), entries(all(stub.scan(rest))));
                }
                stub.set(set(put(key(500), bytes(300)), put(key(501), bytes(300)), delete(key(501) + "a")));
            }
            // A page is a limit; the pages of a scan make the whole, and only the last one has no token.
            List<String> paged = new ArrayList<>();
            ByteString token = ByteString.EMPTY;
            do {
                List<ScanResponse> page = all(stub.scan(scan().setLimit(299)
                        .setKeysOnly(true)
                        .setPageToken(token)
                        .build()));
                paged.addAll(keys(page));
                token = page.get(page.size() - 1).getPageToken();
            } while (!token.isEmpty());
            assertEquals(keys(0, 2_000), paged);
        }
    }

    private static List<Entry> entries(List<ScanResponse> parts) {
        return parts.stream().flatMap(part -> part.getEntriesList().stream()).toList();
    }

    @Test
    void aPageTokenThatIsMalformedOrOfAnotherScanIsRefused() throws Exception {
        try (Harness kv = new Harness(Harness.ROOMY.with(Limit.KEY_BYTES, 10))) {
            HomeKvServiceBlockingStub stub = kv.stub();
            stub.set(set(put("a", "1"), put("b", "1"), put("c", "1")));
            ByteString token = stub.scan(scan().setLimit(1).build()).next().getPageToken();
            assertEquals(
                    List.of("b", "c"),
                    keys(all(stub.scan(scan().setPageToken(token).build()))));
            List<ByteString> malformed = List.of(
                    bytes("x"),
                    token.substring(0, token.size() - 1),
                    bytes(token.size()),
                    token.substring(0, 18),
                    token.concat(bytes("a key that is too long")),
                    ByteString.copyFrom(new byte[] {2}).concat(token.substring(1)),
                    ByteString.copyFrom(new byte[] {1, 2}).concat(token.substring(2)),
                    token.substring(0, 10)
                            .concat(ByteString.copyFrom(new byte[] {-1}))
                            .concat(token.substring(11)));
            for (ByteString bad : malformed) {
                Status status = Harness.status(
                        () -> stub.scan(scan().setPageToken(bad).build()).hasNext());
                assertEquals(Status.Code.INVALID_ARGUMENT, status.getCode(), bad::toString);
                assertEquals(
                        "not a valid ScanRequest: page_token is none that this server has sent",
                        status.getDescription());
            }
            List<ScanRequest.Builder> others = List.of(
                    scan().setDescending(true),
                    scan().setCountOnly(true),
                    scan().setRevision(0),
                    scan().setRange(range("b", "d")));
            for (ScanRequest.Builder other : others) {
                Status status = Harness.status(
                        () -> stub.scan(other.setPageToken(token).build()).hasNext());
                assertEquals(Status.Code.INVALID_ARGUMENT, status.getCode(), other::toString);
                assertTrue(
                        status.getDescription().startsWith("not a valid ScanRequest: page_token is of a scan"),
                        status.getDescription());
            }
            stub.set(set(put("a", "2")));
            stub.compact(CompactRequest.newBuilder().setRevision(2).build());
            assertOutOfRange(
                    2, 2, () -> stub.scan(scan().setPageToken(token).build()).hasNext());
        }
    }

    @Test
    void aScanByAClientThatDoesNotReadHoldsOnePartAndHoldsUpNobodyAndEndsWithItsClient() throws Exception {
        // One snapshot may be open, so that it shows when a scan has closed its own.
        try (Harness kv = new Harness(Harness.ROOMY.with(Limit.OPEN_SNAPSHOTS, 1))) {
            HomeKvServiceBlockingStub stub = kv.stub();
            fill(stub, 5_000, 1_000);
            kv.awaitInFlight(0);
            for (int i = 0; i < 3; i++) {
                RawHttp2 raw = kv.raw();
                raw.slowReader = true;
                RawHttp2.Stream slow = raw.start(SCAN);
                raw.send(slow, RawHttp2.message(scan().build()), true);
                raw.awaitBody(slow, 60_000);
                Harness.await("the response that finds no room is charged", () -> kv.server.bytesInFlight() > 0);
                assertTrue(kv.server.bytesInFlight() <= 2 * PART, () -> kv.server.bytesInFlight() + " bytes");
                Status refused = Harness.status(() -> stub.scan(scan().build()).hasNext());
                kv.assertRefusal(Limit.OPEN_SNAPSHOTS, 2, refused);
                for (int j = 0; j < 20; j++) {
                    stub.set(set(put("other", "1")));
                    assertEquals(1, stub.get(get("other")).getRecordsCount());
                }
                assertTrue(kv.server.bytesInFlight() <= 2 * PART, () -> kv.server.bytesInFlight() + " bytes");
                assertFalse(slow.ended());
                if (i < 2) {
                    raw.close();
                } else {
                    raw.cancel(slow);
                }
                kv.awaitInFlight(0);
                Harness.await("the snapshot is closed", () -> canScan(stub));
            }
        }
    }

    private static boolean canScan(HomeKvServiceBlockingStub stub) {
        try {
            return stub.scan(scan().setCountOnly(true).build()).next().getCount() > 0;
        } catch (StatusRuntimeException e) {
            assertEquals(Status.Code.RESOURCE_EXHAUSTED, e.getStatus().getCode());
            return false;
        }
    }

    @Test
    void aScanWhoseDeadlinePassesWhileNobodyReadsClosesItsSnapshot() throws Exception {
        try (Harness kv = new Harness(Harness.ROOMY.with(Limit.OPEN_SNAPSHOTS, 1))) {
            HomeKvServiceBlockingStub stub = kv.stub();
            fill(stub, 5_000, 1_000);
            RawHttp2 raw = kv.raw();
            raw.slowReader = true;
            RawHttp2.Stream slow = raw.start(SCAN, "grpc-timeout", "300m");
            raw.send(slow, RawHttp2.message(scan().build()), true);
            raw.awaitBody(slow, 60_000);
            Harness.await("the deadline passes", () -> canScan(stub));
            kv.awaitInFlight(0);
        }
    }

    @Test
    void aScanThatIsTakenSlowlyAnswersItsSnapshotToTheEnd() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvServiceBlockingStub stub = kv.stub();
            fill(stub, 5_000, 1_000);
            Taker<ScanResponse> slow = new Taker<>(kv.channel(), HomeKvServiceGrpc.getScanMethod(), scan().build());
            List<ScanResponse> parts = new ArrayList<>(List.of(slow.take()));
            for (int i = 0; i < 5_000; i += 500) {
                stub.set(set(delete(key(i)), put(key(i) + "a", "new")));
            }
            while (!parts.get(parts.size() - 1).getPageToken().isEmpty()) {
                parts.add(slow.take());
            }
            assertEquals(Status.Code.OK, slow.end().getCode());
            assertEquals(keys(0, 5_000), keys(parts));
        }
    }

    @Test
    void aScanWhoseSnapshotExpiresSaysSoAndWhereToStartAgain() throws Exception {
        Limits limits = Harness.ROOMY.with(Limit.HISTORY_BYTES, 0).with(Limit.SNAPSHOT_BYTES, 0);
        try (Harness kv = new Harness(limits)) {
            HomeKvServiceBlockingStub stub = kv.stub();
            fill(stub, 5_000, 1_000);
            Iterator<ScanResponse> slow = kv.stub().scan(scan().build());
            assertEquals(10, slow.next().getRevision());
            fill(stub, 5_000, 1_001);
            long newest = stub.get(get()).getRevision();
            StatusRuntimeException e = failure(() -> slow.forEachRemaining(part -> {}));
            OutOfRange bounds = outOfRange(e);
            assertTrue(bounds.getFirstRevision() > 10 && bounds.getFirstRevision() <= bounds.getLastRevision());
            assertTrue(bounds.getLastRevision() <= newest);
            assertTrue(
                    e.getStatus().getDescription().matches("revision 10 cannot be read any more; .*newer one"),
                    e::toString);
        }
    }

    /** A response that would need more than what is left for all calls. */
    @Test
    void anEntryThatFindsNoRoomEndsItsScanAndLeavesNothing() throws Exception {
        int room = 1 << 17;
        try (Harness kv = new Harness(Harness.ROOMY.with(Limit.IN_FLIGHT_BYTES, room))) {
            HomeKvServiceBlockingStub stub = kv.stub();
            stub.set(set(put("a", "1"), put("b", bytes(room / 2))));
            RawHttp2 raw = kv.raw();
            RawHttp2.Stream other = raw.start("homekv_service.HomeKvService/Set");
            raw.send(other, java.util.Arrays.copyOf(RawHttp2.message(new byte[room]), 5 + room / 2), false);
            raw.roundTrip();
            Iterator<ScanResponse> scan = stub.scan(scan().build());
            assertEquals("a", keys(List.of(scan.next())).get(0));
            kv.assertRefusal(Limit.IN_FLIGHT_BYTES, "\\d+", Harness.status(scan::hasNext));
            raw.cancel(other);
            kv.awaitInFlight(0);
            assertEquals(List.of("a", "b"), keys(all(stub.scan(scan().build()))));
        }
    }

    // ---- Diff ----

    @Test
    void aDiffAnswersWhatIsDifferentBetweenTwoRevisionsInTheOrderOfTheKeys() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvServiceBlockingStub stub = kv.stub();
            stub.set(set(put("a", "1"), put("b", "1"), put("c", "1"), put("d", "1")));
            stub.set(set(put("b", "2"), delete("c"), put("e", "2"), put("d", "1")));
            stub.set(set(delete("e"), put("f", "3")));
            DiffRequest.Builder request = DiffRequest.newBuilder().setFromRevision(1);
            assertEquals(List.of("b:1->2", "c:1->-", "d:1->1", "f:-->3"), differences(stub.diff(request.build()), 3));
            assertEquals(
                    List.of("b:1->2", "c:1->-", "d:1->1", "e:-->2"),
                    differences(stub.diff(request.setToRevision(2).build()), 2));
            assertEquals(
                    List.of("c:1->-", "d:1->1"),
                    differences(stub.diff(request.setRange(range("c", "e")).build()), 2));
            assertEquals(
                    List.of(), differences(stub.diff(request.setToRevision(1).build()), 1));
            Status backwards = Harness.status(
                    () -> stub.diff(request.setFromRevision(3).setToRevision(2).build())
                            .hasNext());
            assertEquals(Status.Code.INVALID_ARGUMENT, backwards.getCode());
            assertEquals(
                    "not a valid DiffRequest: from_revision is 3, above to_revision, which is 2",
                    backwards.getDescription());
            assertOutOfRange(
                    0,
                    3,
                    () -> stub.diff(request.setFromRevision(3).setToRevision(4).build())
                            .hasNext());
            stub.compact(CompactRequest.newBuilder().setRevision(2).build());
            assertOutOfRange(
                    2,
                    3,
                    () -> stub.diff(request.setFromRevision(1).setToRevision(3).build())
                            .hasNext());
        }
    }

    private static List<String> differences(Iterator<DiffResponse> responses, long toRevision) {
        List<String> differences = new ArrayList<>();
        responses.forEachRemaining(response -> {
            assertEquals(toRevision, response.getToRevision());
            for (DiffResponse.Difference difference : response.getDifferencesList()) {
                Entry either = difference.hasAfter() ? difference.getAfter() : difference.getBefore();
                differences.add(either.getKey().toStringUtf8()
                        + ":"
                        + (difference.hasBefore()
                                ? difference.getBefore().getValue().toStringUtf8()
                                : "-")
                        + "->"
                        + (difference.hasAfter()
                                ? difference.getAfter().getValue().toStringUtf8()
                                : "-"));
            }
        });
        return differences;
    }

    @Test
    void aLargeDiffComesInPartsAndClosesBothItsSnapshots() throws Exception {
        try (Harness kv = new Harness(Harness.ROOMY.with(Limit.OPEN_SNAPSHOTS, 2))) {
            HomeKvServiceBlockingStub stub = kv.stub();
            fill(stub, 500, 1_000);
            fill(stub, 500, 1_001);
            DiffRequest request = DiffRequest.newBuilder().setFromRevision(1).build();
            for (int i = 0; i < 3; i++) {
                List<DiffResponse> parts = all(stub.diff(request));
                assertTrue(parts.size() > 10);
                assertTrue(parts.stream().allMatch(part -> part.getSerializedSize() <= PART + 100));
                assertEquals(
                        500,
                        parts.stream()
                                .mapToInt(DiffResponse::getDifferencesCount)
                                .sum());
            }
        }
    }

    // ---- History ----

    @Test
    void theHistoryOfAKeyIsWhatItWasAndEveryChangeSinceOldestFirst() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvServiceBlockingStub stub = kv.stub();
            stub.set(set(put("k", "1")));
            stub.set(set(put("other", "1")));
            stub.set(set(put("k", "3")));
            stub.set(set(delete("k")));
            stub.set(set(put("k", "5")));
            assertEquals(List.of("1=1", "3=3", "4 gone", "5=5"), history(stub, "k", -1));
            assertEquals(List.of("1=1", "3=3", "4 gone", "5=5"), history(stub, "k", 0));
            assertEquals(List.of("1=1", "3=3", "4 gone", "5=5"), history(stub, "k", 2));
            assertEquals(List.of("3=3", "4 gone", "5=5"), history(stub, "k", 3));
            assertEquals(List.of("5=5"), history(stub, "k", 4));
            assertEquals(List.of("5=5"), history(stub, "k", 5));
            assertEquals(List.of(), history(stub, "none", -1));
            stub.compact(CompactRequest.newBuilder().setRevision(3).build());
            assertEquals(List.of("3=3", "4 gone", "5=5"), history(stub, "k", -1));
            assertOutOfRange(3, 5, () -> history(stub, "k", 2));
            assertOutOfRange(3, 5, () -> history(stub, "k", 6));
        }
    }

    private static List<String> history(HomeKvServiceBlockingStub stub, String key, long from) {
        HistoryRequest.Builder request = HistoryRequest.newBuilder().setKey(bytes(key));
        if (from >= 0) {
            request.setFromRevision(from);
        }
        return all(stub.history(request.build())).stream()
                .flatMap(response -> response.getEventsList().stream())
                .map(StreamsTest::describe)
                .toList();
    }

    private static String describe(Event event) {
        return event.getRevision()
                + (event.hasEntry() ? "=" + event.getEntry().getValue().toStringUtf8() : " gone");
    }

    @Test
    void aLongHistoryComesInPartsWhateverTheSizesOfItsValues() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvServiceBlockingStub stub = kv.stub();
            Harness.seeded(Harness.count(2, 50), random -> {
                String key = "k" + random.nextLong();
                List<Long> revisions = new ArrayList<>();
                for (int i = 0; i < 1_000; i++) {
                    Record change = random.nextInt(10) == 0 && i % 2 == 1
                            ? delete(key)
                            : put(key, bytes(random.nextInt(20) == 0 ? random.nextInt(100_000) : 10));
                    long revision = stub.set(set(change)).getRevision();
                    if (revisions.isEmpty() || revision != revisions.get(revisions.size() - 1)) {
                        revisions.add(revision);
                    }
                }
                List<HistoryResponse> parts = all(stub.history(
                        HistoryRequest.newBuilder().setKey(bytes(key)).build()));
                assertEquals(
                        revisions,
                        parts.stream()
                                .flatMap(part -> part.getEventsList().stream())
                                .map(Event::getRevision)
                                .toList());
                assertTrue(parts.size() > 10);
                assertTrue(parts.stream()
                        .allMatch(part -> part.getSerializedSize() <= PART + 100 || part.getEventsCount() == 1));
            });
        }
    }

    // ---- Watch ----

    private static Taker<WatchResponse> watch(Harness kv, WatchRequest.Builder request) {
        return new Taker<>(kv.channel(), HomeKvServiceGrpc.getWatchMethod(), request.build());
    }

    private static List<String> events(WatchResponse response) {
        return response.getEventsList().stream()
                .map(event -> event.getKey().toStringUtf8() + "@" + describe(event)
                        + (event.hasPrevious()
                                ? "(" + event.getPrevious().getValue().toStringUtf8() + ")"
                                : ""))
                .toList();
    }

    @Test
    void aWatchNamesWhereItBeginsAndThenReportsEveryCommitWhole() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvServiceBlockingStub stub = kv.stub();
            stub.set(set(put("a", "1")));
            Taker<WatchResponse> watch = watch(kv, WatchRequest.newBuilder());
            assertEquals(WatchResponse.newBuilder().setRevision(1).build(), watch.take());
            stub.set(set(put("a", "2"), put("b", "2")));
            WatchResponse second = watch.take();
            assertEquals(List.of("a@2=2", "b@2=2"), events(second));
            assertEquals(2, second.getRevision());
            assertFalse(second.getPartial());
            stub.set(set(delete("a"), put("c", "3")));
            assertEquals(List.of("a@3 gone", "c@3=3"), events(watch.take()));
            watch.cancel();
            Harness.await("the watch is closed", () -> metrics(stub).getWatchesCount() == 0);
        }
    }

    @Test
    void aWatchFromAnEarlierRevisionReportsWhatHasBeenAndOnlyWhatIsWanted() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvServiceBlockingStub stub = kv.stub();
            stub.set(set(put("a", "1"), put("b", "1")));
            stub.set(set(put("b", "2"), delete("a")));
            stub.set(set(put("a", "3")));
            Taker<WatchResponse> all =
                    watch(kv, WatchRequest.newBuilder().setFromRevision(2).setPrevious(true));
            assertEquals(1, all.take().getRevision());
            assertEquals(List.of("b@2=2(1)", "a@2 gone(1)", "a@3=3"), events(all.take()));
            Taker<WatchResponse> deletes =
                    watch(kv, WatchRequest.newBuilder().setFromRevision(1).setNoPuts(true));
            assertEquals(0, deletes.take().getRevision());
            WatchResponse deleted = deletes.take();
            assertEquals(List.of("a@2 gone"), events(deleted));
            assertEquals(3, deleted.getRevision());
            Taker<WatchResponse> puts = watch(
                    kv,
                    WatchRequest.newBuilder()
                            .setFromRevision(1)
                            .setNoDeletes(true)
                            .setRange(range("a", "b")));
            puts.take();
            assertEquals(List.of("a@1=1", "a@3=3"), events(puts.take()));
        }
    }

    @Test
    void aWatchSaysHowFarItIsWhileNothingHappens() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvServiceBlockingStub stub = kv.stub();
            Taker<WatchResponse> watch =
                    watch(kv, WatchRequest.newBuilder().setRange(prefix("x")).setProgressMillis(100));
            assertEquals(0, watch.take().getRevision());
            stub.set(set(put("a", "1")));
            WatchResponse progress = watch.take();
            while (progress.getRevision() == 0) {
                progress = watch.take();
            }
            assertEquals(WatchResponse.newBuilder().setRevision(1).build(), progress);
        }
    }

    @Test
    void aWatchThatBeginsOutsideOfTheHistoryWindowOrFallsBehindItEndsWithOutOfRange() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvServiceBlockingStub stub = kv.stub();
            for (int i = 0; i < 5; i++) {
                stub.set(set(put("k", "1")));
            }
            stub.compact(CompactRequest.newBuilder().setRevision(3).build());
            assertOutOfRange(
                    4,
                    6,
                    () -> stub.watch(
                                    WatchRequest.newBuilder().setFromRevision(3).build())
                            .hasNext());
            assertOutOfRange(
                    4,
                    6,
                    () -> stub.watch(
                                    WatchRequest.newBuilder().setFromRevision(7).build())
                            .hasNext());
            Taker<WatchResponse> slow = watch(kv, WatchRequest.newBuilder());
            slow.take();
            for (int i = 0; i < 200; i++) {
                stub.set(set(put("k", bytes(50_000))));
            }
            stub.compact(CompactRequest.newBuilder().setRevision(205).build());
            Status status = slow.end();
            assertEquals(Status.Code.OUT_OF_RANGE, status.getCode());
            assertTrue(status.getDescription().contains("206"), status::toString);
            Harness.await("the watch is closed", () -> metrics(stub).getWatchesCount() == 0);
        }
    }

    /** Both where the changes that are left can be kept meanwhile and where there is no room to. */
    @Test
    void aCommitOfMoreThan64KiBComesInPartsAndNobodyMissesAChange() throws Exception {
        for (int room : new int[] {1 << 30, 1 << 19}) {
            try (Harness kv = new Harness(Harness.ROOMY.with(Limit.IN_FLIGHT_BYTES, room))) {
                HomeKvServiceBlockingStub stub = kv.stub();
                SetRequest.Builder large = SetRequest.newBuilder();
                for (int i = 0; i < 400; i++) {
                    large.addRecords(put(key(i), bytes(2_000)));
                }
                stub.set(set(put("before", "1")));
                for (int first = 0; first < 400; first += 100) {
                    stub.set(SetRequest.newBuilder()
                            .addAllRecords(large.getRecordsList().subList(first, first + 100))
                            .build());
                    kv.awaitInFlight(0);
                }
                stub.set(set(put("x", "1")));
                // A commit of all keys by a request that names none of their values.
                stub.txn(homekv.rpc.proto.TxnRequest.newBuilder()
                        .addThen(homekv.rpc.proto.Op.newBuilder()
                                .setDelete(
                                        homekv.rpc.proto.Op.Delete.newBuilder().setRange(prefix("k"))))
                        .build());
                stub.set(set(put("after", "1")));
                Taker<WatchResponse> watch =
                        watch(kv, WatchRequest.newBuilder().setFromRevision(1).setPrevious(true));
                assertEquals(0, watch.take().getRevision());
                List<Event> events = new ArrayList<>();
                long reached = 0;
                int partial = 0;
                while (reached < 8) {
                    WatchResponse response = watch.take();
                    assertTrue(response.getSerializedSize() < 3 * PART);
                    events.addAll(response.getEventsList());
                    assertTrue(response.getRevision() >= reached);
                    reached = response.getRevision();
                    long lastRevision = events.get(events.size() - 1).getRevision();
                    assertEquals(response.getPartial() ? lastRevision - 1 : lastRevision, reached);
                    partial += response.getPartial() ? 1 : 0;
                    assertTrue(kv.server.bytesInFlight() <= room);
                }
                assertTrue(partial > 5, partial + " partial responses");
                assertEquals(1 + 400 + 1 + 400 + 1, events.size());
                assertEquals(
                        keys(0, 400),
                        events.subList(1, 401).stream()
                                .map(event -> event.getKey().toStringUtf8())
                                .toList());
                assertEquals(
                        keys(0, 400),
                        events.subList(402, 802).stream()
                                .map(event -> event.getKey().toStringUtf8())
                                .toList());
                watch.cancel();
                kv.awaitInFlight(0);
            }
        }
    }

    @Test
    void aWatchByAClientThatDoesNotReadHoldsOneResponseAndMissesNothing() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvServiceBlockingStub stub = kv.stub();
            Taker<WatchResponse> slow = watch(kv, WatchRequest.newBuilder());
            assertEquals(0, slow.take().getRevision());
            for (int i = 0; i < 1_000; i++) {
                stub.set(set(put("k", bytes(10_000))));
            }
            Harness.await("a response finds no room", () -> kv.server.bytesInFlight() > 0);
            assertTrue(kv.server.bytesInFlight() <= 3 * PART, () -> kv.server.bytesInFlight() + " bytes");
            long revision = 0;
            while (revision < 1_000) {
                for (Event event : slow.take().getEventsList()) {
                    assertEquals(++revision, event.getRevision());
                }
            }
            slow.cancel();
            kv.awaitInFlight(0);
        }
    }

    @Test
    void asManyWatchesAsAllowedAreTakenAndOneMoreIsRefused() throws Exception {
        try (Harness kv = new Harness(Harness.ROOMY.with(Limit.OPEN_WATCHES, 2))) {
            HomeKvServiceBlockingStub stub = kv.stub();
            Taker<WatchResponse> first = watch(kv, WatchRequest.newBuilder());
            Taker<WatchResponse> second = watch(kv, WatchRequest.newBuilder());
            first.take();
            second.take();
            kv.assertRefusal(
                    Limit.OPEN_WATCHES,
                    3,
                    Harness.status(
                            () -> stub.watch(WatchRequest.getDefaultInstance()).hasNext()));
            first.cancel();
            Harness.await("a watch is closed", () -> metrics(stub).getWatchesCount() == 1);
            watch(kv, WatchRequest.newBuilder()).take();
        }
    }

    private static int platformThreads() {
        return ManagementFactory.getThreadMXBean().getThreadCount();
    }

    @Test
    void thousandsOfIdleWatchesTakeNoThreadsOfThePlatformAndAreAllWokenByTheirOwnChange() throws Exception {
        int count = Harness.count(2_000, 10_000);
        try (Harness kv = new Harness()) {
            HomeKvServiceBlockingStub stub = kv.stub();
            ManagedChannel channel = kv.channel();
            HomeKvServiceGrpc.HomeKvServiceStub async =
                    HomeKvServiceGrpc.newStub(channel).withExecutor(Runnable::run);
            AtomicInteger begun = new AtomicInteger();
            AtomicInteger told = new AtomicInteger();
            AtomicInteger wrong = new AtomicInteger();
            Context.CancellableContext all = Context.current().withCancellation();
            startWatch(async, 0, begun, told, wrong);
            Harness.await("the first one has begun", () -> begun.get() == 1);
            int threadsBefore = platformThreads();
            all.run(() -> {
                for (int i = 1; i < count; i++) {
                    startWatch(async, i, begun, told, wrong);
                }
            });
            Harness.await("all have begun", () -> begun.get() == count);
            assertEquals(count, metrics(stub).getWatchesCount());
            assertTrue(kv.server.bytesInFlight() < 20 * count, () -> kv.server.bytesInFlight() + " bytes");
            assertTrue(platformThreads() <= threadsBefore + 10, () -> platformThreads() + " threads");
            stub.set(set(put("nobody's", "1")));
            for (int i = 0; i < count; i += 100) {
                stub.set(set(put(key(i), "1")));
            }
            Harness.await("those who are meant are told", () -> told.get() == (count + 99) / 100);
            assertEquals(0, wrong.get());
            assertTrue(platformThreads() <= threadsBefore + 10, () -> platformThreads() + " threads");
            all.cancel(null);
            Harness.await("all but one have ended", () -> metrics(stub).getWatchesCount() == 1);
        }
    }

    private static void startWatch(
            HomeKvServiceGrpc.HomeKvServiceStub stub,
            int number,
            AtomicInteger begun,
            AtomicInteger told,
            AtomicInteger wrong) {
        Range ownKey = range(key(number), key(number) + "\0");
        stub.watch(WatchRequest.newBuilder().setRange(ownKey).build(), new io.grpc.stub.StreamObserver<>() {
            @Override
            public void onNext(WatchResponse response) {
                if (response.getEventsCount() == 0) {
                    begun.incrementAndGet();
                } else if (response.getEvents(0).getKey().toStringUtf8().equals(key(number))) {
                    told.incrementAndGet();
                } else {
                    wrong.incrementAndGet();
                }
            }

            @Override
            public void onError(Throwable e) {}

            @Override
            public void onCompleted() {}
        });
    }

    // ---- Stopping ----

    @Test
    void whenTheServerStopsWatchesEndAtOnceAndScansAreFinished() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvServiceBlockingStub stub = kv.stub();
            fill(stub, 5_000, 1_000);
            Taker<WatchResponse> idle = watch(kv, WatchRequest.newBuilder());
            idle.take();
            Taker<WatchResponse> blocked = watch(kv, WatchRequest.newBuilder().setFromRevision(1));
            blocked.take();
            Taker<ScanResponse> scan = new Taker<>(kv.channel(), HomeKvServiceGrpc.getScanMethod(), scan().build());
            List<ScanResponse> parts = new ArrayList<>(List.of(scan.take()));
            java.util.concurrent.CompletableFuture<Boolean> stopped = new java.util.concurrent.CompletableFuture<>();
            Thread.startVirtualThread(() -> {
                try {
                    stopped.complete(kv.server.stop(Duration.ofSeconds(Harness.HANG_SECONDS)));
                } catch (Throwable e) {
                    stopped.completeExceptionally(e);
                }
            });
            for (Taker<WatchResponse> watch : List.of(idle, blocked)) {
                Status status = watch.end();
                assertEquals(Status.Code.UNAVAILABLE, status.getCode());
                assertEquals("the server is stopping", status.getDescription());
            }
            assertFalse(stopped.isDone());
            while (!parts.get(parts.size() - 1).getPageToken().isEmpty()) {
                parts.add(scan.take());
            }
            assertEquals(Status.Code.OK, scan.end().getCode());
            assertEquals(keys(0, 5_000), keys(parts));
            assertTrue(stopped.get(Harness.HANG_SECONDS, TimeUnit.SECONDS));
        }
    }

    /** However many streams nobody reads, requests have half of the room for calls under way. */
    @Test
    void streamsThatNobodyReadsLeaveRoomForRequests() throws Exception {
        int room = 4 << 20;
        try (Harness kv = new Harness(Harness.ROOMY.with(Limit.IN_FLIGHT_BYTES, room))) {
            HomeKvServiceBlockingStub stub = kv.stub();
            fill(stub, 2_000, 1_000);
            ManagedChannel channel = NettyChannelBuilder.forAddress(kv.server.address())
                    .usePlaintext()
                    .flowControlWindow(64 << 10)
                    .build();
            try {
                List<Taker<ScanResponse>> stalled = new ArrayList<>();
                for (int i = 0; i < 200; i++) {
                    stalled.add(new Taker<>(channel, HomeKvServiceGrpc.getScanMethod(), scan().build()));
                }
                // Those that find no room in the share of the streams end; the others hold what they have sent.
                Harness.await("the streams take what they can", () -> kv.server.bytesInFlight() > room / 3);
                for (int i = 0; i < 100; i++) {
                    stub.set(
                            set(put(key(i), bytes(room / 8)))); // The charge of the one before may be given back later.
                }
                stalled.forEach(Taker::cancel);
                kv.awaitInFlight(0);
            } finally {
                channel.shutdownNow();
                assertTrue(channel.awaitTermination(Harness.HANG_SECONDS, TimeUnit.SECONDS));
            }
        }
    }

    /** More versions than are looked at from the newest one on. */
    @Test
    void theHistoryOfAKeyThatWasWrittenOftenComesWholeAndInOrder() throws Exception {
        int versions = 10_000;
        try (Harness kv = new Harness()) {
            HomeKvServiceBlockingStub stub = kv.stub();
            CommandLog log = new MemoryCommandLog(kv.store);
            for (int i = 1; i <= versions; i++) {
                log.submit(Command.put(Bytes.utf8(i % 10 == 0 ? "other" : "often"), Bytes.utf8("" + i)));
            }
            long last = 0;
            int count = 0;
            Iterator<HistoryResponse> parts = stub.history(
                    HistoryRequest.newBuilder().setKey(bytes("often")).build());
            while (parts.hasNext()) {
                for (homekv.rpc.proto.Event event : parts.next().getEventsList()) {
                    assertTrue(event.getRevision() > last);
                    last = event.getRevision();
                    assertEquals("" + last, event.getEntry().getValue().toStringUtf8());
                    count++;
                }
            }
            assertEquals(versions - versions / 10, count);
            assertEquals(versions - 1, last);
        }
    }
}
