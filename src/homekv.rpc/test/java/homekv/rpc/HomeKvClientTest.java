package homekv.rpc;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.Empty;
import homekv.rpc.proto.DelRequest;
import homekv.rpc.proto.DelResponse;
import homekv.rpc.proto.GetRequest;
import homekv.rpc.proto.GetResponse;
import homekv.rpc.proto.HomeKvServiceGrpc.HomeKvServiceImplBase;
import homekv.rpc.proto.Metrics;
import homekv.rpc.proto.MetricsResponse;
import homekv.rpc.proto.SetRequest;
import homekv.rpc.proto.SetResponse;
import homekv.storage.Bytes;
import homekv.storage.Limit;
import homekv.storage.Write;
import io.grpc.Server;
import io.grpc.netty.NettyServerBuilder;
import io.grpc.stub.StreamObserver;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.OptionalLong;
import java.util.Set;
import java.util.TreeMap;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;

/** The client: against this server, against the original's answers, and against nobody. */
class HomeKvClientTest {
    private static final Bytes K = Bytes.utf8("k");
    private static final Duration LONG = Duration.ofSeconds(Harness.HANG_SECONDS);

    private static final String LOOPBACK = InetAddress.getLoopbackAddress().getHostAddress();

    private static Write put(String key, String value) {
        return new Write.Put(Bytes.utf8(key), Bytes.utf8(value));
    }

    private static HomeKvException failure(HomeKvException.Reason reason, Executable call) {
        HomeKvException e = assertThrows(HomeKvException.class, call);
        assertEquals(reason, e.reason(), e.getMessage());
        assertFalse(e.getMessage().contains("\n") || e.getMessage().isBlank(), e.getMessage());
        return e;
    }

    // ---- This server ----

