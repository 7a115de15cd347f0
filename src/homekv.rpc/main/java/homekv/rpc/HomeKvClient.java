package homekv.rpc;

import com.google.protobuf.ByteString;
import com.google.protobuf.Descriptors.FieldDescriptor;
import com.google.protobuf.Empty;
import com.google.protobuf.UnsafeByteOperations;
import homekv.rpc.proto.DelRequest;
import homekv.rpc.proto.DelResponse;
import homekv.rpc.proto.GetRequest;
import homekv.rpc.proto.GetResponse;
import homekv.rpc.proto.HomeKvServiceGrpc;
import homekv.rpc.proto.HomeKvServiceGrpc.HomeKvServiceBlockingStub;
import homekv.rpc.proto.Metrics;
import homekv.rpc.proto.Record;
import homekv.rpc.proto.SetRequest;
import homekv.rpc.proto.SetResponse;
import homekv.storage.Bytes;
import homekv.storage.Write;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.netty.NettyChannelBuilder;
import io.netty.channel.MultiThreadIoEventLoopGroup;
import io.netty.channel.nio.NioIoHandler;
import io.netty.channel.socket.nio.NioSocketChannel;
import java.net.URI;
import java.net.URISyntaxException;
import java.net.UnknownHostException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalLong;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;

/**
 * A blocking client of one HomeKV server, over one connection, in plain text.
 *
 * <p>Any number of threads, virtual ones included, may share one. The connection is made by the first call, and made
 * again when it is lost. A call blocks until its answer is here or the timeout is over. Nothing is retried: whether a
 * write may be sent twice is the caller's to know.
 *
 * <p>Answers of servers that know no revisions come without one.
 */
public final class HomeKvClient implements AutoCloseable {
    /**
     * What a get found.
     *
     * @param values a value for every key that was asked for, in the order asked, null where the key is absent
     * @param revision the revision that was read
     */
    public record Found(List<Bytes> values, OptionalLong revision) {}

    /**
     * What a write did.
     *
     * @param revision the revision it took or, where it changed nothing, the store's
     * @param deleted how many keys were there and are deleted; for a del only
     */
    public record Written(OptionalLong revision, OptionalLong deleted) {}

    private static final long CLOSE_PATIENCE_MILLIS = 1_000;

    private final String target;
    private final Duration timeout;
    private final MultiThreadIoEventLoopGroup eventLoop;
    private final ManagedChannel channel;
    private final HomeKvServiceBlockingStub stub;

    /** A client of the server at a host and port, which gives every call {@code timeout}. Does not connect yet. */
    public HomeKvClient(String host, int port, Duration timeout) {
        this.target = requireHost(Addresses.hostAndPort(host, port));
        this.timeout = timeout;
        this.eventLoop = new MultiThreadIoEventLoopGroup(
                1, Thread.ofPlatform().daemon().name("homekv-client").factory(), NioIoHandler.newFactory());
        this.channel = NettyChannelBuilder.forAddress(host, port)
                .usePlaintext()
                .eventLoopGroup(eventLoop)
                .channelType(NioSocketChannel.class)
                .proxyDetector(address -> null)
                .directExecutor()
                .disableRetry()
                .maxInboundMessageSize(Integer.MAX_VALUE)
                .build();
        this.stub = HomeKvServiceGrpc.newBlockingStub(channel);
    }

    /** Reads keys, all from one snapshot. */
    public Found get(List<Bytes> keys) {
        GetRequest.Builder request = GetRequest.newBuilder();
        keys.forEach(key -> request.addKeys(unsafeWrap(key)));
        GetResponse response = call(false, timed -> timed.get(request.build()));
        if (response.getRecordsCount() != keys.size()) {
            throw wrongAnswer("answered " + keys.size() + " keys with " + response.getRecordsCount() + " records");
        }
        List<Bytes> values = new ArrayList<>(response.getRecordsCount());
        for (Record record : response.getRecordsList()) {
            values.add(record.hasValue() ? Bytes.unsafeWrap(record.getValue().toByteArray()) : null);
        }
        return new Found(values, optional(response.hasRevision(), response.getRevision()));
    }

    /** Puts and deletes, all or nothing. */
    public Written set(List<Write> writes) {
        SetRequest.Builder request = SetRequest.newBuilder();
        for (Write write : writes) {
            Record.Builder record = Record.newBuilder().setKey(unsafeWrap(write.key()));
            switch (write) {
                case Write.Put put -> record.setValue(unsafeWrap(put.value()));
                case Write.Delete delete -> {}
            }
            request.addRecords(record);
        }
        SetResponse response = call(true, timed -> timed.set(request.build()));
        if (!response.getSucc()) {
            throw wrongAnswer("did not carry out the set");
        }
        return new Written(optional(response.hasRevision(), response.getRevision()), OptionalLong.empty());
    }

