package homekv.rpc;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.ByteString;
import com.google.protobuf.Empty;
import homekv.rpc.proto.BackupResponse;
import homekv.rpc.proto.DiffRequest;
import homekv.rpc.proto.DiffResponse;
import homekv.rpc.proto.Entry;
import homekv.rpc.proto.Event;
import homekv.rpc.proto.GetRequest;
import homekv.rpc.proto.GetResponse;
import homekv.rpc.proto.HistoryRequest;
import homekv.rpc.proto.HistoryResponse;
import homekv.rpc.proto.HomeKvServiceGrpc.HomeKvServiceImplBase;
import homekv.rpc.proto.LeaseRequest;
import homekv.rpc.proto.LeaseStatus;
import homekv.rpc.proto.OutOfRange;
import homekv.rpc.proto.ScanRequest;
import homekv.rpc.proto.ScanResponse;
import homekv.rpc.proto.SetRequest;
import homekv.rpc.proto.SetResponse;
import homekv.rpc.proto.TxnRequest;
import homekv.rpc.proto.TxnResponse;
import homekv.rpc.proto.WatchRequest;
import homekv.rpc.proto.WatchResponse;
import homekv.storage.Bytes;
import homekv.storage.Op;
import homekv.storage.Range;
import homekv.storage.SnapshotFileInfo;
import homekv.storage.Txn;
import homekv.storage.Write;
import io.grpc.ClientCall;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.Status;
import io.grpc.netty.NettyServerBuilder;
import io.grpc.protobuf.ProtoUtils;
import io.grpc.stub.ServerCallStreamObserver;
import io.grpc.stub.StreamObserver;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.OptionalLong;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicInteger;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;

/** The client against servers that break off, refuse, or answer nonsense: what is repeated, and what never is. */
class HomeKvClientStreamTest {
    private static final Bytes K = Bytes.utf8("k");
    private static final Duration LONG = Duration.ofSeconds(Harness.HANG_SECONDS);
    private static final Status GONE = Status.UNAVAILABLE.withDescription("gone for a moment");

    /** A server of a service of the test's, and a client of it. */
    private record Served(Server server, HomeKvClient client) implements AutoCloseable {
        static Served by(HomeKvServiceImplBase service) throws IOException {
            Server server = NettyServerBuilder.forAddress(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0))
                    .addService(service)
                    .build()
                    .start();
            return new Served(
                    server,
                    new HomeKvClient(InetAddress.getLoopbackAddress().getHostAddress(), server.getPort(), LONG));
        }