    @Test
    void whatIsSetIsFoundAndWhatIsDeletedIsNot() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvClient client = kv.client();
            assertEquals(
                    new HomeKvClient.Written(OptionalLong.of(1), OptionalLong.empty()),
                    client.set(List.of(put("a", "1"), put("empty", ""), new Write.Delete(K))));
            Bytes binary = Bytes.unsafeWrap(new byte[] {0, -1, -128, 10});
            client.set(List.of(new Write.Put(binary, binary)));
            assertEquals(
                    new HomeKvClient.Found(
                            Arrays.asList(Bytes.utf8("1"), null, Bytes.utf8(""), binary, Bytes.utf8("1")),
                            OptionalLong.of(2)),
                    client.get(List.of(Bytes.utf8("a"), K, Bytes.utf8("empty"), binary, Bytes.utf8("a"))));
            assertEquals(new HomeKvClient.Found(List.of(), OptionalLong.of(2)), client.get(List.of()));
            assertEquals(
                    new HomeKvClient.Written(OptionalLong.of(3), OptionalLong.of(2)),
                    client.del(List.of(Bytes.utf8("a"), binary, K)));
            assertEquals(new HomeKvClient.Written(OptionalLong.of(3), OptionalLong.of(0)), client.del(List.of(K)));
        }
    }

    @Test
    void metricsComeInTheOrderOfTheProtocolAndUnsigned() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvClient client = kv.client();
            client.set(List.of(put("a", "1"), put("b", "23")));
            Map<String, Long> metrics = client.metrics();
            List<String> names = Metrics.getDescriptor().getFields().stream()
                    .map(field -> field.getName())
                    .toList();
            assertEquals(names, List.copyOf(metrics.keySet()));
            assertEquals(List.of("keys_count", "values_size_in_bytes", "cmds_count"), names.subList(0, 3));
            assertEquals(2, metrics.get("keys_count"));
            assertEquals(3, metrics.get("values_size_in_bytes"));
            assertEquals(1, metrics.get("cmds_count"));
        }
    }

    @Test
    void aRefusalComesAsAReasonWithTheServersWords() throws Exception {
        try (Harness kv = new Harness(Harness.ROOMY.with(Limit.VALUE_BYTES, 3).with(Limit.REQUEST_BYTES, 100))) {
            HomeKvClient client = kv.client();
            HomeKvException invalid =
                    failure(HomeKvException.Reason.INVALID, () -> client.set(List.of(put("a", "1234"))));
            assertTrue(invalid.getMessage().contains("--max-value-bytes"), invalid.getMessage());
            HomeKvException noRoom =
                    failure(HomeKvException.Reason.NO_ROOM, () -> client.get(List.of(Bytes.utf8("k".repeat(200)))));
            assertTrue(noRoom.getMessage().contains("--max-request-bytes"), noRoom.getMessage());
        }
    }

    @Test
    void anyNumberOfVirtualThreadsShareOne() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvClient client = kv.client();
            int threads = 100;
            try (Harness.Crew crew = new Harness.Crew()) {
                for (int i = 0; i < threads; i++) {
                    String key = "k" + i;
                    crew.start(() -> {
                        for (int j = 0; j < 10; j++) {
                            client.set(List.of(put(key, Integer.toString(j))));
                            assertEquals(
                                    List.of(Bytes.utf8(Integer.toString(j))),
                                    client.get(List.of(Bytes.utf8(key))).values());
                        }
                    });
                }
            }
            assertEquals(threads * 10, client.metrics().get("revision"));
        }
    }

    @Test
    void aLostConnectionIsMadeAgain() throws Exception {
        try (Harness kv = new Harness()) {
            HomeKvClient client = kv.client();
            client.set(List.of(put("a", "1")));
            InetSocketAddress address = kv.server.address();
            kv.server.close();
            kv.server.awaitStop();
            failure(HomeKvException.Reason.UNREACHABLE, () -> client.get(List.of(K)));
            try (HomeKvServer again =
                    new HomeKvServer(address, kv.store, new homekv.storage.MemoryCommandLog(kv.store))) {
                Harness.await("the client finds the server again", () -> {
                    try {
                        return client.get(List.of(Bytes.utf8("a"))).values().get(0) != null;
                    } catch (HomeKvException e) {
                        return false;
                    }
                });
            }
        }
    }

    // ---- The original ----

    /** Answers as the original does: what is new in the protocol, it does not know. */
    private static final class Original extends HomeKvServiceImplBase {
        private final Map<String, com.google.protobuf.ByteString> map = new TreeMap<>();

        private static <T> void answer(StreamObserver<T> observer, T response) {
            observer.onNext(response);
            observer.onCompleted();
        }

        @Override
        public synchronized void get(GetRequest request, StreamObserver<GetResponse> observer) {
            GetResponse.Builder response = GetResponse.newBuilder();
            request.getKeysList().forEach(key -> {
                var record = homekv.rpc.proto.Record.newBuilder().setKey(key);
                if (map.containsKey(key.toStringUtf8())) {
                    record.setValue(map.get(key.toStringUtf8()));
                }
                response.addRecords(record);
            });
            answer(observer, response.build());
        }

        @Override
        public synchronized void set(SetRequest request, StreamObserver<SetResponse> observer) {
            request.getRecordsList().forEach(record -> map.put(record.getKey().toStringUtf8(), record.getValue()));
            answer(observer, SetResponse.newBuilder().setSucc(true).build());
        }

        @Override
        public synchronized void del(DelRequest request, StreamObserver<DelResponse> observer) {
            request.getKeysList().forEach(key -> map.remove(key.toStringUtf8()));
            answer(observer, DelResponse.newBuilder().setSucc(true).build());
        }

        @Override
        public synchronized void metrics(Empty request, StreamObserver<MetricsResponse> observer) {
            Metrics metrics = Metrics.newBuilder()
                    .setKeysCount(-1) // 4294967295, unsigned.
                    .setValuesSizeInBytes(0)
                    .setCmdsCount(-1L)
                    .build();
            answer(observer, MetricsResponse.newBuilder().setMetrics(metrics).build());
        }
    }

    @Test
    void theAnswersOfTheOriginalComeWithoutRevisionsAndWithItsThreeMetrics() throws Exception {
        Server server = NettyServerBuilder.forAddress(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0))
                .addService(new Original())
                .build()
                .start();
        try (HomeKvClient client = new HomeKvClient(LOOPBACK, server.getPort(), LONG)) {
            HomeKvClient.Written nothingKnown = new HomeKvClient.Written(OptionalLong.empty(), OptionalLong.empty());
            assertEquals(nothingKnown, client.set(List.of(put("a", "1"), put("e", ""))));
            assertEquals(
                    new HomeKvClient.Found(Arrays.asList(null, Bytes.utf8("1"), Bytes.utf8("")), OptionalLong.empty()),
                    client.get(List.of(K, Bytes.utf8("a"), Bytes.utf8("e"))));
            assertEquals(nothingKnown, client.del(List.of(Bytes.utf8("a"))));
            Map<String, Long> metrics = client.metrics();
            assertEquals(List.of("keys_count", "values_size_in_bytes", "cmds_count"), List.copyOf(metrics.keySet()));
            assertEquals(List.of(4_294_967_295L, 0L, -1L), List.copyOf(metrics.values()));
        } finally {
            server.shutdownNow();
            server.awaitTermination();
        }
    }

    @Test
    void aServerThatDoesNotKnowTheMethodIsAFailure() throws Exception {
        Server server = NettyServerBuilder.forAddress(new InetSocketAddress(InetAddress.getLoopbackAddress(), 0))
                .build()
                .start();
        try (HomeKvClient client = new HomeKvClient(LOOPBACK, server.getPort(), LONG)) {
            HomeKvException e = failure(HomeKvException.Reason.FAILED, () -> client.get(List.of(K)));
            assertTrue(e.getMessage().contains("UNIMPLEMENTED"), e.getMessage());
        } finally {
            server.shutdownNow();
            server.awaitTermination();
        }
    }

    // ---- Nobody ----

    @Test
    void whereNobodyListensItSaysSo() throws Exception {
        int port;
        try (ServerSocket taken = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
            port = taken.getLocalPort();
        }
        try (HomeKvClient client = new HomeKvClient(LOOPBACK, port, LONG)) {
            HomeKvException e = failure(HomeKvException.Reason.UNREACHABLE, () -> client.get(List.of(K)));
            assertEquals("nothing answers at " + LOOPBACK + ":" + port + "; is homekv running there?", e.getMessage());
        }
    }

    @Test
    void aHostThatIsNotThereIsNotFound() {
        try (HomeKvClient client = new HomeKvClient("no-such-host.invalid", 20_001, LONG)) {
            HomeKvException e = failure(HomeKvException.Reason.UNREACHABLE, () -> client.get(List.of(K)));
            assertEquals("cannot find the host of no-such-host.invalid:20001; check its name", e.getMessage());
        }
    }

    /** It is the only test whose call has to last until its timeout, which is why that is short. */
    @Test
    void whoeverListensAndNeverAnswersIsGivenUpAfterTheTimeout() throws Exception {
        try (ServerSocket silent = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
                HomeKvClient client = new HomeKvClient(LOOPBACK, silent.getLocalPort(), Duration.ofMillis(200))) {
            String words = "no answer from " + LOOPBACK + ":" + silent.getLocalPort() + " within 200 ms";
            assertEquals(
                    words,
                    failure(HomeKvException.Reason.UNREACHABLE, () -> client.get(List.of(K)))
                            .getMessage());
            assertEquals(
                    words + "; the write may or may not have been carried out",
                    failure(HomeKvException.Reason.UNREACHABLE, () -> client.del(List.of(K)))
                            .getMessage());
        }
    }

    @Test
    void whoeverIsNoGrpcServerIsAFailure() throws Exception {
        try (ServerSocket other = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
                HomeKvClient client = new HomeKvClient(LOOPBACK, other.getLocalPort(), LONG);
                Harness.Crew crew = new Harness.Crew()) {
            crew.start(() -> {
                try (var socket = other.accept()) {
                    socket.getInputStream().read();
                    socket.getOutputStream().write("HTTP/1.1 400 Bad Request\r\n\r\n".getBytes());
                    socket.getOutputStream().flush();
                    socket.getInputStream().readAllBytes();
                } catch (IOException e) {
                    // The client has gone, as it should.
                }
            });
            failure(HomeKvException.Reason.FAILED, () -> client.get(List.of(K)));
        }
    }

    // ---- Closing ----

    private static Set<Thread> eventLoops() {
        return Thread.getAllStackTraces().keySet().stream()
                .filter(thread -> thread.getName().startsWith("homekv-client"))
                .collect(Collectors.toSet());
    }

    @Test
    void closingEndsItsThreadAndTheCallsUnderWay() throws Exception {
        Set<Thread> before = eventLoops();
        try (ServerSocket silent = new ServerSocket(0, 50, InetAddress.getLoopbackAddress());
                Harness.Crew crew = new Harness.Crew()) {
            HomeKvClient client = new HomeKvClient(LOOPBACK, silent.getLocalPort(), LONG);
            crew.start(() -> failure(HomeKvException.Reason.UNREACHABLE, () -> client.get(List.of(K))));
            silent.accept().close();
            silent.accept(); // The call is still under way, and tries again.
            List<Thread> own = new ArrayList<>(eventLoops());
            own.removeAll(before);
            assertEquals(1, own.size());
            client.close();
            assertTrue(own.get(0).join(LONG), "the event loop lives on");
            client.close();
            failure(HomeKvException.Reason.UNREACHABLE, () -> client.get(List.of(K)));
        }
    }
}