    /** Deletes keys, all or nothing. */
    public Written del(List<Bytes> keys) {
        DelRequest.Builder request = DelRequest.newBuilder();
        keys.forEach(key -> request.addKeys(unsafeWrap(key)));
        DelResponse response = call(true, timed -> timed.del(request.build()));
        if (!response.getSucc()) {
            throw wrongAnswer("did not carry out the del");
        }
        return new Written(
                optional(response.hasRevision(), response.getRevision()),
                optional(response.hasDeleted(), response.getDeleted()));
    }

    /** What the server reports of itself: names and numbers, in the order of the protocol; unsigned. */
    public Map<String, Long> metrics() {
        Metrics metrics =
                call(false, timed -> timed.metrics(Empty.getDefaultInstance())).getMetrics();
        Map<String, Long> values = new LinkedHashMap<>();
        for (FieldDescriptor field : Metrics.getDescriptor().getFields()) {
            if (!field.hasPresence() || metrics.hasField(field)) {
                Number value = (Number) metrics.getField(field);
                boolean unsignedInt = field.getType() == FieldDescriptor.Type.UINT32;
                values.put(field.getName(), unsignedInt ? Integer.toUnsignedLong(value.intValue()) : value.longValue());
            }
        }
        return values;
    }

    /** Refuses what the channel would take for another address than the one written, or throw at. */
    private static String requireHost(String target) {
        try {
            URI address = new URI("//" + target);
            if (target.equals(address.getHost() + ":" + address.getPort())) {
                return target;
            }
        } catch (URISyntaxException e) {
            // Said below.
        }
        throw new HomeKvException(
                HomeKvException.Reason.UNREACHABLE, "no host can have the name in " + target + "; check it", null);
    }

    private <T> T call(boolean write, Function<HomeKvServiceBlockingStub, T> method) {
        try {
            return method.apply(stub.withDeadlineAfter(timeout));
        } catch (StatusRuntimeException e) {
            throw failure(e, write);
        }
    }

    private HomeKvException wrongAnswer(String what) {
        return new HomeKvException(HomeKvException.Reason.FAILED, target + " " + what, null);
    }

    private HomeKvException failure(StatusRuntimeException e, boolean write) {
        Status status = e.getStatus();
        String said = status.getDescription();
        String description = said == null || said.isBlank()
                ? "the server answered " + status.getCode() + " without a reason"
                : String.join(" ", said.lines().toList());
        String maybe = write ? "; the write may or may not have been carried out" : "";
        return switch (status.getCode()) {
            case INVALID_ARGUMENT -> new HomeKvException(HomeKvException.Reason.INVALID, description, e);
            case RESOURCE_EXHAUSTED -> new HomeKvException(HomeKvException.Reason.NO_ROOM, description, e);
            case DEADLINE_EXCEEDED ->
                new HomeKvException(
                        HomeKvException.Reason.UNREACHABLE,
                        "no answer from " + target + " within " + timeout.toMillis() + " ms" + maybe,
                        e);
            case UNAVAILABLE ->
                new HomeKvException(HomeKvException.Reason.UNREACHABLE, unreachable(status, description + maybe), e);
            default ->
                new HomeKvException(
                        HomeKvException.Reason.FAILED,
                        target + " answered " + status.getCode() + ": " + ofForeigner(status.getCode(), description),
                        e);
        };
    }

    /** Adds a question where this looks like the answer of something else, or of a server without the method. */
    private static String ofForeigner(Status.Code code, String description) {
        return code == Status.Code.UNIMPLEMENTED || description.startsWith("http2 exception")
                ? description + "; is it a HomeKV server?"
                : description;
    }

    private String unreachable(Status status, String description) {
        for (Throwable cause = status.getCause(); cause != null; cause = cause.getCause()) {
            if (cause instanceof UnknownHostException) {
                return "cannot find the host of " + target + "; check its name";
            }
            if (cause instanceof java.net.ConnectException) {
                return "nothing answers at " + target + "; is homekv running there?";
            }
        }
        return "cannot reach " + target + ": " + description;
    }

    private static OptionalLong optional(boolean present, long value) {
        return present ? OptionalLong.of(value) : OptionalLong.empty();
    }

    private static ByteString unsafeWrap(Bytes bytes) {
        return UnsafeByteOperations.unsafeWrap(bytes.unsafeArray());
    }

    /** Ends the connection and the calls under way. */
    @Override
    public void close() {
        channel.shutdownNow();
        try {
            // The channel still schedules on the event loop until it has ended, which takes a moment.
            channel.awaitTermination(CLOSE_PATIENCE_MILLIS, TimeUnit.MILLISECONDS);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        eventLoop.shutdownGracefully(0, 0, TimeUnit.SECONDS);
    }
}