        @Override
        public void close() throws InterruptedException {
            client.close();
            server.shutdownNow();
            server.awaitTermination();
        }
    }

    private interface Answer<T> {
        void give(StreamObserver<T> observer);
    }

    /** Responses, and then the end: a status, or null for a good one. */
    @SafeVarargs
    private static <T> Answer<T> answer(Status end, T... responses) {
        return observer -> {
            for (T response : responses) {
                observer.onNext(response);
            }
            if (end == null) {
                observer.onCompleted();
            } else {
                observer.onError(end.asRuntimeException());
            }
        };
    }

    private static HomeKvException failure(HomeKvException.Reason reason, Executable call) {
        HomeKvException e = assertThrows(HomeKvException.class, call);
        assertEquals(reason, e.reason(), e.getMessage());
        assertFalse(e.getMessage().contains("\n") || e.getMessage().isBlank(), e.getMessage());
        return e;
    }

    private static Entry entry(String key, String value, long revision) {
        return Entry.newBuilder()
                .setKey(ByteString.copyFromUtf8(key))
                .setValue(ByteString.copyFromUtf8(value))
                .setCreateRevision(revision)
                .setModificationRevision(revision)
                .setVersion(1)
                .build();
    }

    private static ScanResponse part(String token, String... keys) {
        ScanResponse.Builder part =
                ScanResponse.newBuilder().setRevision(7).setPageToken(ByteString.copyFromUtf8(token));
        for (String key : keys) {
            part.addEntries(entry(key, "v", 5));
        }
        return part.build();
    }

    private static List<String> keys(ReadStream<homekv.storage.Entry> entries) {
        List<String> keys = new ArrayList<>();
        entries.forEachRemaining(entry -> keys.add(entry.key().utf8()));
        return keys;
    }

    /** Answers scans with what it is given, one after the other, and remembers what was asked. */
    private static final class Scans extends HomeKvServiceImplBase {
        final Queue<ScanRequest> asked = new ConcurrentLinkedQueue<>();
        private final Queue<Answer<ScanResponse>> answers = new ConcurrentLinkedQueue<>();

        @SafeVarargs
        Scans(Answer<ScanResponse>... answers) {
            for (Answer<ScanResponse> answer : answers) {
                this.answers.add(answer);
            }
        }

        @Override
        public void scan(ScanRequest request, StreamObserver<ScanResponse> observer) {
            asked.add(request);
            answers.remove().give(observer);
        }
    }

    // ---- What is repeated ----

    @Test
    void aReadIsTriedAgainUntilTheServerIsBack() throws Exception {
        AtomicInteger calls = new AtomicInteger();
        try (Served served = Served.by(new HomeKvServiceImplBase() {
            @Override
            public void get(GetRequest request, StreamObserver<GetResponse> observer) {
                GetResponse found = GetResponse.newBuilder()
                        .addRecords(homekv.rpc.proto.Record.newBuilder().setKey(request.getKeys(0)))
                        .build();
                (calls.incrementAndGet() < 3 ? HomeKvClientStreamTest.<GetResponse>answer(GONE) : answer(null, found))
                        .give(observer);
            }
        })) {
            assertNull(served.client().get(List.of(K)).values().get(0));
            assertEquals(3, calls.get());
        }
    }

    /** As a server does that is stopped at once. */
    @Test
    void aCallThatTheServerTakesAwayIsALossAndTriedAgain() throws Exception {
        Scans scans = new Scans(
                answer(Status.CANCELLED), answer(Status.CANCELLED, part("x", "a")), answer(null, part("", "b")));
        try (Served served = Served.by(scans);
                ReadStream<homekv.storage.Entry> entries = served.client().scan(ScanOptions.of(Range.all()))) {
            assertEquals(List.of("a", "b"), keys(entries));
        }
    }

    @Test
    void aReadIsGivenUpAfterAFewAttempts() throws Exception {
        AtomicInteger calls = new AtomicInteger();
        try (Served served = Served.by(new HomeKvServiceImplBase() {
            @Override
            public void get(GetRequest request, StreamObserver<GetResponse> observer) {
                calls.incrementAndGet();
                observer.onError(GONE.asRuntimeException());
            }
        })) {
            HomeKvException e = failure(
                    HomeKvException.Reason.UNREACHABLE, () -> served.client().get(List.of(K)));
            assertTrue(e.getMessage().contains("gone for a moment"), e.getMessage());
            assertEquals(Connection.MAX_READ_ATTEMPTS, calls.get());
        }
    }

    @Test
    void aWriteIsNeverRepeated() throws Exception {
        AtomicInteger calls = new AtomicInteger();
        try (Served served = Served.by(new HomeKvServiceImplBase() {
            @Override
            public void set(SetRequest request, StreamObserver<SetResponse> observer) {
                calls.incrementAndGet();
                observer.onError(GONE.asRuntimeException());
            }

            @Override
            public void txn(TxnRequest request, StreamObserver<TxnResponse> observer) {
                calls.incrementAndGet();
                observer.onError(GONE.asRuntimeException());
            }
        })) {
            HomeKvException e = failure(
                    HomeKvException.Reason.UNREACHABLE, () -> served.client().set(List.of(new Write.Put(K, K))));
            assertTrue(e.getMessage().contains("may or may not"), e.getMessage());
            failure(HomeKvException.Reason.UNREACHABLE, () -> served.client().increment(K, 1));
            assertEquals(2, calls.get());
        }
    }

    @Test
    void whatTheServerRefusesIsNotRepeated() throws Exception {
        for (Status status : List.of(Status.INVALID_ARGUMENT, Status.RESOURCE_EXHAUSTED, Status.INTERNAL)) {
            Scans scans = new Scans(answer(status));
            try (Served served = Served.by(scans)) {
                assertThrows(HomeKvException.class, () -> served.client().count(Range.all()));
                assertEquals(1, scans.asked.size());
            }
        }
    }

    @Test
    void aScanThatIsBrokenOffGoesOnBehindTheLastPart() throws Exception {
        Scans scans = new Scans(
                answer(GONE),
                answer(GONE, part("behind b", "a", "b")),
                answer(GONE),
                answer(GONE, part("behind c", "c")),
                answer(null, part("", "d")));
        try (Served served = Served.by(scans)) {
            ScanOptions options = ScanOptions.of(Range.all()).atMost(10);
            try (ReadStream<homekv.storage.Entry> entries = served.client().scan(options)) {
                assertEquals(7, entries.revision());
                assertEquals(List.of("a", "b", "c", "d"), keys(entries));
            }
            assertEquals(
                    List.of("", "", "behind b", "behind b", "behind c"),
                    scans.asked.stream()
                            .map(request -> request.getPageToken().toStringUtf8())
                            .toList());
            assertEquals(
                    List.of(10L, 10L, 8L, 8L, 7L),
                    scans.asked.stream().map(ScanRequest::getLimit).toList());
        }
    }

    @Test
    void aScanThatIsBrokenOffBehindItsLastEntryIsNotAskedAgain() throws Exception {
        for (ScanOptions options :
                List.of(ScanOptions.of(Range.all()), ScanOptions.of(Range.all()).atMost(2))) {
            String token = options.limit() == 0 ? "" : "behind b";
            Scans scans = new Scans(answer(GONE, part(token, "a", "b")));
            try (Served served = Served.by(scans);
                    ReadStream<homekv.storage.Entry> entries = served.client().scan(options)) {
                assertEquals(List.of("a", "b"), keys(entries));
                assertEquals(1, scans.asked.size());
            }
        }
    }

    @Test
    void aHistoryThatIsBrokenOffGoesOnBehindTheLastEvent() throws Exception {
        Queue<HistoryRequest> asked = new ConcurrentLinkedQueue<>();
        try (Served served = Served.by(new HomeKvServiceImplBase() {
            @Override
            public void history(HistoryRequest request, StreamObserver<HistoryResponse> observer) {
                asked.add(request);
                HistoryResponse first = HistoryResponse.newBuilder()
                        .addEvents(put("k", "1", 3))
                        .addEvents(deletion("k", 4))
                        .build();
                HistoryResponse rest = HistoryResponse.newBuilder()
                        .addEvents(deletion("k", 4))
                        .addEvents(put("k", "2", 6))
                        .build();
                (asked.size() == 1 ? answer(GONE, first) : answer(null, rest)).give(observer);
            }
        })) {
            List<Long> revisions = new ArrayList<>();
            served.client().history(K).forEachRemaining(event -> revisions.add(event.revision()));
            assertEquals(List.of(3L, 4L, 6L), revisions);
            assertEquals(
                    List.of(0L, 4L),
                    asked.stream().map(HistoryRequest::getFromRevision).toList());
        }
    }

    @Test
    void aComparisonThatIsBrokenOffGoesOnBehindTheLastKey() throws Exception {
        Queue<DiffRequest> asked = new ConcurrentLinkedQueue<>();
        try (Served served = Served.by(new HomeKvServiceImplBase() {
            @Override
            public void diff(DiffRequest request, StreamObserver<DiffResponse> observer) {
                asked.add(request);
                (asked.size() == 1 ? answer(GONE, difference("a")) : answer(null, difference("b"))).give(observer);
            }

            private DiffResponse difference(String key) {
                return DiffResponse.newBuilder()
                        .addDifferences(DiffResponse.Difference.newBuilder().setAfter(entry(key, "v", 5)))
                        .setToRevision(7)
                        .build();
            }
        })) {
            List<String> keys = new ArrayList<>();
            served.client()
                    .differences(Range.all(), 3, 7)
                    .forEachRemaining(difference -> keys.add(difference.key().utf8()));
            assertEquals(List.of("a", "b"), keys);
            assertEquals(
                    List.of("", "a\0"),
                    asked.stream()
                            .map(request -> request.getRange().getFrom().toStringUtf8())
                            .toList());
        }
    }

    // ---- Backups ----

    /** Answers backups with what it is given, one after the other. */
    private static final class Backups extends HomeKvServiceImplBase {
        private final Queue<Answer<BackupResponse>> answers = new ConcurrentLinkedQueue<>();

        @SafeVarargs
        Backups(Answer<BackupResponse>... answers) {
            for (Answer<BackupResponse> answer : answers) {
                this.answers.add(answer);
            }
        }

        @Override
        public void backup(Empty request, StreamObserver<BackupResponse> observer) {
            answers.remove().give(observer);
        }
    }

    private static BackupResponse piece(String data) {
        return BackupResponse.newBuilder()
                .setData(ByteString.copyFromUtf8(data))
                .build();
    }

    private static BackupResponse whole(int bytes) {
        return BackupResponse.newBuilder()
                .setRevision(9)
                .setKeys(3)
                .setBytes(bytes)
                .build();
    }

    @Test
    void aBackupOfWhichNothingHasComeIsAskedForAgain() throws Exception {
        Backups backups = new Backups(answer(GONE), answer(GONE), answer(null, piece("ab"), piece("c"), whole(3)));
        try (Served served = Served.by(backups)) {
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            assertEquals(new SnapshotFileInfo("", 9, 3, 3), served.client().backup(out));
            assertEquals("abc", out.toString(StandardCharsets.UTF_8));
        }
    }

    @Test
    void aBackupThatIsBrokenOffIsNotWrittenTwice() throws Exception {
        Backups backups = new Backups(answer(GONE, piece("ab")), answer(null, piece("ab"), whole(2)));
        try (Served served = Served.by(backups)) {
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            failure(HomeKvException.Reason.UNREACHABLE, () -> served.client().backup(out));
            assertEquals("ab", out.toString(StandardCharsets.UTF_8));
            assertEquals(1, backups.answers.size());
        }
    }

    @Test
    void aBackupThatIsNotWholeIsAFailureOfTheServer() throws Exception {
        Backups backups = new Backups(
                answer(null),
                answer(null, piece("ab")),
                answer(null, piece("ab"), whole(3)),
                answer(null, piece("ab"), whole(2), piece("c")));
        try (Served served = Served.by(backups)) {
            while (!backups.answers.isEmpty()) {
                failure(HomeKvException.Reason.FAILED, () -> served.client().backup(OutputStream.nullOutputStream()));
            }
        }
    }

    @Test
    void aServerThatKnowsNoBackupsIsAFailure() throws Exception {
        try (Served served = Served.by(new HomeKvServiceImplBase() {})) {
            HomeKvException e = failure(
                    HomeKvException.Reason.FAILED, () -> served.client().backup(OutputStream.nullOutputStream()));
            assertTrue(e.getMessage().contains("as new as this client"), e.getMessage());
            failure(HomeKvException.Reason.FAILED, () -> served.client().snapshot());
        }
    }

    // ---- Flow control ----

    @Test
    void oneMessageIsAskedForBeyondThoseThatAreTaken() {
        class Asked extends ClientCall<String, String> {
            int messages;
            Listener<String> listener;

            @Override
            public void start(Listener<String> responses, Metadata headers) {
                listener = responses;
            }

            @Override
            public void request(int more) {
                messages += more;
            }

            @Override
            public void cancel(String message, Throwable cause) {}

            @Override
            public void halfClose() {}

            @Override
            public void sendMessage(String message) {}
        }
        Asked asked = new Asked();
        try (ResponseStream<String> call = new ResponseStream<>(asked, "request")) {
            for (int taken = 0; taken < 3; taken++) {
                assertEquals(taken + 1, asked.messages);
                asked.listener.onMessage("message");
                assertTrue(call.arrives(0));
                assertEquals(taken + 1, asked.messages, "here, but not taken");
                assertEquals("message", call.next(0));
            }
        }
    }

    /** The server can send a hundred times what fits between the two; it gets rid of what is taken, and little more. */
    @Test
    void aScanThatNobodyReadsOnIsHeldUpAtTheServer() throws Exception {
        int parts = 400;
        AtomicInteger sent = new AtomicInteger();
        CountDownLatch cancelled = new CountDownLatch(1);
        try (Served served = Served.by(new HomeKvServiceImplBase() {
            @Override
            public void scan(ScanRequest request, StreamObserver<ScanResponse> observer) {
                var call = (ServerCallStreamObserver<ScanResponse>) observer;
                call.setOnCancelHandler(cancelled::countDown);
                call.setOnReadyHandler(() -> {
                    while (call.isReady() && sent.get() < parts) {
                        String key = "%03d".formatted(sent.getAndIncrement());
                        call.onNext(ScanResponse.newBuilder()
                                .setRevision(7)
                                .setPageToken(ByteString.copyFromUtf8(key))
                                .addEntries(entry(key, "v".repeat(256 << 10), 5))
                                .build());
                    }
                });
            }
        })) {
            try (ReadStream<homekv.storage.Entry> entries = served.client().scan(ScanOptions.of(Range.all()))) {
                assertEquals("000", entries.next().key().utf8());
                // It answers behind what it has sent before on the same connection.
                failure(HomeKvException.Reason.FAILED, () -> served.client().metrics());
                int taken = 1;
                assertTrue(sent.get() < parts / 10, () -> sent.get() + " parts sent, one taken");
                while (taken < 100) {
                    entries.next();
                    taken++;
                }
                assertTrue(sent.get() >= taken, "goes on when they are taken");
            }
            assertTrue(cancelled.await(Harness.HANG_SECONDS, java.util.concurrent.TimeUnit.SECONDS), "let go of");
        }
    }

    // ---- Nonsense ----

    @Test
    void aScanThatMakesNoSenseIsAFailureOfTheServer() throws Exception {
        ScanOptions upToC = ScanOptions.of(new Range(Bytes.utf8("b"), Bytes.utf8("d")));
        ScanResponse noKey = ScanResponse.newBuilder()
                .setRevision(7)
                .addEntries(entry("", "v", 5))
                .build();
        ScanResponse noValue = ScanResponse.newBuilder()
                .setRevision(7)
                .addEntries(entry("b", "v", 5).toBuilder().clearValue())
                .build();
        ScanResponse noVersion = ScanResponse.newBuilder()
                .setRevision(7)
                .addEntries(entry("b", "v", 5).toBuilder().setVersion(0))
                .build();
        ScanResponse neverCreated = ScanResponse.newBuilder()
                .setRevision(7)
                .addEntries(entry("b", "v", 5).toBuilder().setCreateRevision(6))
                .build();
        ScanResponse otherRevision = part("", "c").toBuilder().setRevision(8).build();
        record Case(ScanOptions options, List<ScanResponse> responses) {}
        for (Case wrong : List.of(
                new Case(upToC, List.of(part("", "a"))),
                new Case(upToC, List.of(part("", "d"))),
                new Case(upToC, List.of(part("", "c", "b"))),
                new Case(upToC, List.of(part("x", "b"), part("", "b"))),
                new Case(upToC.backwards(), List.of(part("", "b", "c"))),
                new Case(upToC.atMost(1), List.of(part("", "b", "c"))),
                new Case(upToC.at(6), List.of(part("", "b"))),
                new Case(upToC, List.of(part("x", "b"), otherRevision)),
                new Case(upToC, List.of(noKey)),
                new Case(upToC, List.of(noValue)),
                new Case(upToC, List.of(noVersion)),
                new Case(upToC, List.of(neverCreated)))) {
            try (Served served =
                            Served.by(new Scans(answer(null, wrong.responses().toArray(ScanResponse[]::new))));
                    ReadStream<homekv.storage.Entry> entries = served.client().scan(wrong.options())) {
                failure(HomeKvException.Reason.FAILED, () -> keys(entries));
                assertFalse(entries.hasNext(), "ended");
            }
        }
    }

    @Test
    void aTransactionsAnswerThatDoesNotFitItsStepsIsAFailureOfTheServer() throws Exception {
        var put = homekv.rpc.proto.OpResult.newBuilder().setPut(homekv.rpc.proto.OpResult.Put.getDefaultInstance());
        for (TxnResponse wrong : List.of(
                TxnResponse.newBuilder().setSucceeded(true).build(),
                TxnResponse.newBuilder().addResults(put).build(),
                TxnResponse.newBuilder().setSucceeded(true).addResults(put).build(),
                TxnResponse.newBuilder()
                        .setSucceeded(true)
                        .addResults(homekv.rpc.proto.OpResult.getDefaultInstance())
                        .build())) {
            try (Served served = Served.by(new HomeKvServiceImplBase() {
                @Override
                public void txn(TxnRequest request, StreamObserver<TxnResponse> observer) {
                    answer(null, wrong).give(observer);
                }
            })) {
                failure(HomeKvException.Reason.FAILED, () -> served.client().transact(Txn.of(new Op.Get(K))));
            }
        }
    }

    @Test
    void aLeaseThatWasNotAskedForIsAFailureOfTheServer() throws Exception {
        try (Served served = Served.by(new HomeKvServiceImplBase() {
            @Override
            public void leaseTimeLeft(LeaseRequest request, StreamObserver<LeaseStatus> observer) {
                answer(null, LeaseStatus.newBuilder().setLease(8).build()).give(observer);
            }
        })) {
            failure(HomeKvException.Reason.FAILED, () -> served.client().lease(7));
        }
    }

    // ---- Refusals with revisions ----

    private static io.grpc.StatusRuntimeException outOfRange(long first, long last) {
        Metadata trailers = new Metadata();
        trailers.put(
                Metadata.Key.of(
                        "homekv-out-of-range-bin", ProtoUtils.metadataMarshaller(OutOfRange.getDefaultInstance())),
                OutOfRange.newBuilder()
                        .setFirstRevision(first)
                        .setLastRevision(last)
                        .build());
        return Status.OUT_OF_RANGE.withDescription("revision 3 is gone").asRuntimeException(trailers);
    }

    @Test
    void aRevisionThatCannotBeReadComesWithThoseThatCan() throws Exception {
        try (Served served = Served.by(new HomeKvServiceImplBase() {
            @Override
            public void get(GetRequest request, StreamObserver<GetResponse> observer) {
                observer.onError(outOfRange(5, 9));
            }

            @Override
            public void scan(ScanRequest request, StreamObserver<ScanResponse> observer) {
                observer.onError(
                        Status.OUT_OF_RANGE.withDescription("without words").asRuntimeException());
            }
        })) {
            HomeKvException e = failure(
                    HomeKvException.Reason.OUT_OF_RANGE, () -> served.client().get(List.of(K), 3));
            assertEquals("revision 3 is gone", e.getMessage());
            assertEquals(OptionalLong.of(5), e.firstRevision());
            assertEquals(OptionalLong.of(9), e.lastRevision());
            HomeKvException silent = failure(
                    HomeKvException.Reason.OUT_OF_RANGE,
                    () -> served.client()
                            .scan(ScanOptions.of(Range.all()).at(3))
                            .hasNext());
            assertEquals(OptionalLong.empty(), silent.firstRevision());
        }
    }

    @Test
    void aServerThatIgnoresTheRevisionIsAFailureRatherThanAnAnswer() throws Exception {
        try (Served served = Served.by(new HomeKvServiceImplBase() {
            @Override
            public void get(GetRequest request, StreamObserver<GetResponse> observer) {
                answer(
                                null,
                                GetResponse.newBuilder()
                                        .addRecords(homekv.rpc.proto.Record.newBuilder()
                                                .setKey(request.getKeys(0)))
                                        .build())
                        .give(observer);
            }
        })) {
            failure(HomeKvException.Reason.FAILED, () -> served.client().get(List.of(K), 3));
        }
    }

    // ---- Watching ----

    private static Event put(String key, String value, long revision) {
        return Event.newBuilder()
                .setKey(ByteString.copyFromUtf8(key))
                .setRevision(revision)
                .setEntry(entry(key, value, revision))
                .build();
    }

    private static Event deletion(String key, long revision) {
        return Event.newBuilder()
                .setKey(ByteString.copyFromUtf8(key))
                .setRevision(revision)
                .build();
    }

    private static WatchResponse watched(long revision, Event... events) {
        return WatchResponse.newBuilder()
                .setRevision(revision)
                .addAllEvents(List.of(events))
                .build();
    }

    private static WatchResponse partial(long revision, Event... events) {
        return watched(revision, events).toBuilder().setPartial(true).build();
    }

    /** Answers watches with what it is given, one after the other, and remembers what was asked. */
    private static final class Watches extends HomeKvServiceImplBase {
        final Queue<WatchRequest> asked = new ConcurrentLinkedQueue<>();
        private final Queue<Answer<WatchResponse>> answers = new ConcurrentLinkedQueue<>();

        @SafeVarargs
        Watches(Answer<WatchResponse>... answers) {
            for (Answer<WatchResponse> answer : answers) {
                this.answers.add(answer);
            }
        }

        @Override
        public void watch(WatchRequest request, StreamObserver<WatchResponse> observer) {
            asked.add(request);
            answers.remove().give(observer);
        }

        List<Long> from() {
            return asked.stream()
                    .map(request -> request.hasFromRevision() ? request.getFromRevision() : -1)
                    .toList();
        }
    }

    private static List<String> changes(List<homekv.storage.Event> events) {
        return events.stream()
                .map(event -> event.key().utf8() + "@" + event.revision())
                .toList();
    }

    @Test
    void aCommitThatComesInPartsIsReturnedWhole() throws Exception {
        Watches watches = new Watches(answer(
                Status.INTERNAL,
                watched(4),
                partial(5, put("a", "1", 5), put("b", "1", 6)),
                partial(5, put("c", "1", 6)),
                watched(6, deletion("d", 6)),
                watched(9),
                watched(10, put("a", "2", 10))));
        try (Served served = Served.by(watches);
                WatchStream watch = served.client().watch(WatchOptions.of(Range.all()))) {
            assertEquals(4, watch.revision());
            assertEquals(List.of("a@5", "b@6", "c@6", "d@6"), changes(watch.next()));
            assertEquals(6, watch.revision());
            assertEquals(List.of("a@10"), changes(watch.next()));
            assertEquals(10, watch.revision());
            failure(HomeKvException.Reason.FAILED, watch::next);
        }
    }

    @Test
    void aWatchThatIsBrokenOffGoesOnBehindTheLastWholeCommit() throws Exception {
        Watches watches = new Watches(
                answer(GONE),
                answer(GONE, watched(4), watched(5, put("a", "1", 5)), partial(5, put("b", "1", 6))),
                answer(GONE),
                answer(GONE, watched(5)),
                answer(GONE, watched(5), watched(6, put("b", "1", 6), put("c", "1", 6)), watched(8)),
                answer(Status.INTERNAL, watched(8), watched(9, put("d", "1", 9))));
        try (Served served = Served.by(watches);
                WatchStream watch = served.client().watch(WatchOptions.of(Range.all()))) {
            assertEquals(List.of("a@5"), changes(watch.next()));
            assertEquals(List.of("b@6", "c@6"), changes(watch.next()));
            assertEquals(List.of("d@9"), changes(watch.next()));
            assertEquals(List.of(-1L, -1L, 6L, 6L, 6L, 9L), watches.from());
        }
    }

    @Test
    void aWatchAsksForWhatItsOptionsSay() throws Exception {
        Watches watches = new Watches(answer(Status.INTERNAL, watched(6)), answer(Status.INTERNAL, watched(0)));
        try (Served served = Served.by(watches)) {
            WatchOptions options = WatchOptions.of(Range.prefix(K))
                    .from(7)
                    .withPrevious()
                    .withoutPuts()
                    .withoutDeletes();
            served.client().watch(options).close();
            served.client().watch(WatchOptions.of(Range.all()).from(1)).close();
            WatchRequest asked = watches.asked.remove();
            assertEquals(7, asked.getFromRevision());
            assertTrue(asked.getPrevious() && asked.getNoPuts() && asked.getNoDeletes(), asked::toString);
            assertEquals("l", asked.getRange().getTo().toStringUtf8());
            assertEquals(1, watches.asked.remove().getFromRevision());
        }
    }

    @Test
    void aWatchThatFellBehindEndsWithTheRevisionsThatAreLeft() throws Exception {
        Watches watches = new Watches(
                answer(GONE, watched(2), watched(3, put("a", "1", 3))),
                observer -> observer.onError(outOfRange(50, 90)));
        try (Served served = Served.by(watches);
                WatchStream watch = served.client().watch(WatchOptions.of(Range.all()))) {
            assertEquals(List.of("a@3"), changes(watch.next()));
            HomeKvException e = failure(HomeKvException.Reason.OUT_OF_RANGE, watch::next);
            assertEquals(OptionalLong.of(50), e.firstRevision());
            assertEquals(OptionalLong.of(90), e.lastRevision());
            assertThrows(IllegalStateException.class, watch::next);
        }
    }

    @Test
    void aWatchThatMakesNoSenseIsAFailureOfTheServer() throws Exception {
        for (List<WatchResponse> wrong : List.of(
                List.of(watched(4, put("a", "1", 4))),
                List.of(watched(4), watched(5, put("a", "1", 4))),
                List.of(watched(4), watched(6, put("a", "1", 6), put("a", "1", 5))),
                List.of(watched(4), watched(5, put("a", "1", 6))),
                List.of(watched(4), watched(3)),
                List.of(watched(4), watched(5, deletion("", 5))),
                List.of(
                        watched(4),
                        watched(5, put("a", "1", 5).toBuilder().setRevision(6).build())),
                List.of(watched(4)),
                List.<WatchResponse>of())) {
            try (Served served = Served.by(new Watches(answer(null, wrong.toArray(WatchResponse[]::new))))) {
                failure(HomeKvException.Reason.FAILED, () -> {
                    try (WatchStream watch = served.client().watch(WatchOptions.of(Range.all()))) {
                        watch.next();
                    }
                });
            }
        }
    }

    @Test
    void whoWaitsForAWatchOnlySoLongGetsNothingAndCanGoOn() throws Exception {
        CountDownLatch waited = new CountDownLatch(1);
        try (Harness.Crew crew = new Harness.Crew();
                Served served = Served.by(new HomeKvServiceImplBase() {
                    @Override
                    public void watch(WatchRequest request, StreamObserver<WatchResponse> observer) {
                        observer.onNext(watched(4));
                        crew.start(() -> {
                            waited.await();
                            observer.onNext(watched(5, put("a", "1", 5)));
                        });
                    }
                });
                WatchStream watch = served.client().watch(WatchOptions.of(Range.all()))) {
            assertEquals(List.of(), watch.next(Duration.ZERO));
            assertEquals(List.of(), watch.next(Duration.ofMillis(1)));
            waited.countDown();
            assertEquals(List.of("a@5"), changes(watch.next()));
        }
    }

    @Test
    void closingAWatchEndsTheWaitOfAnotherThreadAndTheServersCall() throws Exception {
        CountDownLatch cancelled = new CountDownLatch(1);
        try (Served served = Served.by(new HomeKvServiceImplBase() {
            @Override
            public void watch(WatchRequest request, StreamObserver<WatchResponse> observer) {
                ((ServerCallStreamObserver<WatchResponse>) observer).setOnCancelHandler(cancelled::countDown);
                observer.onNext(watched(4));
            }
        })) {
            WatchStream watch = served.client().watch(WatchOptions.of(Range.all()));
            try (Harness.Crew crew = new Harness.Crew()) {
                Thread waits = crew.start(() -> assertThrows(IllegalStateException.class, watch::next));
                Harness.await("it waits", () -> waits.getState() != Thread.State.RUNNABLE);
                watch.close();
            }
            assertTrue(cancelled.await(Harness.HANG_SECONDS, java.util.concurrent.TimeUnit.SECONDS));
            watch.close();
        }
    }

    @Test
    void anInterruptedThreadStopsWaitingAndStaysInterrupted() throws Exception {
        try (Served served = Served.by(new Watches(observer -> observer.onNext(watched(4))));
                WatchStream watch = served.client().watch(WatchOptions.of(Range.all()))) {
            try (Harness.Crew crew = new Harness.Crew()) {
                Thread waits = crew.start(() -> {
                    failure(HomeKvException.Reason.FAILED, watch::next);
                    assertTrue(Thread.currentThread().isInterrupted());
                });
                Harness.await("it waits", () -> waits.getState() != Thread.State.RUNNABLE);
                waits.interrupt();
            }
        }
    }
}
